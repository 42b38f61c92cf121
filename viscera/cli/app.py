"""The commands. Positional arguments are artifacts, everything else is an option with the paper's value as default."""

import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import viscera
from viscera.cli.options import (
    Assignments,
    ClassFileOption,
    Commands,
    ConfigFile,
    Device,
    Layout,
    LogJson,
    Partial,
    Preset,
    Quiet,
    end_on_signal,
    explained,
    stop_on_signal,
)
from viscera.cli.printing import (
    config_as_yaml,
    rate_range_table,
    scores_table,
    series_json,
    series_table,
)
from viscera.cli.terminal import make_display
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import as_recorded, resolve_config
from viscera.io.classes import read_class_file
from viscera.io.records import read_yaml
from viscera.io.runlog import RunFolder, StudyFolder

app = typer.Typer(
    cls=Commands,
    help="Multi-organ segmentation of abdominal CT, and the truth about Dice loss weighting.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names can hold what no encoding has
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}  # threads sleep; read when PyTorch is loaded
    app()


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"viscera {viscera.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _version(wanted=value), is_eager=True, help="Version.")
    ] = False,
) -> None: ...


@app.command()
@explained
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder of the data set, nnU-Net raw layout.")],
    cases: Annotated[int, typer.Option(min=1, help="How many.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the patients.")] = 0,
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels along I J K.")] = (128, 128, 96),
    spacing_mm: Annotated[float | None, typer.Option(help="Voxel size; by default the abdomen fits.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Write a procedural abdominal data set: a phantom, not patients."""
    from viscera.stages.phantom import make_phantoms

    _config("paper", config, assignments, {})
    with make_display(quiet=quiet, log_json=log_json) as display:
        make_phantoms(
            out,
            cases,
            seed=seed,
            shape=shape,
            spacing_mm=spacing_mm,
            jobs=jobs,
            progress=display.update,
        )
        display.note(f"{cases} phantom cases in {out}")


@app.command()
@explained
def prepare(
    source: Annotated[Path, typer.Argument(help="Labelled data set.")],
    store: Annotated[Path, typer.Argument(help="Store to build or extend.")],
    layout: Layout = "auto",
    classes: ClassFileOption = None,
    partial: Partial = False,
    downsample: Annotated[
        str | None, typer.Option(metavar="F|F,F,F", help="Factor for every axis (paper: 4), or along R, A, S.")
    ] = None,
    spacing_mm: Annotated[
        str | None, typer.Option(metavar="S|S,S,S", help="Resample to this voxel size instead; one, or along R, A, S.")
    ] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share kept for testing (paper: 37 of 377).")] = None,
    validation_fraction: Annotated[float | None, typer.Option(help="Share that picks best.pt (paper: 0).")] = None,
    split: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON of train, validation and test.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the random split.")] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Bring labelled scans onto the network's grid, split them, count their voxels."""
    from viscera.stages import prepare as stage

    options = {
        "prepare.downsample": downsample,
        "prepare.spacing_mm": spacing_mm,
        "prepare.test_fraction": test_fraction,
        "prepare.validation_fraction": validation_fraction,
        "prepare.seed": seed,
    }
    if downsample is not None and spacing_mm is not None:
        raise typer.BadParameter("give --downsample or --spacing-mm, not both")
    resolved = _config("paper", config, assignments, options)
    with make_display(quiet=quiet, log_json=log_json) as display:
        built = stage.prepare(
            source,
            store,
            resolved.prepare,
            layout=layout,
            classes=read_class_file(classes) if classes else None,
            partial=partial,
            split_file=split,
            progress=display.update,
        )
        train, validation, test = (len(built.names(part)) for part in ("train", "validation", "test"))
        display.note(f"{store}: {train} training, {validation} validation, {test} test cases")
        display.note(f"{store}: {stage.grids_text(built)}")


@app.command()
@explained
def check(
    source: Annotated[Path, typer.Argument(help="Labelled data set.")],
    out: Annotated[Path, typer.Option(help="Folder for check.csv, findings.csv and index.html.")] = Path("check"),
    layout: Layout = "auto",
    classes: ClassFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Look at a labelled data set before training: scans, labels, what is suspicious, with pictures."""
    from viscera.check import check_stage as stage
    from viscera.check.check_tables import check_text

    _config("paper", config, assignments, {})
    with make_display(quiet=quiet, log_json=log_json) as display:
        found = stage.check(
            source,
            out,
            layout=layout,
            classes=read_class_file(classes) if classes else None,
            progress=display.update,
        )
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=1))
    elif not quiet:
        typer.echo(check_text(found))
        typer.echo(f"Pictures and tables: {out / stage.PAGE}")
    stage.refuse_unread(found, out)


@app.command()
@explained
def doctor(
    path: Annotated[Path, typer.Argument(metavar="STORE|RUN", help="Store, or run.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: Preset = "paper",
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Say why an arm will fail, from a store, or did, from a run: weights, gradients, and what to do."""
    from viscera.doctor.diagnosis import diagnose, diagnose_run, diagnosis_text, run_diagnosis_text
    from viscera.engine.hardware import choose_threads

    make_display(quiet=quiet, log_json=log_json)
    resolved = _config(preset, config, assignments, {})
    if RunFolder(path).config_path.exists():
        run = diagnose_run(path)
        typer.echo(json.dumps(dataclasses.asdict(run), indent=1) if as_json else run_diagnosis_text(run))
    else:
        choose_threads()
        found = diagnose(path, resolved)
        typer.echo(json.dumps(dataclasses.asdict(found), indent=1) if as_json else diagnosis_text(found))


@app.command()
@explained
def train(
    store: Annotated[Path, typer.Argument(help="Store.")],
    run: Annotated[Path, typer.Argument(help="Run to make.")],
    weighting: Annotated[str | None, typer.Option(help="uniform, simple, square, or a power of 1/R.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's (paper: 0.001 and 0.01).")] = None,
    iterations: Annotated[int | None, typer.Option(help="Steps (paper: 10000).")] = None,
    patch: Annotated[int | None, typer.Option(help="Window edge in voxels (paper: 64).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step (paper: 3).")] = None,
    filters: Annotated[int | None, typer.Option(help="Channels of the first convolution (paper: 32).")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation and windows.")] = None,
    device: Device = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps that a crash can cost.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    preset: Preset = "paper",
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Train one model."""
    from viscera.engine.hardware import choose_threads
    from viscera.stages import train as stage

    options = {
        "train.weighting": weighting,
        "train.learning_rate": learning_rate,
        "train.iterations": iterations,
        "train.patch": patch,
        "train.batch_size": batch_size,
        "train.filters": filters,
        "train.seed": seed,
        "train.device": device,
        "train.checkpoint_every": checkpoint_every,
    }
    saved = RunFolder(run).config_path
    base = as_recorded(read_yaml(saved)) if resume and saved.exists() else None
    resolved = _config(preset, config, assignments, options, base=base)
    with make_display(quiet=quiet, log_json=log_json) as display, stop_on_signal() as stop:
        status = RunFolder(run).read_status() if resume else None
        choose_threads(status.threads if status else None)
        folder = stage.train(store, run, resolved, resume=resume, stop=stop, progress=display.update)
        display.note(f"{folder.path}: finished; predict with `viscera predict {folder.path} SCAN OUTPUT`")


@app.command("find-rate")
@explained
def find_rate(
    store: Annotated[Path, typer.Argument(help="Store.")],
    out: Annotated[Path, typer.Option(help="Folder for WEIGHTING.json; STUDY/rate_range shows in its report.")] = Path(
        "rate_range"
    ),
    weightings: Annotated[str | None, typer.Option(metavar="A,B", help="Weightings to test.")] = None,
    device: Device = None,
    preset: Preset = "paper",
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Suggest a learning rate for each weighting: a short training whose rate rises from step to step."""
    from viscera.engine.hardware import choose_threads
    from viscera.study.find_rates import find_rates

    options = {"study.weightings": _listed(weightings), "train.device": device}
    resolved = _config(preset, config, assignments, options)
    with make_display(quiet=quiet, log_json=log_json) as display, stop_on_signal() as stop:
        choose_threads()
        tests = find_rates(store, out, resolved, resolved.study.weightings, stop=stop, progress=display.update)
    if not quiet:
        typer.echo(rate_range_table(tests))
        typer.echo(f"The curves: {out}")


@app.command()
@explained
def predict(
    run: Annotated[Path, typer.Argument(help="Run.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="INPUT", help="Scan, folder of scans, or DICOM folder or zip.")
    ] = None,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="Folder, or .nii.gz, .nrrd or .dcm file.")
    ] = None,
    source_option: Annotated[Path | None, typer.Option("-i", metavar="INPUT", help="Same as INPUT.")] = None,
    output_option: Annotated[Path | None, typer.Option("-o", metavar="OUTPUT", help="Same as OUTPUT.")] = None,
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="DICOM series; else the CT with most images.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", metavar="A,B", help="nifti, dicom-seg, rtstruct, seg-nrrd.")
    ] = None,
    device: Device = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace label maps edited since, or of other scans.")
    ] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Segment scans; the label maps lie on the scans' own grids."""
    from viscera.engine.hardware import choose_threads
    from viscera.stages import predict as stage

    if source_option is not None and source is not None and output is None:
        source, output = None, source  # `-i IN OUT`
    if (source and source_option) or (output and output_option):
        raise typer.BadParameter("give INPUT and OUTPUT once: as arguments, or with -i and -o")
    source, output = source or source_option, output or output_option
    if source is None or output is None:
        raise typer.BadParameter("give INPUT and OUTPUT (or -i and -o)")
    saved = RunFolder(run).config_path
    base = read_yaml(saved) if saved.exists() and config is None else {}
    resolved = _config("paper", config, assignments, {}, base=base) if config or assignments else None
    with end_on_signal(), make_display(quiet=quiet, log_json=log_json) as display:
        choose_threads()
        written = stage.predict(
            run,
            source,
            output,
            resolved.predict if resolved else None,
            series=series,
            formats=_listed(formats),
            device=device or "auto",
            overwrite=overwrite,
            progress=display.update,
        )
        display.note(f"{len(written)} label {'map' if len(written) == 1 else 'maps'} in {output}")


@app.command("series")
@explained
def list_series(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder or zip file of DICOM images.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """List the DICOM series in a folder: which one would be read, and why others would not."""
    from viscera.io.scans import list_series as listing_of

    _config("paper", config, assignments, {})
    make_display(quiet=quiet, log_json=log_json)
    with end_on_signal():
        listing = listing_of(path)
    typer.echo(json.dumps(series_json(listing), indent=1) if as_json else series_table(listing))


@app.command()
@explained
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Label map, or folder of them.")],
    references: Annotated[Path, typer.Argument(help="Label map, folder, data set of any layout, or store.")],
    layout: Layout = "auto",
    out: Annotated[Path, typer.Option(help="Table to write.")] = Path("scores.csv"),
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B", help="dice, hd95_mm, surface_dice, volume_ml; by default all.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="nnU-Net's summary; by default summary.json beside the table.")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="original, prepared or both (with a store).")] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Score this part of a store alone.")
    ] = None,
    classes: ClassFileOption = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Score predictions: Dice, HD95, surface Dice and volumes per case and organ."""
    from viscera.stages import evaluate as stage

    options = {"evaluate.grid": grid, "evaluate.metrics": _listed(metrics)}
    resolved = _config("paper", config, assignments, options)
    beside = out.with_name("summary.json")
    if summary is None and beside.exists() and not out.exists():
        raise BadInputError(f"{beside}: exists, and not from an earlier {out.name}. Move it away, or give --summary.")
    file = read_class_file(classes) if classes else None
    with make_display(quiet=quiet, log_json=log_json) as display:
        rows = stage.evaluate(
            predictions,
            references,
            out,
            resolved.evaluate,
            layout=layout,
            classes=file.table if file else None,
            numbers=file.numbers if file else None,
            split=split,
            summary=summary or beside,
            progress=display.update,
        )
    if not quiet:
        typer.echo(scores_table(rows))
        typer.echo(f"Every case: {out}; as nnU-Net writes it: {summary or beside}")


@app.command()
@explained
def study(
    store: Annotated[Path, typer.Argument(help="Store.")],
    study_path: Annotated[Path, typer.Argument(metavar="STUDY", help="Study to make or go on with.")],
    preset: Preset = "paper",
    weightings: Annotated[str | None, typer.Option(metavar="A,B", help="Arms: weightings, by name or power.")] = None,
    learning_rates: Annotated[str | None, typer.Option(metavar="X,Y", help="Arms: learning rates.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1", help="Seeds of every arm.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Steps of each arm.")] = None,
    patch: Annotated[int | None, typer.Option(help="Window edge in voxels.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step.")] = None,
    filters: Annotated[int | None, typer.Option(help="Channels of the first convolution.")] = None,
    fuse: Annotated[bool, typer.Option("--fuse", help="Best model per organ, chosen on validation cases.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Arms at once; 0 chooses.")] = None,
    device: Device = None,
    launcher: Annotated[str, typer.Option(help="local.")] = "local",
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Train, apply and score every arm, then write the report; the same command goes on after an interruption."""
    from viscera.engine.hardware import choose_threads
    from viscera.study.launch import run_study

    if launcher != "local":
        raise BadInputError(f"--launcher {launcher}: only local is there in this version.")
    options = {
        "study.weightings": _listed(weightings),
        "study.learning_rates": _listed(learning_rates),
        "study.seeds": _listed(seeds),
        "study.jobs": jobs,
        "study.fuse": fuse or None,
        "train.iterations": iterations,
        "train.patch": patch,
        "train.batch_size": batch_size,
        "train.filters": filters,
        "train.device": device,
    }
    resolved = _config(preset, config, assignments, options, base=StudyFolder(study_path).settings_so_far())
    with make_display(quiet=quiet, log_json=log_json) as display, stop_on_signal() as stop:
        choose_threads()
        page = run_study(store, study_path, resolved, stop=stop, progress=display.update)
        display.note(f"Report: {page}")
    if not quiet:
        typer.echo(page)


