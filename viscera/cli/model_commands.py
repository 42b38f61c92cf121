"""Commands on one model: doctor, plan, find-rate, train, calibrate, card; and nnU-Net's trainers."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import AsJson, Store
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal, stop_on_signal

log = logging.getLogger(__name__)
app = new_app("")
TRAINING = "train.iterations train.patch train.batch_size train.filters train.device"
_OF_A_RUN = (
    f"preset train.weighting train.learning_rate {TRAINING} train.seed train.fold train.checkpoint_every train.track "
    "train.deterministic"
)


@command(app, "doctor", "preset train.fold train.device")
def doctor(
    call: Call,
    path: Annotated[Path, typer.Argument(metavar="STORE|RUN", help="A store, before training; or a run, after it.")],
    store: Annotated[
        Path | None, "The store that RUN was trained on, for the probe; by default as the run's study says."
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Predict cases and refit the last layer, to say why a run fails."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Explain which organs a training will miss, or has missed.

    Given a store: the class weights, the gradients, and the chance of each organ to fail under each weighting and
    learning rate. Given a run: what became of every organ, which class its voxels are called, and whether that is due
    to the features or to the last layer. Both with what to do about it.

    Examples:
        viscera doctor store --preset demo
        viscera doctor run --store store
    """
    from viscera.doctor.diagnosis import diagnose, diagnose_run
    from viscera.doctor.diagnosis_text import diagnosis_text, run_diagnosis_text
    from viscera.doctor.probe import is_store_known, probe_where_possible
    from viscera.doctor.probe_text import probe_text
    from viscera.io.runlog import RunFolder

    if RunFolder(path).config_path.exists():
        ignored = sorted(call.settings_given() - {"train.device"})
        if call.preset != "paper":
            ignored.append(f"preset {call.preset}")
        if ignored:
            log.warning("%s: a run has settings of its own; without effect on it: %s.", path, ", ".join(ignored))
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
        with end_on_signal():
            forecast = diagnose(path, call.config(), call.display.update)
        call.result(json.dumps(asdict(forecast), indent=1) if as_json else diagnosis_text(forecast))


@command(app, "plan", "preset train.device train.fold", writes=("out",))
def plan(
    call: Call,
    store: Store,
    budget: shared.Budget = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Training steps; by default as many as fit into the budget.")
    ] = None,
    memory: shared.Memory = None,
    keep_spacing: Annotated[bool, "Keep the voxel size of the store, whatever it is."] = False,
    out: Annotated[Path, "YAML file of settings, to be written."] = Path("plan.yaml"),
    as_json: AsJson = False,
) -> None:
    """Plan a training for the data, this machine and a budget.

    Voxel size, patch, network, HU window and schedule follow from the training cases, the memory and the time; a few
    steps are timed. Everything else is taken from the preset or from --config, and what --set says is kept. The file
    gives the reason of each value; `viscera train --config plan.yaml` uses it.

    Examples:
        viscera plan store --budget 2h
        viscera plan store --preset strong --iterations 5000 --out strong.yaml
    """
    from viscera.planning import plan_stage as stage
    from viscera.planning.plan_text import next_steps, plan_json, plan_table

    config, fixed = call.config(), call.settings_given()
    if "train.iterations" in fixed:  # by --set
        iterations = iterations or config.train.iterations
    if budget is not None and iterations is not None:
        raise typer.BadParameter("give --budget or --iterations, not both")
    call.choose_threads()
    wanted = stage.Wanted(budget, iterations, memory, keep_spacing, fixed - {"train.iterations"})
    with end_on_signal():
        found = stage.plan_training(store, out, config, wanted, progress=call.display.update)
    call.result(plan_json(found) if as_json else f"{plan_table(found)}\n\n{next_steps(found, store, out)}")


@command(app, "train", _OF_A_RUN, writes=("run",))
def train(
    call: Call,
    store: Store,
    run: Annotated[Path, "Folder for the trained model."],
    resume: Annotated[bool, "Continue from the last checkpoint, with its settings."] = False,
    init_from: Annotated[
        Path | None,
        "A run, or its export to safetensors, whose weights the new one begins with; by default random weights.",
    ] = None,
) -> None:
    """Train one model on a store.

    The defaults are the paper's; --preset demo is a short training, to try things out.

    Examples:
        viscera train store run
        viscera train store run --preset demo --weighting simple --learning-rate 0.01
        viscera train store run --resume
    """
    from viscera.core.resolve import as_recorded
    from viscera.engine.training_text import end_text
    from viscera.io.records import read_yaml
    from viscera.io.runlog import RunFolder
    from viscera.io.splits import sizes_text
    from viscera.io.training_data import TrainingData
    from viscera.stages import train as stage

    before = RunFolder(run)
    base = as_recorded(read_yaml(before.config_path, ours=True)) if resume and before.config_path.exists() else None
    status = before.read_status() if resume else None
    config = call.config(base)
    call.choose_threads(status.threads if status else None, deterministic=config.train.deterministic)
    with stop_on_signal() as stop:
        how: dict[str, Any] = {"resume": resume, "init_from": init_from, "stop": stop}
        folder = stage.train(store, run, config, **how, progress=call.display.update)
    if table := end_text(folder):
        call.display.note(table)
    data = TrainingData.read(folder.training_data)
    if data is not None:
        call.display.note(f"{folder.path}: {sizes_text(data.cases, data.fold)}")
    call.display.note(f"{folder.path}: finished; predict with `viscera predict {folder.path} SCAN OUTPUT`")


