"""The words for what went wrong in a training, the numbers behind them, and who they are said of.

docs/howto/why-an-arm-fails.md has the same table for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from viscera.core.anatomy import ABDOMEN, ClassTable, title_of

# The table of constants. Dice has no unit.
LOST_DICE = 0.05  # lost: an organ whose Dice on the training windows is below; how, the words of `words_of` say
FAILING_DICE = 0.2  # failing: an organ of an arm whose Dice (mean over the test cases; in a run, over windows) is below
LEARNT_DICE = 0.5  # learnt: from here on; a class that has been learnt sends little gradient, and needs none
FAILED_DICE = LEARNT_DICE  # failed: an organ in one predicted case whose Dice is below
STARVING_PART = 0.1  # starving: a class whose share of the gradient is below this part of an equal share
BATCH_NORM_GAP = 0.1  # parting: the Dice by the statistics of each batch is further from that of the network as applied

# empty, flooded: of a class that is not learnt, whose predicted volume over its true one is below, or above. A Dice is
# at most 2 min(P, R) / (P + R) with the volumes P predicted and R true, wherever the voxels lie. So below a ninth the
# volume alone makes a class failing, and above three times it alone keeps it from being learnt.
EMPTY_RATIO = FAILING_DICE / (2 - FAILING_DICE)
FLOODED_RATIO = (2 - LEARNT_DICE) / LEARNT_DICE

WORDS = {  # why a class is not learnt; what comes first is said first
    "empty": "empty (less than a ninth of its volume is predicted)",
    "flooded": f"flooded (more than {FLOODED_RATIO:g} times its volume is predicted)",
    "confused": "confused (more of its voxels are called another organ than are called anything else)",
    "failing": f"failing (Dice below {FAILING_DICE:g})",
    "weak": f"weak (Dice below {LEARNT_DICE:g})",
}
DICE_BATCH_STATISTICS = "dice_batch_statistics"  # keys of curve.jsonl
VOLUME_RATIO, MOSTLY_CALLED = "volume_ratio", "mostly_called"
_RECENT = 5  # logged steps over which a share is averaged: one batch does not hold every class
LEAST_POINTS = 4  # logged steps before anything is said


def starving_share(num_classes: int) -> float:
    """A tenth of an equal share of the gradient: below it a class starves."""
    return STARVING_PART / num_classes


class Outcome(NamedTuple):
    """What became of a class over some voxels: of training windows, or of whole cases."""

    dice: float | None  # None: it is neither there nor predicted, or was not measured
    volume_ratio: float | None = None  # predicted over true volume; None: no voxel is it, or not measured
    # name of the class that more of its voxels are called than any other, of equals its own; None: as above
    mostly_called: str | None = None


def words_of(organ: str, outcome: Outcome) -> tuple[str, ...]:
    """Why a class is not learnt, in words of `WORDS`; empty: it is learnt (Dice of at least 0.5), or nothing is known.

    `empty` and `flooded` are said of the predicted volume, `confused` of where the class's own voxels went; a class may
    be one of the first two and the third. They differ in what helps: an empty class is not claimed, a flooded one
    claims what others should, and a confused one is told from background but not from another organ. A class whose own
    voxels are mostly called background is missed, and not confused; background itself is confused when most of it is
    called an organ. Where none of the three holds (the volume is about right and lies elsewhere, or was not measured)
    the Dice alone decides between `failing` and `weak`.
    """
    dice, ratio, called = outcome
    if dice is None or dice >= LEARNT_DICE:
        return ()
    found = []
    if ratio is not None and ratio < EMPTY_RATIO:
        found.append("empty")
    if ratio is not None and ratio > FLOODED_RATIO:
        found.append("flooded")
    if called is not None and called not in {organ, "background"}:
        found.append("confused")
    return tuple(found) or ("failing" if dice < FAILING_DICE else "weak",)


def said_of(organ: str, outcome: Outcome) -> str:
    """The words for people, and which organ a confused class is called: `empty, called stomach`; empty: none."""
    words = words_of(organ, outcome)
    return ", ".join(f"called {title_of(outcome.mostly_called or '')}" if w == "confused" else w for w in words)


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
    # the rest of each class's `Outcome` on the fixed training windows; empty where not logged (in earlier runs)
    volume_ratio: Mapping[str, float | None] = field(default_factory=dict)
    mostly_called: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "LoggedStep":
        """From one object of curve.jsonl."""
        shares, *outcomes = (line.get(key) or {} for key in ("gradient_share", VOLUME_RATIO, MOSTLY_CALLED))
        dice, by_batch = (dice_of_present(line, key) for key in ("dice", DICE_BATCH_STATISTICS))
        return cls(int(line["step"]), dice, shares, by_batch, *outcomes)

    def outcome(self, organ: str) -> Outcome:
        """What had become of a class by this step."""
        return Outcome(self.dice.get(organ), self.volume_ratio.get(organ), self.mostly_called.get(organ))


def dice_of_present(line: Mapping[str, Any], key: str = "dice") -> dict[str, float | None]:
    """Dice by class on the fixed windows from an object of curve.jsonl, None of a class that no window has.

    It is logged there as 0 where it is predicted, which is no failure to learn it. Runs of before do not say of which
    classes that is so.
    """
    volumes = line.get(VOLUME_RATIO) or {}
    return {name: None if volumes.get(name, 1.0) is None else dice for name, dice in (line.get(key) or {}).items()}


NOTHING_LOGGED = LoggedStep(0, {}, {})


@dataclass(frozen=True)
class Flag:
    """A class that a training leaves behind."""

    organ: str  # name of the class
    # `lost`: Dice below 0.05 for at least a quarter of the steps, after it was above or for want of gradient;
    # `unlearnt`: never above, with a fair share of the gradient; `starving`: gets less than a tenth of an equal
    # share of the gradient, and has a Dice below 0.5
    state: Literal["lost", "unlearnt", "starving"]
    since: int  # logged step from which on it has been so
    # mean share of the gradient over the last logged steps in which the class was present; None: not logged
    share: float | None
    how: str = ""  # as `said_of`, at the last logged step; empty: not known

    def __str__(self) -> str:
        name, how = title_of(self.organ), f" ({self.how})" if self.how else ""
        if self.state == "unlearnt":
            return f"{name} not learnt yet{how}"
        dice = ": " + ", ".join(filter(None, (self.how, f"Dice below {LOST_DICE:g}")))
        what = " has received little gradient" if self.state == "starving" else dice
        share = "" if self.share is None else f" ({_percent(self.share)} of the gradient)"
        return f"{name}{what} since step {self.since}{share}"


def flags(curve: Sequence[LoggedStep], classes: ClassTable = ABDOMEN) -> list[Flag]:
    """The classes left behind at the end of a curve, in label order; a lost class is not called starving as well.

    Background is called starving only: its Dice does not fall to 0.
    """
    if len(curve) < LEAST_POINTS:
        return []
    found = []
    enough = starving_share(len(classes))
    for organ in classes.names:
        share = recent_share(curve, organ)
        lost_since = None if organ == "background" else _lost_since(curve, organ)
        if lost_since is not None:
            found_once = any((point.dice.get(organ) or 0.0) >= LOST_DICE for point in curve)
            fed = share is not None and share >= enough
            state: Literal["lost", "unlearnt"] = "unlearnt" if fed and not found_once else "lost"
            found.append(Flag(organ, state, lost_since, share, _how(curve[-1], organ)))
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
            f"mean Dice on the training patches is {self.dice:.2f} with the statistics of batch normalisation that the "
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
        "The patches of one batch differ from one another: measure and recompute over more of them "
        "(--set train.monitor_windows=48), or train with larger batches or a lower rate."
    )


def summary(found: Sequence[Flag]) -> str:
    """Flags in one line, those alike together: `artery, liver not learnt yet (empty); spleen …`."""
    alike: dict[str, list[str]] = {}
    for flag in found:
        if flag.state == "unlearnt":
            alike.setdefault(flag.how, []).append(title_of(flag.organ))
    unlearnt = (f"{', '.join(names)} not learnt yet" + (f" ({how})" if how else "") for how, names in alike.items())
    return "; ".join([*unlearnt, *(str(flag) for flag in found if flag.state != "unlearnt")])


def recent_share(curve: Sequence[LoggedStep], organ: str) -> float | None:
    """Mean share of the gradient of a class over the last five logged steps in which it was present."""
    shares = [share for point in curve if (share := point.gradient_share.get(organ, 0.0)) > 0]
    return sum(shares[-_RECENT:]) / len(shares[-_RECENT:]) if shares else None


def _how(point: LoggedStep, organ: str) -> str:
    """Empty, flooded or confused at a step; not that its Dice is low, which is known."""
    outcome = point.outcome(organ)
    is_known = outcome.volume_ratio is not None and not {"failing", "weak"} & {*words_of(organ, outcome)}
    return said_of(organ, outcome) if is_known else ""


def _lost_since(curve: Sequence[LoggedStep], organ: str) -> int | None:
    known = [(point.step, value) for point in curve if (value := point.dice.get(organ)) is not None]
    lost = [step for step, _ in takewhile(lambda each: each[1] < LOST_DICE, reversed(known))]
    last = curve[-1].step
    return lost[-1] if lost and last - lost[-1] >= last / 4 else None


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