@app.command()
@explained
def report(
    study_path: Annotated[Path, typer.Argument(metavar="STUDY", help="Study.")],
    config: ConfigFile = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
) -> None:
    """Write the report of a study: Table 1, curves, slices, surfaces."""
    from viscera.study.report.report_stage import make_report

    _config("paper", config, assignments, {})
    with make_display(quiet=quiet, log_json=log_json) as display:
        page = make_report(study_path, display.update)
    if not quiet:
        typer.echo(page)


@app.command("nnunet-path")
def nnunet_path() -> None:
    """Print the folder of the nnU-Net v2 trainers, for the environment variable nnUNet_extTrainer."""
    from viscera.plugins import NNUNET_TRAINERS

    typer.echo(NNUNET_TRAINERS)


@config_app.command("show")
@explained
def config_show(
    preset: Preset = "paper",
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Print the resolved configuration, every field explained; the output is a --config file."""
    typer.echo(config_as_yaml(_config(preset, config, assignments, {})))


def _config(
    preset: str,
    file: Path | None,
    assignments: list[str] | None,
    options: dict[str, Any],
    base: dict[str, Any] | None = None,
) -> Config:
    values = read_yaml(file) if file else None
    return resolve_config(preset, values, assignments or (), options, base=base, found_in=str(file or "options"))


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None
