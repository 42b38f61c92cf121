"""Commands that apply a model: predict, evaluate, merge, export."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import (
    Address,
    AsJson,
    Jobs,
    KeyFile,
    KnownClasses,
    Launcher,
    Layout,
    Part,
    UsedKeyFile,
    class_file,
)
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal
from viscera.core.errors import BadInputError
from viscera.core.shard import Shard

app = new_app("")


@command(app, "predict", "train.device", writes=("output", "output_option"))
def predict(
    call: Call,
    run: Annotated[Path, "A trained model, as `viscera train` makes it; or a folder of several, whose mean is taken."],
    source: shared.Input = None,
    output: shared.Output = None,
    source_option: Annotated[Path | None, typer.Option("-i", metavar="INPUT", help="INPUT, as an option.")] = None,
    output_option: Annotated[Path | None, typer.Option("-o", metavar="OUTPUT", help="OUTPUT, as an option.")] = None,
    series: Annotated[
        str | None, "DICOM series to segment: its number in `viscera series`, or UID; by default the CT of most images."
    ] = None,
    formats: shared.Formats = None,
    out_of_fold: Annotated[
        bool,
        "INPUT is a store with folds, RUN the folder of the runs of all folds; each case is segmented by its own.",
    ] = False,
    pseudonyms: KeyFile = None,
    overwrite: Annotated[bool, "Replace label maps that were edited, or that belong to other scans."] = False,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Segment scans with a trained model.

    INPUT and OUTPUT are required, as arguments or with -i and -o. Each label map lies on the grid of its scan.

    Examples:
        viscera predict run scan.nii.gz out
        viscera predict run DICOM_FOLDER out --format nifti,dicom-seg
    """
    from viscera.io.predictions import flags_text
    from viscera.io.runlog import first_settings

    scans, to = shared.input_and_output(source, output, source_option, output_option)
    if out_of_fold and series is not None:
        raise typer.BadParameter("--series names a DICOM series, and --out-of-fold takes a store")
    if out_of_fold and pseudonyms is not None:
        raise typer.BadParameter("--out-of-fold takes a store, whose cases are called as `viscera prepare` called them")
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

            more: dict[str, Any] = {"series": series, "pseudonyms": pseudonyms, "spread": over}
            written = stage.predict(run, scans, to, settings, **more, **how)
    call.display.finish_notes()
    call.display.note(f"{_counted(written)} in {to}")
    if flags := flags_text(to):
        call.display.note(flags)


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
    references: Annotated[Path, "The true labels: a label map, a folder of them, a data set, or a store."],
    layout: Layout = "auto",
    out: Annotated[Path, "Table of all scores, to be written."] = Path("scores.csv"),
    summary: Annotated[
        Path | None, "Summary in the format of nnU-Net, to be written; by default summary.json beside the table."
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        "Part of a store to score; by default all cases that have a prediction.",
    ] = None,
    classes: KnownClasses = None,
    pseudonyms: UsedKeyFile = None,
    as_json: AsJson = False,
    jobs: Jobs = 1,
    shard: Part = None,
) -> None:
    """Score predictions against reference labels.

    Dice, HD95, surface Dice and volumes, per case and organ.

    Examples:
        viscera evaluate out store --split test
        viscera evaluate out DATA --out scores/scores.csv --metrics dice,hd95_mm
    """
    from viscera.io.scores import mean_scores, scores_table
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
    more |= {"fold": call.options.get("train.fold"), "pseudonyms": pseudonyms}
    more["shard"] = Shard.parse(shard) if shard else None
    with end_on_signal():  # and with it the processes
        rows = stage.evaluate(predictions, references, out, call.config().evaluate, layout=layout, split=split, **more)
    if as_json:
        call.result(json.dumps([each._asdict() for each in mean_scores(rows)], indent=1))
    elif rows:
        call.say(f"{scores_table(rows)}\n\nScores of every case: {out}; in the format of nnU-Net: {summary or beside}")
    else:
        call.say(f"No case is in part {shard}. Its table, which is empty: {out}")


@command(app, "merge", writes=("out",))
def merge(
    call: Call,
    parts: Annotated[list[Path], typer.Argument(metavar="PART", help="Folders that the parts of a job wrote.")],
    out: Annotated[Path, "Folder for the joined tables."] = Path("merged"),
) -> None:
    """Join the tables that the parts of a job wrote.

    Each part wrote into a folder of its own: scores, nnU-Net's summary, measurements, and the cases that were left out.

    Examples:
        viscera merge part1 part2 part3
        viscera merge parts/* --out all
    """
    from viscera.stages import merge as stage

    written = stage.merge(parts, out)
    call.say("\n".join(str(path) for path in written))


@command(app, "export", writes=("out",))
def export(
    call: Call,
    run: Annotated[Path, "A trained model, as `viscera train` makes it; or a folder of several, whose mean is taken."],
    out: Annotated[Path, "Folder to write to: new, or that of an earlier export."],
    to: shared.Forms,
    overwrite: Annotated[bool, "Replace files of an earlier export that were edited."] = False,
) -> None:
    """Write a trained model for other programs.

    It predicts there as `viscera predict` does with the same settings (--set predict.…), and says what it is meant for.

    Examples:
        viscera export run exported --to onnx
        viscera export run exported --to safetensors,slicer
    """
    from viscera.export import export_stage as stage
    from viscera.io.runlog import first_settings

    base = {} if call.file else first_settings(run)
    settings = call.config(base).predict if call.file or call.assignments else None
    call.say(str(stage.export(run, out, to, settings, overwrite=overwrite)))
    call.display.note(stage.written_text(out))