@command(app, "calibrate", "train.device", writes=("run",))
def calibrate(
    call: Call,
    run: Annotated[Path, "A trained model, as `viscera train` makes it."],
    store: Store,
    as_json: AsJson = False,
) -> None:
    """Calibrate the probabilities of a run by a temperature.

    The temperature is fitted on the validation cases and written into the run. From then on its predictions have
    calibrated probabilities, and the same label maps as before.

    Examples:
        viscera calibrate run store
        viscera calibrate study/arms/uniform_lr0.001/seed_0 store --device cpu
    """
    from viscera.io.runlog import first_settings
    from viscera.stages import calibrate as stage

    base = {} if call.file else first_settings(run)
    how = call.config(base).predict if call.file or call.assignments else None
    device = call.options.get("train.device", "auto")
    call.choose_threads()
    with end_on_signal():
        found = stage.calibrate(run, store, how, device=device, progress=call.display.update)
    if as_json:
        call.result(found.model_dump_json(indent=1))
    else:
        call.say(
            f"{stage.calibration_text(found)}\nWritten to {run}/calibration.json; `viscera predict {run}` uses it."
        )


@command(app, "find-rate", "preset study.weightings train.fold train.device", writes=("out",))
def find_rate(
    call: Call,
    store: Store,
    out: Annotated[Path, "Folder for the curves; a study shows those in STUDY/rate_range."] = Path("rate_range"),
    as_json: AsJson = False,
) -> None:
    """Suggest a learning rate for each class weighting.

    A learning-rate range test: a short training whose rate rises from step to step.

    Examples:
        viscera find-rate store --preset demo
        viscera find-rate store --weightings uniform,0.5 --json
    """
    from viscera.study.find_rates import find_rates
    from viscera.study.rate_range import rate_range_table

    call.choose_threads()
    config = call.config()
    with stop_on_signal() as stop:
        tests = find_rates(store, out, config, config.study.weightings, stop=stop, progress=call.display.update)
    if as_json:
        call.result(
            json.dumps([test.model_dump(mode="json", exclude={"smoothed", "rates", "losses"}) for test in tests])
        )
    else:
        call.say(f"{rate_range_table(tests)}\nThe curves: {out}")


@command(app, "card", writes=("run", "out"))
def card(
    call: Call,
    run: Annotated[Path, "A trained model, as `viscera train` makes it; or a folder of several, whose mean is taken."],
    out: Annotated[Path | None, "Folder for card.md and card.json; by default the folder of the model."] = None,
    scores: Annotated[
        Path | None, "Table of scores by `viscera evaluate`; by default scores.csv in the folder of the model."
    ] = None,
    out_of_fold: Annotated[
        bool, "RUN is a folder with the runs of all folds; each case was scored by the run that held it out."
    ] = False,
    store: Annotated[
        Path | None,
        "The store that the model was trained on, which says which scored cases it has seen; by default not said.",
    ] = None,
    licence: Annotated[str | None, "Licence of the weights, such as CC-BY-4.0; by default none is stated."] = None,
    data_licence: Annotated[str | None, "Licence of the data; by default as the data set states it."] = None,
    overwrite: Annotated[bool, "Replace a card that was edited."] = False,
) -> None:
    """Write the model card of a run, or of several as their mean.

    Data, training, scores with intervals, intended use, limits and licences: as Markdown, which can be uploaded to the
    Hugging Face hub as README.md, and as JSON.

    Examples:
        viscera card run --scores scores.csv --store store
        viscera card run --licence CC-BY-4.0 --data-licence CC-BY-4.0
    """
    from viscera.card.card_stage import Stated, write_card

    stated = Stated(scores, store, licence, data_licence, out_of_fold)
    call.say(str(write_card(run, out, stated, overwrite=overwrite)))


@command(app, "nnunet-path")
def nnunet_path(call: Call) -> None:
    """Print the folder of viscera's trainers for nnU-Net v2.

    nnU-Net finds them by its environment variable nnUNet_extTrainer.

    Examples:
        viscera nnunet-path
        export nnUNet_extTrainer=$(viscera nnunet-path)
    """
    from viscera.plugins import NNUNET_TRAINERS

    call.result(str(NNUNET_TRAINERS))
