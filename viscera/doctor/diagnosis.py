"""`viscera doctor`: what a store means for each arm before anyone trains, and what happened in a run."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from viscera.core.anatomy import ClassTable, title_of
from viscera.core.arms import Arm, arms_of, weighting_name
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.doctor.forecast import ArmForecast
from viscera.doctor.untrained import forecast_and_choose, plain_feed, windows_with_class
from viscera.engine.feed import training_cases
from viscera.io.checkpoint import load_checkpoint
from viscera.io.manifest import Split
from viscera.io.runlog import RunFolder, read_config
from viscera.io.splits import split_sizes
from viscera.io.store import Store
from viscera.losses.balance import POWERS, WeightSchedule
from viscera.metrics.learning import (
    FAILING_DICE,
    FLOODED_RATIO,
    WORDS,
    Flag,
    LoggedStep,
    batch_norm_remedy,
    flags,
    recent_share,
    starving_share,
    statistics_gap,
    step_kept,
    words_of,
)

_SETTINGS = ("iterations", "patch", "batch_size", "filters", "levels")
_RARE = 0.5  # of the batches
_KEPT = 0.5  # of the step
_SHIFT = "A lower power (--weighting 0.5), train.loss.background=mean or train.loss.max_ratio change the shares."
_REVIVE = (
    "A lower rate, a warm-up (train.rate_schedule.warm_up), another seed, or cross-entropy beside Dice "
    "(train.loss.cross_entropy=1), whose gradient does not vanish, can prevent it."
)
_ALL_WELL = "No class is left behind: every organ has a Dice of at least 0.5 on the training patches."
_ENLARGE = (
    "train.loss.normalise=sum_to_L, a smaller train.adam.epsilon or a learning rate that is higher by this factor "
    "compensates for it."
)


@dataclass(frozen=True)
class Diagnosis:
    """Facts about a training set, and what they mean for training; sequences (L,), background first."""

    classes: tuple[str, ...]
    voxel_counts: tuple[int, ...]  # on the prepared grid, training cases only
    fractions: tuple[float, ...]  # share of all voxels
    weights: dict[str, tuple[float, ...]]  # of each weighting, as configured
    weights_by_numerator: dict[str, dict[str, tuple[float, ...]]]  # the same under each interpretation of N
    cases: int  # training cases
    split: dict[Split, int]  # cases in each part, as the training sees them
    fold: int | Literal["all"] | None  # that is held out
    cases_labelling: tuple[int, ...]  # how many of them label each class: the others say nothing about it
    cases_with_class: tuple[int, ...]  # how many of them contain each class
    windows_with_class: tuple[float, ...]  # share of random training windows that contain each class
    batches_with_class: tuple[float, ...]  # share of mini-batches that do
    arms: tuple[ArmForecast, ...]  # of the study's grid
    advice: tuple[str, ...]  # in plain words
    settings: dict[str, int]  # that the forecast is for: iterations, patch, batch_size, filters, levels


@dataclass(frozen=True)
class RunDiagnosis:
    """What happened to each class in a run; sequences (L,), background first; None: not measured or not logged."""

    classes: tuple[str, ...]
    step: int
    iterations: int
    weights: tuple[float, ...]  # of its last checkpoint
    dice: tuple[float | None, ...]  # on the fixed training windows at the last logged step
    dice_batch_statistics: tuple[float | None, ...]  # the same, normalised by the statistics of each batch
    volume_ratio: tuple[float | None, ...]  # predicted over true volume, on the same windows
    mostly_called: tuple[str | None, ...]  # which class more of its voxels are called there than any other
    gradient_share: tuple[float | None, ...]  # recent, at the logits
    step_kept: float | None  # share of Adam's step that epsilon left at the last full step
    flags: tuple[Flag, ...]  # classes that are left behind
    advice: tuple[str, ...]  # in plain words


def diagnose(store_path: Path, config: Config, progress: OnProgress = unseen) -> Diagnosis:
    """Count and weigh the classes of a store's training cases, and forecast every arm of `config.study`.

    The network is looked at untrained: one backward pass a class, a minute at the paper's window on one core. Raises
    BadInputError where there is no store, or no training case in it.
    """
    store = Store.open(store_path).of_fold(config.train.fold)
    names = training_cases(store)
    train = config.train.model_copy(update={"batch_size": min(config.train.batch_size, len(names))})
    counts = store.voxel_counts(train.loss.counts)
    rows = [store.manifest.cases[name].voxel_counts_prepared for name in names]

    def weights(numerator: str = train.loss.numerator) -> dict[str, tuple[float, ...]]:
        loss = train.loss.model_copy(update={"numerator": numerator, "weights": config.study.weights})
        of = partial(WeightSchedule.of, counts, config=loss, volumes=len(names), classes=store.classes.names)
        return {name: tuple(of(weighting=name).start.tolist()) for name in (*POWERS, *config.study.weights)}

    progress(Progress("doctor", 0, 3, "classes in patches"))
    windows, batches = windows_with_class(plain_feed(store, train))
    planned = arms_of(config.study)
    forecasts, best = forecast_and_choose(store, config, planned, progress)
    return Diagnosis(
        classes=store.classes.names,
        voxel_counts=tuple(counts.tolist()),
        fractions=tuple((counts / counts.sum()).tolist()),
        weights=weights(),
        weights_by_numerator={numerator: weights(numerator) for numerator in ("voxels", "volumes")},
        cases=len(names),
        split=split_sizes(store),
        fold=config.train.fold,
        cases_labelling=tuple(store.labelled(names).sum(axis=0).tolist()),
        cases_with_class=tuple(sum(n > 0 for n in column) for column in zip(*rows, strict=True)),
        windows_with_class=windows,
        batches_with_class=batches,
        arms=forecasts,
        advice=tuple(store_advice(forecasts, planned, dict(zip(store.classes.names, batches, strict=True)), best)),
        settings={name: getattr(train, name) for name in _SETTINGS},
    )


def diagnose_run(run_path: Path) -> RunDiagnosis:
    """What happened to each class in a run so far; raises BadInputError for no run, or a damaged one."""
    folder = RunFolder(run_path)
    if not folder.config_path.exists():
        raise BadInputError(f"{run_path}: neither a store nor a run. Give what `viscera prepare` or `train` made.")
    train = read_config(folder.config_path).train
    try:
        lines = folder.read_curve()
        curve = [LoggedStep.from_line(line) for line in lines]
    except BadInputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"{folder.curve_path}: damaged ({error}).") from error
    if not curve:
        raise BadInputError(f"{run_path}: nothing was logged yet. {_why_nothing(folder, train.log_every)}")
    checkpoint = load_checkpoint(folder.last)
    classes, last = checkpoint.classes, curve[-1]
    kept = next((k for line in reversed(lines) if (k := step_kept(line)) is not None), None)
    counts = zip(classes.names, checkpoint.class_voxel_counts.tolist(), strict=True)
    absent = [name for name, count in counts if count == 0]
    advice = run_advice(curve, kept, train, checkpoint.class_weights.tolist(), classes, absent)
    return RunDiagnosis(
        classes=classes.names,
        step=last.step,
        iterations=train.iterations,
        weights=tuple(checkpoint.class_weights.tolist()),
        dice=tuple(map(last.dice.get, classes.names)),
        dice_batch_statistics=tuple(map(last.dice_batch_statistics.get, classes.names)),
        volume_ratio=tuple(map(last.volume_ratio.get, classes.names)),
        mostly_called=tuple(map(last.mostly_called.get, classes.names)),
        gradient_share=tuple(recent_share(curve, name) for name in classes.names),
        step_kept=kept,
        flags=tuple(flags(curve, classes)),
        advice=(*advice, *_of_absent(absent)) or (_ALL_WELL,),
    )


def _why_nothing(folder: RunFolder, log_every: int) -> str:
    """What became of a run that has logged no step, and what to do."""
    status = folder.read_status()
    if status is None or status.state == "running":
        return f"Wait for step {log_every}, or train it."
    why = f": {status.message.strip().rstrip('.')}" if status.message.strip() else ""
    return f"The run is {status.state}, at step {status.step} of {status.iterations}{why}."


def store_advice(
    forecasts: Sequence[ArmForecast], arms: Sequence[Arm], batches_with_class: Mapping[str, float], best: Arm | None
) -> Iterator[str]:
    """Plain sentences about the arms: each names what was found and what to do."""
    classes = tuple(batches_with_class)
    pairs = [(arm, each) for arm, each in zip(arms, forecasts, strict=True) if not each.unforeseen]
    for arm, forecast in pairs:
        if forecast.failing:
            yield f"{arm.title}: at risk of ending below a Dice of {FAILING_DICE:g}: {_failing(forecast, classes)}."
    for arm, forecast in {(arm.weighting, arm.variant): (arm, forecast) for arm, forecast in pairs}.values():
        name = ", ".join(filter(None, (weighting_name(arm.weighting), arm.variant)))  # it does not depend on the rate
        if forecast.starving:
            whose = "its" if len(forecast.starving) == 1 else "their"
            yield (
                f"{name}: {_listed(forecast.starving)} will receive little gradient, less than a tenth of an equal "
                f"share; {whose} voxels are likely to be called another class. {_SHIFT}"
            )
        if forecast.step_kept < _KEPT:
            yield (
                f"{name}: Adam's epsilon leaves {forecast.step_kept:.1%} of the step, because the gradient (root mean "
                f"square {forecast.gradient_rms:.0e}) is small compared with it: everything learns slowly. {_ENLARGE}"
            )
    if best is not None:
        options = f"--weighting {best.weighting:g} --learning-rate {best.learning_rate:g}"
        yield f"The fewest organs are expected to fail with {options}."
    for what in dict.fromkeys(forecast.unforeseen for forecast in forecasts if forecast.unforeseen):
        yield (
            f"Which organs will fail is not forecast for arms trained with {what}: the forecast was fitted to Adam on "
            "the Dice loss of the paper's network. The shares of the gradient are those of the Dice loss."
        )
    absent = [name for name in classes if any(name in forecast.absent for forecast in forecasts)]
    yield from _of_absent(absent)
    rare = [name for name, share in batches_with_class.items() if share < _RARE and name not in absent]
    if rare:
        yield (
            f"{_listed(rare)}: in fewer than half of the mini-batches. A class that is absent from a batch contributes "
            "no gradient; with larger patches (--patch) or batches (--batch-size) it is seen more often."
        )


def run_advice(
    curve: Sequence[LoggedStep],
    kept: float | None,
    train: TrainConfig,
    weights: Sequence[float],  # (L,) of its last checkpoint
    classes: ClassTable,
    absent: Collection[str] = (),  # names of classes that no training case has: nothing is said of them
) -> Iterator[str]:
    """Plain sentences about what went wrong in a run; none only where every organ is measured and learnt."""
    last, gap = curve[-1], statistics_gap(curve[-1])
    if gap is not None:
        yield f"{str(gap)[0].upper()}{str(gap)[1:]}. {batch_norm_remedy(train.batch_norm)}"
    enough = starving_share(len(classes))
    starved = [flag.organ for flag in flags(curve, classes) if flag.share is not None and flag.share < enough]
    of_trained = {name: w for name, w in zip(classes.names, weights, strict=True) if name not in absent}
    weighted = {name for name, w in of_trained.items() if w >= enough * sum(of_trained.values())}
    yield from _of_starved([organ for organ in starved if organ in weighted], last)
    if outweighed := [organ for organ in starved if organ not in weighted]:
        yield (
            f"{_listed(outweighed)}: less than a tenth of an equal share of the gradient. This is due to the class "
            f"weights. {_SHIFT}"
        )
    judged: dict[str, list[str]] = {}
    for organ in classes.names:
        words, hidden = words_of(organ, last.outcome(organ)), gap is not None and organ in gap.organs
        if words and organ not in starved and not hidden:
            fed = (recent_share(curve, organ) or 0.0) >= enough
            what = " and ".join(map(WORDS.__getitem__, words)) + " in spite of a fair share of the gradient" * fed
            judged.setdefault(what, []).append(organ)
    for what, organs in judged.items():
        yield f"{_listed(organs)}: {what}. Train longer, or with another rate (now {train.learning_rate:g})."
    unseen = [organ for organ in classes.names if last.dice.get(organ) is None and organ not in absent]
    if unseen:
        them = "it" if len(unseen) == 1 else "them"
        yield f"{_listed(unseen)}: in none of the training patches that are measured, so nothing is known of {them}."
    if kept is not None and kept < _KEPT:
        yield f"Adam's epsilon left {kept:.1%} of the step: the gradient is small compared with it. {_ENLARGE}"


def _of_starved(organs: Sequence[str], last: LoggedStep) -> Iterator[str]:
    """A sentence for those that get little gradient for the same reason, although their weights would give them enough.

    The derivative of the softmax is p (1 - p) with the class's probability p, so nothing comes of where p is near 0, as
    everywhere for an empty class, or near 1. And that of Eq. 2 at its own voxels is (D - I) / D², as in
    docs/decisions/0039: for a flooded class, whose D is large, small everywhere.
    """
    alike: dict[str, list[str]] = {}
    for organ in organs:
        alike.setdefault(_no_gradient(words_of(organ, last.outcome(organ))), []).append(organ)
    for why, names in alike.items():
        whose = "its weight is" if len(names) == 1 else "their weights are"
        yield (
            f"{_listed(names)}: less than a tenth of an equal share of the gradient, although {whose} large enough. "
            f"{why} {_REVIVE}"
        )


def _no_gradient(words: Sequence[str]) -> str:
    """Why a class of a large enough weight gets little gradient, by the words for what became of it."""
    if "empty" in words:
        return (
            "The network predicts next to no probability for a class that is empty, and the gradient of Dice is "
            "proportional to that."
        )
    if "flooded" in words:
        return (
            f"A class that is flooded is predicted over more than {FLOODED_RATIO:g} times its volume: the gradient of "
            "Dice shrinks as that volume grows, and vanishes where the network is sure of its voxels."
        )
    return "The gradient of Dice vanishes where the network is sure of a class, whether it is right or wrong."


def _of_absent(names: Sequence[str]) -> Iterator[str]:
    """A sentence about classes that no training case has."""
    if names:
        them = "it" if len(names) == 1 else "them"
        yield (
            f"{_listed(names)}: not in the training cases (no label map has {them}), so no training can learn {them}. "
            f"Add cases that have {them}, or prepare a store of the other classes (--classes FILE)."
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(title_of(name) for name in names)


def _failing(forecast: ArmForecast, classes: Sequence[str]) -> str:
    """The organs that an arm will leave behind, each with its chance and the class that will take its voxels."""
    said = []
    for at, name in enumerate(classes):
        if name in forecast.failing:
            taken = f", called {title_of(other)}" if (other := forecast.confused_with[at]) else ""
            said.append(f"{title_of(name)} ({forecast.failing_chance[at]:.0%}{taken})")
    return ", ".join(said)
