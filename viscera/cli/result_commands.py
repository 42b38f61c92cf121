"""Of results: predict, evaluate, merge; and export."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import Address, Classes, Jobs, Launcher, Layout, Part, class_file
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal
from viscera.core.errors import BadInputError
from viscera.core.shard import Shard

app = new_app("")


@command(app, "predict", "train.device", writes=("output", "output_option"))
def predict(
    call: Call,
    run: Annotated[Path, "A trained model, as `train` or `study` made it; or a folder of several: their mean."],
    source: shared.Input = None,
    output: shared.Output = None,
    source_option: Annotated[Path | None, typer.Option("-i", metavar="INPUT", help="The same as INPUT.")] = None,
    output_option: Annotated[Path | None, typer.Option("-o", metavar="OUTPUT", help="The same as OUTPUT.")] = None,
    series: Annotated[str | None, "UID of the DICOM series to segment; by default the CT with most images."] = None,
    formats: shared.Formats = None,
    out_of_fold: Annotated[
        bool, "INPUT is a store: each case of its folds by the run of RUN that held it out."
    ] = False,
    overwrite: Annotated[bool, "Replace label maps that were edited, or are of other scans."] = False,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Segment scans with a trained model.

    INPUT and OUTPUT are needed, as arguments or with -i and -o. The label maps lie on the grids of the scans.
    """
    from viscera.io.runlog import first_settings

    scans, to = shared.input_and_output(source, output, source_option, output_option)
    if out_of_fold and series is not None:
        raise typer.BadParameter("--series names a DICOM series, and --out-of-fold takes a store")
    base = {} if call.file else first_settings(run)
    device = call.options.get("train.device", "auto")
    how: dict[str, Any] = {"formats": formats, "device": device, "overwrite": overwrite, "jobs": jobs}
    how |= {"shard": Shard.parse(shard) if shard else None, "progress": call.display.update}
    settings = call.config(base).predict if call.file or call.assignments else None
    call.choose_threads()
    with end_on_signal(), shared.spread(call, launcher, address, wants_gpu=device != "cpu") as over:
        if out_of_fold:
            from viscera.stages.predict_folds import predict_out_of_fold

            written = predict_out_of_fold(run, scans, to, settings, spread=over, **how)
        else:
            from viscera.stages import predict as stage

            written = stage.predict(run, scans, to, settings, series=series, spread=over, **how)
    call.display.note(f"{_counted(written)} in {to}")


def _counted(written: list[Path]) -> str:
    """`8 label maps`; `8 maps of entropy` where no label map was wanted."""
    from viscera.io.probability_maps import MAPS

    of = {name for path in written for name, ending in MAPS.items() if path.name.endswith(ending)}
    what = f"map of {of.pop()}" if of else "label map"
    return f"{len(written)} {what if len(written) == 1 else what.replace('map', 'maps', 1)}"


@command(app, "evaluate", "evaluate.metrics evaluate.grid train.fold", writes=("out", "summary"))
def evaluate(
    call: Call,
    predictions: Annotated[Path, "A label map, or a folder of them."],
    references: Annotated[Path, "What is true: a label map, a folder of them, a data set, or a store."],
    layout: Layout = "auto",
    out: Annotated[Path, "Table of all scores to write."] = Path("scores.csv"),
    summary: Annotated[Path | None, "Summary as nnU-Net writes it; by default summary.json beside the table."] = None,
    split: Annotated[Literal["train", "validation", "test"] | None, "Score only this part of a store."] = None,
    classes: Classes = None,
    jobs: Jobs = 1,
    shard: Part = None,
) -> None:
    """Score predictions against reference labels.

    Dice, HD95, surface Dice and volumes, per case and organ.
    """
    from viscera.io.scores import scores_table
    from viscera.stages import evaluate as stage

    beside = out.with_name("summary.json")
    if summary is None and beside.exists() and not out.exists():
        own = out.with_suffix("") / "scores.csv"
        raise BadInputError(
            f"{beside}: exists, and not from an earlier {out.name}. Several tables need a folder each, as other files "
            f"lie beside them: give --out {own}, or move what is there away."
        )
    file = class_file(classes)
    named = {"classes": file.table, "numbers": file.numbers} if file else {}
    more: dict[str, Any] = named | {"summary": summary or beside, "progress": call.display.update, "jobs": jobs}
    more["fold"] = call.options.get("train.fold")
    more["shard"] = Shard.parse(shard) if shard else None
    with end_on_signal():  # and with it the processes
        rows = stage.evaluate(predictions, references, out, call.config().evaluate, layout=layout, split=split, **more)
    if not rows:
        call.say(f"No case is in part {shard}. Its table, which is empty: {out}")
        return
    call.say(f"{scores_table(rows)}\nEvery case: {out}; as nnU-Net writes it: {summary or beside}")


@command(app, "merge", writes=("out",))
def merge(
    call: Call,
    parts: Annotated[list[Path], typer.Argument(metavar="PART", help="Folders that the parts of a job wrote.")],
    out: Annotated[Path, "Folder for the tables of all."] = Path("merged"),
) -> None:
    """Join the tables that parts of a job wrote.

    Each part has a folder of its own. Scores, nnU-Net's summary, measurements, and the cases that were left out.
    """
    from viscera.stages import merge as stage

    written = stage.merge(parts, out)
    call.say("\n".join(str(path) for path in written))


@command(app, "export", writes=("out",))
def export(
    call: Call,
    run: Annotated[Path, "A trained model, as `train` or `study` made it; or a folder of several: their mean."],
    out: Annotated[Path, "Folder to write: new, or an earlier export."],
    to: shared.Forms,
    overwrite: Annotated[bool, "Replace files of an earlier export that were edited."] = False,
) -> None:
    """Write a trained model for other programs.

    It predicts there as `viscera predict` does with the same settings (--set predict.…), and says for what it is meant.
    """
    from viscera.export import export_stage as stage
    from viscera.io.runlog import first_settings

    base = {} if call.file else first_settings(run)
    settings = call.config(base).predict if call.file or call.assignments else None
    call.say(str(stage.export(run, out, to, settings, overwrite=overwrite)))
