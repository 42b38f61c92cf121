"""What `viscera doctor` advises, in plain sentences: each names what was found and what to do."""

from collections.abc import Mapping, Sequence

from viscera.core.anatomy import ClassTable, title_of
from viscera.core.arms import Arm, weighting_name
from viscera.core.config import TrainConfig
from viscera.doctor.forecast_rule import ArmForecast
from viscera.metrics.learning import (
    FAILING_DICE,
    WORDS,
    LoggedStep,
    batch_norm_remedy,
    flags,
    recent_share,
    starving_share,
    statistics_gap,
    word_of,
)

_RARE = 0.5  # of the batches
_KEPT = 0.5  # of the step
_SHIFT = "A lower power (--weighting 0.5), train.loss.background=mean or train.loss.max_ratio shift the shares."
_ENLARGE = "train.loss.normalise=sum_to_L, a smaller train.adam.epsilon or a rate that much higher makes up for it."


def store_advice(
    forecasts: Sequence[ArmForecast], arms: Sequence[Arm], batches_with_class: Mapping[str, float], best: Arm
) -> list[str]:
    """Plain sentences about the arms: each names what was found and what to do."""
    sentences = []
    for arm, forecast in zip(arms, forecasts, strict=True):
        if forecast.failing:
            sentences.append(
                f"{arm.title}: {_listed(forecast.failing)} will most likely end below a Dice of {FAILING_DICE:g}."
            )
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
    rare = [name for name, share in batches_with_class.items() if share < _RARE]
    if rare:
        sentences.append(
            f"{_listed(rare)}: in fewer than half of the mini-batches. A class that is absent from a batch sends no "
            "gradient; larger windows (--patch) or batches (--batch-size) show it more often."
        )
    return sentences


def run_advice(curve: Sequence[LoggedStep], kept: float | None, train: TrainConfig, classes: ClassTable) -> list[str]:
    """Plain sentences about a run; that no class is left behind only where every measured organ is learnt."""
    sentences, found, last = [], flags(curve, classes), curve[-1]
    gap = statistics_gap(last)
    if gap is not None:
        sentences.append(f"{str(gap)[0].upper()}{str(gap)[1:]}. {batch_norm_remedy(train.batch_norm)}")
    starved = [f.organ for f in found if f.share is not None and f.share < starving_share(len(classes))]
    if starved:
        sentences.append(
            f"{_listed(starved)}: less than a tenth of an equal share of the gradient. That is the direction of the "
            f"weights. {_SHIFT}"
        )
    judged: dict[str, list[str]] = {}
    for organ in classes.names[1:]:
        word, hidden = word_of(last.dice.get(organ)), gap is not None and organ in gap.organs
        if word is not None and organ not in starved and not hidden:
            fed = (recent_share(curve, organ) or 0.0) >= starving_share(len(classes))
            what = WORDS[word] + (" in spite of a fair share of the gradient" if fed else "")
            judged.setdefault(what, []).append(organ)
    sentences += [
        f"{_listed(organs)}: {what}. Train longer, or with another rate (now {train.learning_rate:g})."
        for what, organs in judged.items()
    ]
    unseen = [organ for organ in classes.names if last.dice.get(organ) is None]
    if unseen:
        sentences.append(f"{_listed(unseen)}: in none of the training windows that are measured; nothing is known.")
    if kept is not None and kept < _KEPT:
        sentences.append(f"Adam's epsilon left {kept:.1%} of the step: the gradient is small beside it. {_ENLARGE}")
    return sentences or ["No class is left behind: every organ has a Dice of at least 0.5 on the training windows."]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(title_of(name) for name in names)
