"""`viscera doctor`: what a store means for each arm before anyone trains, and what happened in a run."""

from dataclasses import dataclass
from pathlib import Path

from viscera.core.arms import arms_of
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.doctor.advice import run_advice, store_advice
from viscera.doctor.arm_forecasts import forecast_and_choose, plain_feed
from viscera.doctor.forecast import windows_with_class
from viscera.doctor.forecast_rule import ArmForecast
from viscera.engine.training_set import training_cases
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.losses.balance import POWERS, WeightSchedule
from viscera.metrics.learning import Flag, LoggedStep, flags, recent_share, step_kept


@dataclass(frozen=True)
class Diagnosis:
    """Facts about a training set, and what they mean for training.

    Attributes:
        classes: names, background first.
        voxel_counts: (L,) voxels of each class on the prepared grid, training cases only.
        fractions: (L,) share of all voxels.
        weights: weighting to (L,) class weights, as configured.
        weights_by_numerator: reading of N (`voxels`, `volumes`) to the same, under that reading.
        cases: number of training cases.
        cases_labelling: (L,) how many of them label each class: the others say nothing about it.
        cases_with_class: (L,) how many of them contain each class.
        windows_with_class: (L,) share of random training windows that contain each class.
        batches_with_class: (L,) share of mini-batches that do.
        arms: what to expect of each arm of the study's grid.
        advice: in plain words.
    """

    classes: tuple[str, ...]
    voxel_counts: tuple[int, ...]
    fractions: tuple[float, ...]
    weights: dict[str, tuple[float, ...]]
    weights_by_numerator: dict[str, dict[str, tuple[float, ...]]]
    cases: int
    cases_labelling: tuple[int, ...]
    cases_with_class: tuple[int, ...]
    windows_with_class: tuple[float, ...]
    batches_with_class: tuple[float, ...]
    arms: tuple[ArmForecast, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class RunDiagnosis:
    """What happened to each class in a run.

    Attributes:
        classes: names, background first.
        step, iterations: how far it is.
        weights: (L,) class weights of its last checkpoint's configuration.
        dice: (L,) on the fixed training windows at the last logged step; None: not measured.
        gradient_share: (L,) recent share of the gradient at the logits; None: not logged.
        step_kept: share of Adam's step that epsilon left at the last full step; None: not logged.
        flags: classes that are left behind.
        advice: in plain words.
    """

    classes: tuple[str, ...]
    step: int
    iterations: int
    weights: tuple[float, ...]
    dice: tuple[float | None, ...]
    gradient_share: tuple[float | None, ...]
    step_kept: float | None
    flags: tuple[Flag, ...]
    advice: tuple[str, ...]


def diagnose(store_path: Path, config: Config) -> Diagnosis:
    """Count and weigh the classes of a store's training cases, and forecast every arm of `config.study`.

    The network is looked at untrained: one backward pass a class, a minute at the paper's window on one core.

    Raises:
        BadInputError: no store, or no training case in it.
    """
    store = Store.open(store_path)
    names = training_cases(store)
    train = config.train.model_copy(update={"batch_size": min(config.train.batch_size, len(names))})
    counts = store.voxel_counts(train.loss.counts)
    rows = [store.manifest.cases[name].voxel_counts_prepared for name in names]

    def weights(scheme: str | float, settings: TrainConfig = train) -> tuple[float, ...]:
        return tuple(WeightSchedule.of(counts, scheme, settings.loss, len(names)).start.tolist())

    windows, batches = windows_with_class(plain_feed(store, train))
    planned = arms_of(config.study)
    forecasts, best = forecast_and_choose(store, config, planned)
    by_numerator = {}
    for numerator in ("voxels", "volumes"):
        reading = train.model_copy(update={"loss": train.loss.model_copy(update={"numerator": numerator})})
        by_numerator[numerator] = {scheme: weights(scheme, reading) for scheme in POWERS}
    return Diagnosis(
        classes=store.classes.names,
        voxel_counts=tuple(counts.tolist()),
        fractions=tuple((counts / counts.sum()).tolist()),
        weights={scheme: weights(scheme) for scheme in POWERS},
        weights_by_numerator=by_numerator,
        cases=len(names),
        cases_labelling=tuple(store.labelled(names).sum(axis=0).tolist()),
        cases_with_class=tuple(sum(n > 0 for n in column) for column in zip(*rows, strict=True)),
        windows_with_class=windows,
        batches_with_class=batches,
        arms=forecasts,
        advice=tuple(store_advice(forecasts, planned, dict(zip(store.classes.names, batches, strict=True)), best)),
    )


def diagnose_run(run_path: Path) -> RunDiagnosis:
    """What happened to each class in a run so far; it may still be running.

    Raises:
        BadInputError: no run there, or a damaged one.
    """
    folder = RunFolder(run_path)
    if not folder.config_path.exists():
        raise BadInputError(f"{run_path}: neither a store nor a run. Give what `viscera prepare` or `train` made.")
    train = read_config(folder.config_path).train
    try:
        lines = folder.read_curve()
        curve = [LoggedStep.from_line(line) for line in lines]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"{folder.curve_path}: damaged ({error}).") from error
    if not curve:
        raise BadInputError(f"{run_path}: nothing was logged yet. Wait for step {train.log_every}, or train it.")
    checkpoint = load_checkpoint(folder.last)
    classes, weights = checkpoint.classes, checkpoint.class_weights
    kept = [k for line in lines if (k := step_kept(line)) is not None]
    return RunDiagnosis(
        classes=classes.names,
        step=curve[-1].step,
        iterations=train.iterations,
        weights=tuple(weights.tolist()),
        dice=tuple(curve[-1].dice.get(name) for name in classes.names),
        gradient_share=tuple(recent_share(curve, name) for name in classes.names),
        step_kept=kept[-1] if kept else None,
        flags=tuple(flags(curve, classes)),
        advice=tuple(run_advice(curve, kept[-1] if kept else None, train, classes)),
    )
