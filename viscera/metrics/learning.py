"""Which classes a training leaves behind: starving (no gradient) and dead (no Dice), and since when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from viscera.core.anatomy import ABDOMEN, ClassTable, title_of

DEAD_DICE = 0.05
LEARNT_DICE = 0.5  # a class that has been learnt sends little gradient, and needs none
_RECENT = 5  # logged steps over which a share is averaged: one batch does not hold every class
_LEAST_POINTS = 4  # logged steps before anything is said


def starving_share(num_classes: int) -> float:
    """A tenth of an equal share of the gradient: below it a class starves."""
    return 0.1 / num_classes


@dataclass(frozen=True)
class LoggedStep:
    """What the judgement of a training needs of one logged step.

    Attributes:
        step: optimiser steps done.
        dice: class to hard Dice on the fixed training windows; None where the class is in none of them.
        gradient_share: class to its share of the gradient at the logits, summing to 1; empty where not logged.
    """

    step: int
    dice: Mapping[str, float | None]
    gradient_share: Mapping[str, float]

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "LoggedStep":
        """From one object of curve.jsonl."""
        return cls(int(line["step"]), line.get("dice") or {}, line.get("gradient_share") or {})


NOTHING_LOGGED = LoggedStep(0, {}, {})


@dataclass(frozen=True)
class Flag:
    """A class that a training leaves behind.

    Attributes:
        organ: name of the class.
        state: `dead`: Dice below 0.05 for at least a quarter of the steps, after it was above or for want of gradient;
            `unlearnt`: never above, with a fair share of the gradient; `starving`: gets less than a tenth of an equal
            share of the gradient, and has a Dice below 0.5.
        since: logged step from which on it has been so.
        share: mean share of the gradient over the last logged steps in which the class was present; None: not logged.
    """

    organ: str
    state: Literal["dead", "unlearnt", "starving"]
    since: int
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
    if len(curve) < _LEAST_POINTS:
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
    since = None
    for point in reversed(curve):
        value = point.dice.get(organ)
        if value is not None and value >= DEAD_DICE:
            break
        since = point.step if value is not None else since
    last = curve[-1].step
    return since if since is not None and last - since >= last / 4 else None


def _starving_since(curve: Sequence[LoggedStep], organ: str, enough: float) -> int:
    since = curve[-1].step
    for end in reversed(range(_LEAST_POINTS, len(curve) + 1)):
        share = recent_share(curve[:end], organ)
        if share is None or share >= enough:
            break
        since = curve[end - 1].step
    return since


def step_kept(line: Mapping[str, Any]) -> float | None:
    """Share of Adam's step that epsilon left, mean over the layers, from an object of curve.jsonl; None: not there."""
    with_epsilon, without = line.get("step_over_rate") or {}, line.get("step_over_rate_without_epsilon") or {}
    ratios = [value / without[layer] for layer, value in with_epsilon.items() if without.get(layer)]
    return sum(ratios) / len(ratios) if ratios else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "<0.1 %"
