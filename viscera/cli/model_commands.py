"""Of models: doctor, plan, train, calibrate, find-rate, study, report, power, card; and nnU-Net's trainers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import Address, AsJson, Launcher, Store
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal, stop_on_signal

app = new_app("")
_TRAINING = "train.iterations train.patch train.batch_size train.filters train.device"
_OF_A_RUN = f"preset train.weighting train.learning_rate {_TRAINING} train.seed train.fold train.checkpoint_every"
_OF_A_STUDY = f"preset study.weightings study.learning_rates study.seeds study.fuse study.jobs train.fold {_TRAINING}"


@command(app, "doctor", "preset train.fold train.device")
def doctor(
    call: Call,
    path: Annotated[Path, typer.Argument(metavar="STORE|RUN", help="A store, before training; or a run, after it.")],
    store: Annotated[
        Path | None, "The store that RUN was trained on, for the probe; of a study's run it is known."
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Predict cases, and fit the last layer anew, to say why it fails."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Explain which organs a training will miss, or has missed.

    Of a store: class weights, gradients and what to expect of each weighting and learning rate. Of a run: what became
    of every organ, which class its voxels are called, and whether that is the features or the last layer. With what to
    do about it.
    """
    from viscera.doctor.diagnosis import diagnose, diagnose_run, diagnosis_text, run_diagnosis_text
    from viscera.doctor.probe import is_store_known, probe_where_possible
    from viscera.doctor.probe_text import probe_text
    from viscera.io.runlog import RunFolder

    if RunFolder(path).config_path.exists():
        run, device = diagnose_run(path), call.options.get("train.device", "auto")
        if probe and (store or is_store_known(path)):
            call.choose_threads()
        with end_on_signal():
            found, why_not = probe_where_possible(
                path, store, device=device, wanted=probe, progress=call.display.update
            )
        if as_json:
            of_probe = {"probe": found and found.model_dump(mode="json"), "no_probe": why_not}
            call.result(json.dumps({**asdict(run), **of_probe}, indent=1))
        else:
            texts = run_diagnosis_text(run), probe_text(found) if found else why_not
            call.result("\n\n".join(filter(None, texts)))
    else:
        call.choose_threads()
        forecast = diagnose(path, call.config())
        call.result(json.dumps(asdict(forecast), indent=1) if as_json else diagnosis_text(forecast))


@command(app, "plan", "preset train.device train.fold", writes=("out",))
def plan(
    call: Call,
    store: Store,
    budget: shared.Budget = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Training steps, in place of a budget.")
    ] = None,
    memory: shared.Memory = None,
    keep_spacing: Annotated[bool, "Plan for the voxels that the store has, whatever their size."] = False,
    out: Annotated[Path, "YAML file of settings to write."] = Path("plan.yaml"),
) -> None:
    """Plan a training for the data, this machine and a budget.

    Voxel size, windows, network, HU and schedule follow from the training cases, the memory and the time (2 hours where
    neither --budget nor --iterations is given); a few steps are timed. Everything else is the preset's, or that of
    --config, and what --set says stays. The file says why, line by line; `train --config` takes it.
    """
    from viscera.planning import plan_stage as stage
    from viscera.planning.plan_text import next_steps, plan_table

    config, fixed = call.config(), call.settings_given()
    if "train.iterations" in fixed:  # by --set
        iterations = iterations or config.train.iterations
    if budget is not None and iterations is not None:
        raise typer.BadParameter("give --budget or --iterations, not both")
    call.choose_threads()
    wanted = stage.Wanted(budget, iterations, memory, keep_spacing, fixed - {"train.iterations"})
    with end_on_signal():
        found = stage.plan_training(store, out, config, wanted, progress=call.display.update)
    call.result(f"{plan_table(found)}\n\n{next_steps(found, store, out)}")


@command(app, "train", _OF_A_RUN, writes=("run",))
def train(
    call: Call,
    store: Store,
    run: Annotated[Path, "Folder for the trained model."],
    resume: Annotated[bool, "Continue from the last checkpoint, with its settings."] = False,
    init_from: Annotated[Path | None, "A trained model whose weights a new one begins with."] = None,
) -> None:
    """Train one model on a store.

    The defaults are the paper's; --preset demo is a short training, to try things out.
    """
    from viscera.core.resolve import as_recorded
    from viscera.io.records import read_yaml
    from viscera.io.runlog import RunFolder
    from viscera.io.splits import sizes_text
    from viscera.io.training_data import TrainingData
    from viscera.stages import train as stage

    before = RunFolder(run)
    base = as_recorded(read_yaml(before.config_path)) if resume and before.config_path.exists() else None
    status = before.read_status() if resume else None
    call.choose_threads(status.threads if status else None)
    with stop_on_signal() as stop:
        how: dict[str, Any] = {"resume": resume, "init_from": init_from, "stop": stop}
        folder = stage.train(store, run, call.config(base), **how, progress=call.display.update)
    data = TrainingData.read(folder.training_data)
    if data is not None:
        call.display.note(f"{folder.path}: {sizes_text(data.cases, data.fold)}")
    call.display.note(f"{folder.path}: finished; predict with `viscera predict {folder.path} SCAN OUTPUT`")


