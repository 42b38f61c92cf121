"""The commands. Positional arguments are artifacts, everything else is an option with the paper's value as default."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from viscera.cli import command as shared
from viscera.cli.command import (
    Address,
    AsJson,
    Call,
    Classes,
    DataSet,
    Jobs,
    Launcher,
    Layout,
    Part,
    Store,
    class_file,
    command,
    new_app,
)
from viscera.cli.terminal import end_on_signal, open_streams, stop_on_signal
from viscera.core.errors import BadInputError
from viscera.core.shard import Shard

app = new_app(
    "Multi-organ segmentation of abdominal CT, and the truth about Dice loss weighting.\n\n"
    "To begin: phantom, prepare, train --preset demo, predict, evaluate. Each explains itself with --help."
)
_TRAINING = "train.iterations train.patch train.batch_size train.filters train.device"
_PREPARING = "prepare.downsample prepare.spacing_mm prepare.test_fraction prepare.validation_fraction prepare.seed"
config_app = new_app("Show the configuration and what each setting means.")
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point."""
    open_streams()
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}  # threads sleep; read when PyTorch is loaded
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large tensors in large pages, which the system clears faster
    app()


@app.callback()
def _root(version: shared.Version = False) -> None: ...


@command(app, "phantom")
def phantom(
    call: Call,
    out: Annotated[Path, "Folder for the data set, in nnU-Net's raw layout."],
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="How many scans to write.")],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed gives other patients.")] = 0,
    shape: shared.Shape = (128, 128, 96),
    spacing_mm: shared.VoxelSize = None,
    jobs: Jobs = 1,
) -> None:
    """Write synthetic CT scans with labels, to try things out.

    They show a procedural abdomen: a phantom, not patients. A scan of a seed is always the same.
    """
    from viscera.stages.phantom import make_phantoms as make

    with end_on_signal():  # and with it the processes
        make(out, cases, seed=seed, shape=shape, spacing_mm=spacing_mm, jobs=jobs, progress=call.display.update)
    call.display.note(f"{cases} phantom cases in {out}")


