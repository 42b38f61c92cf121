"""`viscera doctor`: what a store means for each arm before anyone trains, and what happened in a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.anatomy import CLASS_NAMES, CLASS_TITLES, NUM_CLASSES
from viscera.core.arms import Arm, arm_config, arms_of, weighting_name
from viscera.core.config import AugmentConfig, Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.engine.feed import Feed
from viscera.engine.forecast import UnitGradients, windows_with_class
from viscera.engine.hardware import choose_device
from viscera.engine.training_set import feed_of, with_training_set
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.losses.balance import POWERS, WeightSchedule
from viscera.metrics.forecast import ArmForecast, Outlook, separability_of
from viscera.metrics.learning import STARVING_SHARE, Flag, LoggedStep, flags, recent_share, step_kept

_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_SEEN_BY_THE_NETWORK: dict[str, Any] = {
    **dict.fromkeys(("patch", "batch_size", "filters", "levels", "seed", "initialisation", "intensity"), True),
    "loss": {"sums", "smoothing"},
}
_HU_BINS = np.append(np.arange(-1000, 1001, 10), 32768)
_CASES_FOR_HU = 20
_RARE = 0.5  # of the batches
_KEPT = 0.5  # of the step
_SHIFT = "A lower power (--weighting 0.5), train.loss.background=mean or train.loss.max_ratio shift the shares."
_ENLARGE = "train.loss.normalise=sum_to_L, a smaller train.adam.epsilon or a rate that much higher makes up for it."


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
    names = store.names("train")
    if not names:
        raise BadInputError(f"{store_path}: no training case in this store. Prepare it with a lower --test-fraction.")
    train = config.train.model_copy(update={"batch_size": min(config.train.batch_size, len(names))})
    counts = store.voxel_counts(train.loss.counts)
    rows = [store.manifest.cases[name].voxel_counts_prepared for name in names]

    def weights(scheme: str | float, settings: TrainConfig = train) -> tuple[float, ...]:
        return tuple(WeightSchedule.of(counts, scheme, settings.loss, len(names)).start.tolist())

    windows, batches = windows_with_class(_feed(store, train))
    planned = arms_of(config.study)
    others = [Arm(power, rate) for rate in _RATES for power in _POWERS]
    variants = {"": {}, **config.study.variants}  # the others are plain
    with_plain = config.model_copy(update={"study": config.study.model_copy(update={"variants": variants})})
    forecasts = forecast_arms(store, with_plain, [*planned, *others])
    arms = forecasts[: len(planned)]
    by_numerator = {}
    for numerator in ("voxels", "volumes"):
        reading = train.model_copy(update={"loss": train.loss.model_copy(update={"numerator": numerator})})
        by_numerator[numerator] = {scheme: weights(scheme, reading) for scheme in POWERS}
    return Diagnosis(
        classes=CLASS_NAMES,
        voxel_counts=tuple(counts.tolist()),
        fractions=tuple((counts / counts.sum()).tolist()),
        weights={scheme: weights(scheme) for scheme in POWERS},
        weights_by_numerator=by_numerator,
        cases=len(names),
        cases_with_class=tuple(sum(n > 0 for n in column) for column in zip(*rows, strict=True)),
        windows_with_class=windows,
        batches_with_class=batches,
        arms=arms,
        advice=tuple(_advice(arms, planned, batches, _best(others, forecasts[len(planned) :]))),
    )


def forecast_arms(store: Store, config: Config, arms: Sequence[Arm]) -> tuple[ArmForecast, ...]:
    """What to expect of arms, from untrained networks of seed 0 on the first batches."""
    separability = hu_separability(store)
    return tuple(ArmForecast.of(arm.name, outlook, separability) for arm, outlook in outlooks(store, config, arms))


def _best(arms: Sequence[Arm], forecasts: Sequence[ArmForecast]) -> Arm:
    """The arm with the least chance of a failing organ, summed over the organs."""
    return arms[int(np.argmin([sum(forecast.failing_chance) for forecast in forecasts]))]


def outlooks(store: Store, config: Config, arms: Sequence[Arm]) -> Iterator[tuple[Arm, Outlook]]:
    """Each arm with what an untrained network says of it; arms that the network cannot tell apart share one."""
    names = store.names("train")
    config = with_training_set(config, store)
    gradients: dict[str, UnitGradients] = {}
    for arm in arms:
        train = with_training_set(arm_config(config, arm, 0), store).train
        train = train.model_copy(update={"batch_size": min(train.batch_size, len(names))})
        looked_at = train.model_dump_json(include=_SEEN_BY_THE_NETWORK)
        if looked_at not in gradients:
            gradients[looked_at] = UnitGradients.of(_feed(store, train), train, choose_device(train.device))
        unit = gradients[looked_at]
        counts = store.voxel_counts(train.loss.counts)
        weights = WeightSchedule.of(counts, arm.weighting, train.loss, len(names)).start
        outlook = Outlook(
            gradient_share=tuple(unit.shares(weights).tolist()),
            gradient_rms=float(np.sqrt(np.square(unit.root_second_moment(weights)).mean())),
            step_kept=unit.step_kept(weights, train.adam, train.iterations),
            learning_rate=train.learning_rate,
            iterations=train.iterations,
        )
        yield arm, outlook


def hu_separability(store: Store) -> tuple[float, ...]:
    """How far HU alone tell each class from the others, (L,), over the first training cases."""
    counts = np.zeros((NUM_CLASSES, len(_HU_BINS) - 1))
    for name in store.names("train")[:_CASES_FOR_HU]:
        hu, labels = store.image(name), store.labels(name)
        for label in range(NUM_CLASSES):
            counts[label] += np.histogram(hu[labels == label], _HU_BINS)[0]
    return separability_of(counts)


def _feed(store: Store, train: TrainConfig) -> Feed:
    """The training windows as they are, whatever augmentation will do to them."""
    return feed_of(store, train.model_copy(update={"augment": AugmentConfig()}))


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
    weights = load_checkpoint(folder.last).class_weights
    kept = [k for line in lines if (k := step_kept(line)) is not None]
    found = flags(curve)
    return RunDiagnosis(
        classes=CLASS_NAMES,
        step=curve[-1].step,
        iterations=train.iterations,
        weights=tuple(weights.tolist()),
        dice=tuple(curve[-1].dice.get(name) for name in CLASS_NAMES),
        gradient_share=tuple(recent_share(curve, name) for name in CLASS_NAMES),
        step_kept=kept[-1] if kept else None,
        flags=tuple(found),
        advice=tuple(_run_advice(found, kept[-1] if kept else None, train)),
    )


def _advice(
    forecasts: Sequence[ArmForecast], arms: Sequence[Arm], batches_with_class: Sequence[float], best: Arm
) -> list[str]:
    """Plain sentences about the arms: each names what was found and what to do."""
    sentences = []
    for arm, forecast in zip(arms, forecasts, strict=True):
        if forecast.failing:
            sentences.append(f"{arm.title}: {_listed(forecast.failing)} will most likely end below a Dice of 0.2.")
    for arm, forecast in {arm.weighting: (arm, f) for arm, f in zip(arms, forecasts, strict=True)}.values():
        name = weighting_name(arm.weighting)  # neither of these depends on the rate
        if forecast.starving:
            sentences.append(
                f"{name}: {_listed(forecast.starving)} will get less than a tenth of an equal share of the gradient; "
                f"nothing defends their voxels against the other classes. {_SHIFT}"
            )
        if forecast.step_kept < _KEPT:
            sentences.append(
                f"{name}: Adam's epsilon leaves {forecast.step_kept:.1%} of the step, because the gradient (root mean "
                f"square {forecast.gradient_rms:.0e}) is small beside it: everything learns slowly. {_ENLARGE}"
            )
    sentences.append(
        f"Fewest organs should fail with --weighting {best.weighting:g} --learning-rate {best.learning_rate:g}."
    )
    rare = [name for name, share in zip(CLASS_NAMES, batches_with_class, strict=True) if share < _RARE]
    if rare:
        sentences.append(
            f"{_listed(rare)}: in fewer than half of the mini-batches. A class that is absent from a batch sends no "
            "gradient; larger windows (--patch) or batches (--batch-size) show it more often."
        )
    return sentences


def _run_advice(found: Sequence[Flag], kept: float | None, train: TrainConfig) -> list[str]:
    """Plain sentences about a run."""
    sentences = []
    starved = [f.organ for f in found if f.share is not None and f.share < STARVING_SHARE]
    fed = [f.organ for f in found if f.organ not in starved]  # dead or not learnt all the same
    if starved:
        sentences.append(
            f"{_listed(starved)}: less than a tenth of an equal share of the gradient. That is the direction of the "
            f"weights. {_SHIFT}"
        )
    if fed:
        sentences.append(
            f"{_listed(fed)}: not learnt in spite of a fair share of the gradient. Train longer, or with another "
            f"rate (now {train.learning_rate:g})."
        )
    if kept is not None and kept < _KEPT:
        sentences.append(f"Adam's epsilon left {kept:.1%} of the step: the gradient is small beside it. {_ENLARGE}")
    return sentences or ["No class is left behind."]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(CLASS_TITLES[name] for name in names)