@command(app, "calibrate", "train.device", writes=("run",))
def calibrate(
    call: Call,
    run: Annotated[Path, "A trained model, as `train` or `study` made it."],
    store: Store,
) -> None:
    """Fit the temperature of a run's probabilities on its validation cases.

    Written into the run; what it predicts from then on has calibrated probabilities, and the same label maps.
    """
    from viscera.io.runlog import first_settings
    from viscera.stages import calibrate as stage

    base = {} if call.file else first_settings(run)
    how = call.config(base).predict if call.file or call.assignments else None
    device = call.options.get("train.device", "auto")
    call.choose_threads()
    with end_on_signal():
        found = stage.calibrate(run, store, how, device=device, progress=call.display.update)
    call.say(f"{stage.calibration_text(found)}\nIn {run}/calibration.json, and used by `viscera predict {run}`.")


@command(app, "find-rate", "preset study.weightings train.fold train.device", writes=("out",))
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


@command(app, "study", _OF_A_STUDY, writes=("study",))
def study(
    call: Call,
    store: Store,
    study: Annotated[Path, "Folder of the study: new, or to continue."],
    launcher: Launcher = "local",
    address: Address = None,
    plan_only: Annotated[bool, "Write the plan with its hash, which can be registered, and train nothing."] = False,
) -> None:
    """Train and compare a grid of models, and write a report.

    Every arm (a weighting at a learning rate) is trained, applied and scored. After an interruption the same command
    resumes; with more weightings, rates, seeds or iterations it extends the study.

    Before the first run plan.json says what will be run and how it will be analysed; the report compares both.
    """
    from viscera.io.runlog import StudyFolder
    from viscera.study.launch import plan_study, run_study

    config = call.config(StudyFolder(study).settings_so_far())
    if plan_only:
        call.result(plan_study(store, study, config).text(StudyFolder(study).plan_path))
        return
    call.choose_threads()
    where = shared.arms_on(launcher, address)
    with stop_on_signal() as stop:
        page = run_study(store, study, config, stop=stop, progress=call.display.update, launcher=where)
    call.display.note(f"Report: {page}")
    call.say(str(page))


@command(app, "report", writes=("study",))
def report(call: Call, study: Annotated[Path, "Folder of the study."]) -> None:
    """Write the report of a study again.

    Table 1, comparisons, learning curves, slices and surfaces, of whatever is finished.
    """
    from viscera.study.report.report_stage import make_report

    call.say(str(make_report(study, call.display.update)))


@command(app, "power")
def power(
    call: Call,
    study: Annotated[Path, "Folder of a study with two seeds or more: the pilot."],
    patients: shared.TestCases = "8,16,37,100",
    seeds: shared.Trainings = "3,5,7,10",
    difference: Annotated[float | None, "Also say how many patients a difference of so many points takes."] = None,
    organ: Annotated[str | None, "Of one organ; by default the mean over the organs."] = None,
    tests: Annotated[int, typer.Option(min=1, metavar="N", help="Tests that are corrected for together.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Say what a larger study could find.

    From the spread of a pilot study between patients, between trainings and of both together: the smallest difference
    of two arms that would be significant with a chance of 80 %.
    """
    from viscera.study.power import power_of_study, power_text
    from viscera.study.report.report_stage import read_study

    wanted: dict[str, Any] = {"patients": patients, "seeds": seeds, "organ": organ, "difference": difference}
    found = power_of_study(read_study(study), **wanted, tests=tests)
    call.result(json.dumps(asdict(found), indent=1) if as_json else power_text(found))


@command(app, "card", writes=("run", "out"))
def card(
    call: Call,
    run: Annotated[Path, "A trained model, as `train` or `study` made it; or a folder of several: their mean."],
    out: Annotated[Path | None, "Folder for card.md and card.json; by default that of the model."] = None,
    scores: Annotated[
        Path | None, "Table of `evaluate`; by default scores.csv of the model, as a study makes it."
    ] = None,
    out_of_fold: Annotated[
        bool, "RUN holds the runs of all folds, and each case of the scores is by the one that held it out."
    ] = False,
    store: Annotated[Path | None, "The store that it was trained on: says which scored cases it has seen."] = None,
    licence: Annotated[str | None, "Of the weights, such as CC-BY-4.0."] = None,
    data_licence: Annotated[str | None, "Of the data; by default as the data set states it."] = None,
    overwrite: Annotated[bool, "Replace a card that was edited."] = False,
) -> None:
    """Write the model card of a run, or of several whose mean is taken.

    Markdown, which can be uploaded as README.md to Hugging Face's hub, and JSON: data, training, scores with intervals,
    intended use, limits, licences.
    """
    from viscera.card.card_stage import Stated, write_card

    stated = Stated(scores, store, licence, data_licence, out_of_fold)
    call.say(str(write_card(run, out, stated, overwrite=overwrite)))


@command(app, "nnunet-path")
def nnunet_path(call: Call) -> None:
    """Print the folder of our trainers for nnU-Net v2.

    nnU-Net finds them by its environment variable nnUNet_extTrainer.
    """
    from viscera.plugins import NNUNET_TRAINERS

    call.result(str(NNUNET_TRAINERS))