@command(app, "prepare", _PREPARING)
def prepare(
    call: Call,
    source: DataSet,
    store: Annotated[Path, "Store to make or to extend."],
    layout: Layout = "auto",
    classes: Classes = None,
    partial: Annotated[bool, "Take a data set that does not label all organs."] = False,
    split: Annotated[Path | None, "JSON file with the cases of train, validation and test, instead of shares."] = None,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Turn labelled scans into a store, ready for training.

    Scans are brought onto the network's grid and split into training, validation and test cases; voxels of every class
    are counted. Cases that cannot be read are left out, with the reason in quarantine.csv.
    """
    from viscera.stages import prepare as stage

    if {"prepare.downsample", "prepare.spacing_mm"} <= call.options.keys():
        raise typer.BadParameter("give --downsample or --spacing-mm, not both")
    data: dict[str, Any] = {"layout": layout, "classes": class_file(classes), "partial": partial}
    data |= {"split_file": split, "jobs": jobs, "shard": Shard.parse(shard) if shard else None}
    data["spread"] = shared.spread(launcher, address)
    settings, seen = call.config().prepare, call.display.update
    with end_on_signal():  # and with it the processes
        built = stage.prepare(source, store, settings, **data, progress=seen)
    train, validation, test = (len(built.names(part)) for part in ("train", "validation", "test"))
    if train + validation + test < len(built.names()):
        call.display.note(f"{store}: {len(built.names())} cases so far; the split is drawn when all parts are done")
        return
    call.display.note(f"{store}: {train} training, {validation} validation, {test} test cases")
    call.display.note(f"{store}: {stage.grids_text(built)}")


@command(app, "check")
def check(
    call: Call,
    source: DataSet,
    out: Annotated[Path, "Folder for the tables and the page with pictures."] = Path("check"),
    layout: Layout = "auto",
    classes: Classes = None,
    as_json: AsJson = False,
) -> None:
    """Check a labelled data set before training.

    Scans and labels are measured, what is suspicious is named, and a page shows it with pictures.
    """
    from viscera.check import check_stage as stage
    from viscera.check.check_tables import check_text

    found = stage.check(source, out, layout=layout, classes=class_file(classes), progress=call.display.update)
    if as_json:
        call.result(json.dumps(asdict(found), indent=1))
    else:
        call.say(f"{check_text(found)}\nPictures and tables: {out / stage.PAGE}")
    stage.refuse_unread(found, out)


@command(app, "doctor", "preset")
def doctor(
    call: Call,
    path: Annotated[Path, typer.Argument(metavar="STORE|RUN", help="A store, before training; or a run, after it.")],
    as_json: AsJson = False,
) -> None:
    """Explain which organs a training will miss, or has missed.

    Of a store: class weights, gradients and what to expect of each weighting and learning rate. Of a run: what became
    of every organ. With what to do about it.
    """
    from viscera.doctor.diagnosis import diagnose, diagnose_run, diagnosis_text, run_diagnosis_text
    from viscera.io.runlog import RunFolder

    if RunFolder(path).config_path.exists():
        run = diagnose_run(path)
        call.result(json.dumps(asdict(run), indent=1) if as_json else run_diagnosis_text(run))
    else:
        call.choose_threads()
        found = diagnose(path, call.config())
        call.result(json.dumps(asdict(found), indent=1) if as_json else diagnosis_text(found))


@command(app, "train", f"preset train.weighting train.learning_rate {_TRAINING} train.seed train.checkpoint_every")
def train(
    call: Call,
    store: Store,
    run: Annotated[Path, "Folder for the trained model."],
    resume: Annotated[bool, "Continue from the last checkpoint, with its settings."] = False,
) -> None:
    """Train one model on a store.

    The defaults are the paper's; --preset demo is a short training, to try things out.
    """
    from viscera.core.resolve import as_recorded
    from viscera.io.records import read_yaml
    from viscera.io.runlog import RunFolder
    from viscera.stages import train as stage

    before = RunFolder(run)
    base = as_recorded(read_yaml(before.config_path)) if resume and before.config_path.exists() else None
    status = before.read_status() if resume else None
    call.choose_threads(status.threads if status else None)
    with stop_on_signal() as stop:
        folder = stage.train(store, run, call.config(base), resume=resume, stop=stop, progress=call.display.update)
    call.display.note(f"{folder.path}: finished; predict with `viscera predict {folder.path} SCAN OUTPUT`")


@command(app, "find-rate", "preset study.weightings train.device")
def find_rate(
    call: Call,
    store: Store,
    out: Annotated[Path, "Folder for the curves; a study shows those in STUDY/rate_range."] = Path("rate_range"),
) -> None:
    """Suggest a learning rate for each class weighting.

    A short training with a rate that rises from step to step: a learning-rate range test.
    """
    from viscera.study.find_rates import find_rates
    from viscera.study.rate_range import rate_range_table

    call.choose_threads()
    config = call.config()
    with stop_on_signal() as stop:
        tests = find_rates(store, out, config, config.study.weightings, stop=stop, progress=call.display.update)
    call.say(f"{rate_range_table(tests)}\nThe curves: {out}")


@command(app, "predict", "train.device")
def predict(
    call: Call,
    run: Annotated[Path, "A trained model, as `viscera train` or `viscera study` made it."],
    source: shared.Input = None,
    output: shared.Output = None,
    source_option: Annotated[Path | None, typer.Option("-i", metavar="INPUT", help="The same as INPUT.")] = None,
    output_option: Annotated[Path | None, typer.Option("-o", metavar="OUTPUT", help="The same as OUTPUT.")] = None,
    series: Annotated[str | None, "UID of the DICOM series to segment; by default the CT with most images."] = None,
    formats: shared.Formats = None,
    overwrite: Annotated[bool, "Replace label maps that were edited, or are of other scans."] = False,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Segment scans with a trained model.

    INPUT and OUTPUT are needed, as arguments or with -i and -o. The label maps lie on the grids of the scans.
    """
    from viscera.io.records import read_yaml
    from viscera.io.runlog import RunFolder
    from viscera.stages import predict as stage

    scans, to = shared.input_and_output(source, output, source_option, output_option)
    base = read_yaml(saved) if not call.file and (saved := RunFolder(run).config_path).exists() else {}
    call.choose_threads()
    with end_on_signal():
        written = stage.predict(
            run,
            scans,
            to,
            call.config(base).predict if call.file or call.assignments else None,
            series=series,
            formats=formats,
            device=call.options.get("train.device", "auto"),
            overwrite=overwrite,
            jobs=jobs,
            spread=shared.spread(launcher, address, wants_gpu=call.options.get("train.device") != "cpu"),
            shard=Shard.parse(shard) if shard else None,
            progress=call.display.update,
        )
    call.display.note(f"{len(written)} label {'map' if len(written) == 1 else 'maps'} in {to}")


@command(app, "series")
def list_series(
    call: Call, path: Annotated[Path, "Folder or zip file of DICOM images."], as_json: AsJson = False
) -> None:
    """List the DICOM series in a folder or zip file.

    A star marks the one that would be read; of the others it says why not.
    """
    from viscera.io import scans

    with end_on_signal():
        listing = scans.list_series(path)
    call.result(json.dumps(scans.series_json(listing), indent=1) if as_json else scans.series_table(listing))


@command(app, "evaluate", "evaluate.metrics evaluate.grid")
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
) -> None:
    """Score predictions against reference labels.

    Dice, HD95, surface Dice and volumes, per case and organ.
    """
    from viscera.io.scores import scores_table
    from viscera.stages import evaluate as stage

    beside = out.with_name("summary.json")
    if summary is None and beside.exists() and not out.exists():
        raise BadInputError(f"{beside}: exists, and not from an earlier {out.name}. Move it away, or give --summary.")
    file = class_file(classes)
    named = {"classes": file.table, "numbers": file.numbers} if file else {}
    more: dict[str, Any] = named | {"summary": summary or beside, "progress": call.display.update, "jobs": jobs}
    with end_on_signal():  # and with it the processes
        rows = stage.evaluate(predictions, references, out, call.config().evaluate, layout=layout, split=split, **more)
    call.say(f"{scores_table(rows)}\nEvery case: {out}; as nnU-Net writes it: {summary or beside}")


