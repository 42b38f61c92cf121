"""The words for what went wrong in a training, the numbers behind them, and who they are said of.

docs/howto/why-an-arm-fails.md has the same table for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from viscera.core.anatomy import ABDOMEN, ClassTable, title_of

# The table of constants. Dice has no unit.
DEAD_DICE = 0.05  # dead: an organ whose Dice on the training windows is below
FAILING_DICE = 0.2  # failing: an organ of an arm whose Dice (mean over the test cases; in a run, over windows) is below
LEARNT_DICE = 0.5  # learnt: from here on; a class that has been learnt sends little gradient, and needs none
FAILED_DICE = LEARNT_DICE  # failed: an organ in one predicted case whose Dice is below
STARVING_PART = 0.1  # starving: a class whose share of the gradient is below this part of an equal share
BATCH_NORM_GAP = 0.1  # parting: the Dice by the statistics of each batch is further from that of the network as applied

WORDS = {  # for one Dice, worst first
    "dead": f"not found at all (Dice below {DEAD_DICE:g})",
    "failing": f"failing (Dice below {FAILING_DICE:g})",
    "weak": f"weak (Dice below {LEARNT_DICE:g})",
}
DICE_BATCH_STATISTICS = "dice_batch_statistics"  # key of curve.jsonl
_RECENT = 5  # logged steps over which a share is averaged: one batch does not hold every class
LEAST_POINTS = 4  # logged steps before anything is said


def starving_share(num_classes: int) -> float:
    """A tenth of an equal share of the gradient: below it a class starves."""
    return STARVING_PART / num_classes


def word_of(dice: float | None) -> str | None:
    """The word of `WORDS` for a Dice on the training windows; None: learnt, or not known."""
    if dice is None or dice >= LEARNT_DICE:
        return None
    return "dead" if dice < DEAD_DICE else "failing" if dice < FAILING_DICE else "weak"


@dataclass(frozen=True)
class LoggedStep:
    """What the judgement of a training needs of one logged step."""

    step: int  # optimiser steps done
    # class to hard Dice on the fixed training windows; None where the class is in none of them
    dice: Mapping[str, float | None]
    # class to its share of the gradient at the logits, summing to 1; empty where not logged
    gradient_share: Mapping[str, float]
    # as `dice`, with batch normalisation by the statistics of each batch of windows, as in training; empty where
    # not logged (in earlier runs)
    dice_batch_statistics: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "LoggedStep":
        """From one object of curve.jsonl."""
        found = (line.get(key) or {} for key in ("dice", "gradient_share", DICE_BATCH_STATISTICS))
        return cls(int(line["step"]), *found)


NOTHING_LOGGED = LoggedStep(0, {}, {})


@dataclass(frozen=True)
class Flag:
    """A class that a training leaves behind."""

    organ: str  # name of the class
    # `dead`: Dice below 0.05 for at least a quarter of the steps, after it was above or for want of gradient;
    # `unlearnt`: never above, with a fair share of the gradient; `starving`: gets less than a tenth of an equal
    # share of the gradient, and has a Dice below 0.5
    state: Literal["dead", "unlearnt", "starving"]
    since: int  # logged step from which on it has been so
    # mean share of the gradient over the last logged steps in which the class was present; None: not logged
    share: float | None

    def __str__(self) -> str:
        name = title_of(self.organ)
        if self.state == "unlearnt":
            return f"{name} not learnt yet"
        share = "" if self.share is None else f" ({_percent(self.share)} of the gradient)"
        return f"{name} {self.state} since step {self.since}{share}"


def flags(curve: Sequence[LoggedStep], classes: ClassTable = ABDOMEN) -> list[Flag]:
    """The classes left behind at the end of a curve, in label order; a dead class is not called starving as well.

    Background is called starving only: its Dice does not fall to 0.
    """
    if len(curve) < LEAST_POINTS:
        return []
    found = []
    enough = starving_share(len(classes))
    for organ in classes.names:
        share = recent_share(curve, organ)
        dead_since = None if organ == "background" else _dead_since(curve, organ)
        if dead_since is not None:
            alive_once = any((point.dice.get(organ) or 0.0) >= DEAD_DICE for point in curve)
            fed = share is not None and share >= enough
            found.append(Flag(organ, "unlearnt" if fed and not alive_once else "dead", dead_since, share))
        elif share is not None and share < enough and (curve[-1].dice.get(organ) or 0.0) < LEARNT_DICE:
            found.append(Flag(organ, "starving", _starving_since(curve, organ, enough), share))
    return found


class StatisticsGap(NamedTuple):
    """Where the network as applied does worse, or better, than with the statistics of each batch."""

    dice: float  # mean over the organs, as applied and by the statistics of each batch
    batch_dice: float
    organs: tuple[str, ...]  # those whose Dice part by more than `BATCH_NORM_GAP`; none where the means alone do

    def __str__(self) -> str:
        titles = ", ".join(title_of(organ) for organ in self.organs)
        return (
            f"mean Dice on the training windows is {self.dice:.2f} with the statistics of batch normalisation that the "
            f"model keeps, and {self.batch_dice:.2f} with those of each batch, as in training"
            + (f" (they part for {titles})" if titles else "")
        )


def statistics_gap(point: LoggedStep) -> StatisticsGap | None:
    """How far Dice with the statistics that the model keeps is from Dice with those of each batch.

    None where no organ's Dice and not their means part by more than `BATCH_NORM_GAP`, or where it was not logged.
    """
    own, batch = point.dice, point.dice_batch_statistics
    pairs = {name: (own.get(name), batch.get(name)) for name in batch if name != "background"}
    known = {name: (a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}
    if not known:
        return None
    dice, batch_dice = (sum(column) / len(known) for column in zip(*known.values(), strict=True))
    organs = tuple(name for name, (a, b) in known.items() if abs(a - b) > BATCH_NORM_GAP)
    return StatisticsGap(dice, batch_dice, organs) if organs or abs(dice - batch_dice) > BATCH_NORM_GAP else None


def batch_norm_remedy(batch_norm: str) -> str:
    """What to do where the two part, under a setting of `train.batch_norm`."""
    if batch_norm == "running":
        return "Train with --set train.batch_norm=recomputed: running means lag behind the weights."
    return (
        "The windows of one batch differ from one another: measure and recompute over more of them "
        "(--set train.monitor_windows=48), or train with larger batches or a lower rate."
    )


def summary(found: Sequence[Flag]) -> str:
    """Flags in one line, those alike together: `artery, pancreas not learnt yet; spleen dead since step 60 (…)`."""
    unlearnt = [title_of(flag.organ) for flag in found if flag.state == "unlearnt"]
    parts = [f"{', '.join(unlearnt)} not learnt yet"] if unlearnt else []
    return "; ".join([*parts, *(str(flag) for flag in found if flag.state != "unlearnt")])


def recent_share(curve: Sequence[LoggedStep], organ: str) -> float | None:
    """Mean share of the gradient of a class over the last five logged steps in which it was present."""
    shares = [share for point in curve if (share := point.gradient_share.get(organ, 0.0)) > 0]
    return sum(shares[-_RECENT:]) / len(shares[-_RECENT:]) if shares else None


def _dead_since(curve: Sequence[LoggedStep], organ: str) -> int | None:
    known = [(point.step, value) for point in curve if (value := point.dice.get(organ)) is not None]
    dead = [step for step, _ in takewhile(lambda each: each[1] < DEAD_DICE, reversed(known))]
    last = curve[-1].step
    return dead[-1] if dead and last - dead[-1] >= last / 4 else None


def _starving_since(curve: Sequence[LoggedStep], organ: str, enough: float) -> int:
    def starves(end: int) -> bool:
        share = recent_share(curve[:end], organ)
        return share is not None and share < enough

    ends = takewhile(starves, reversed(range(LEAST_POINTS, len(curve) + 1)))
    return curve[min(ends, default=len(curve)) - 1].step


def step_kept(line: Mapping[str, Any]) -> float | None:
    """Share of Adam's step that epsilon left, mean over the layers, from an object of curve.jsonl; None: not there."""
    with_epsilon, without = line.get("step_over_rate") or {}, line.get("step_over_rate_without_epsilon") or {}
    ratios = [value / without[layer] for layer, value in with_epsilon.items() if without.get(layer)]
    return sum(ratios) / len(ratios) if ratios else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "<0.1 %"