@command(app, "study", f"preset study.weightings study.learning_rates study.seeds study.fuse study.jobs {_TRAINING}")
def study(
    call: Call,
    store: Store,
    study: Annotated[Path, "Folder of the study: new, or to continue."],
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Train and compare a grid of models, and write a report.

    Every arm (a weighting at a learning rate) is trained, applied and scored. After an interruption the same command
    resumes; with more weightings, rates, seeds or iterations it extends the study.
    """
    from viscera.io.runlog import StudyFolder
    from viscera.study.launch import run_study

    config = call.config(StudyFolder(study).settings_so_far())
    call.choose_threads()
    where = shared.arms_on(launcher, address)
    with stop_on_signal() as stop:
        page = run_study(store, study, config, stop=stop, progress=call.display.update, launcher=where)
    call.display.note(f"Report: {page}")
    call.say(str(page))


@command(app, "report")
def report(call: Call, study: Annotated[Path, "Folder of the study."]) -> None:
    """Write the report of a study again.

    Table 1, comparisons, learning curves, slices and surfaces, of whatever is finished.
    """
    from viscera.study.report.report_stage import make_report

    call.say(str(make_report(study, call.display.update)))


@command(app, "nnunet-path")
def nnunet_path(call: Call) -> None:
    """Print the folder of our trainers for nnU-Net v2.

    nnU-Net finds them by its environment variable nnUNet_extTrainer.
    """
    from viscera.plugins import NNUNET_TRAINERS

    call.result(str(NNUNET_TRAINERS))


@command(config_app, "show", "preset")
def config_show(call: Call) -> None:
    """Print every setting, explained, as a file for --config."""
    from viscera.core.settings import as_yaml

    call.result(as_yaml(call.config()))
