"""Settling, on validation cases, who gets the voxels that the models of several organs claim.

Without conflicts a fused organ has the Dice of its own model. A conflict takes voxels from all claiming organs but one,
which may lower or raise their Dice. What is tried, in this order, until no organ is below its own model: the larger
probability, by the organs' own models or by the mean over all; the same with a weight an organ; with a threshold an
organ as well; each for one organ at a time, then for several at once. So the settings depart from plain probabilities
only as far as the validation cases ask for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, product
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.engine.fusion_rule import FusionRule, claims, mean_probabilities, winners

SettledBy = Literal["probabilities", "weights", "weights and thresholds"]
WEIGHTS = tuple(2.0 ** (k / 2) for k in range(-12, 13))
THRESHOLDS = (0.0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95)  # 0: the most probable class
_LOWEST = THRESHOLDS[1]
_EVIDENCE: tuple[Literal["own", "mean"], ...] = ("own", "mean")
_MOST_ROUNDS = 10
_COARSE = 2  # every other weight and threshold, one organ at a time
_JUMPS = 3000  # several organs at once, anywhere on the grid

Counts = npt.NDArray[np.int64]
OrganDice = tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class CaseTally:
    """What one validation case says about conflicts.

    Attributes:
        truth: (L - 1,) voxels of each organ in the reference.
        sole: (thresholds, L - 1, 2) voxels that only one organ could claim, as far as it does at each of `THRESHOLDS`:
            all, and those of the reference.
        claimed: (L - 1, N) bool, at each of the N voxels that several organs could claim: is it most probable?
        own, mean: (L - 1, N) float32 probabilities there, by the organ's own model and as the mean over the models.
        labels: (N,) of the reference there.
        labelled: (L - 1,) whether the case labels each organ; those that it does not are left out of means.
    """

    truth: Counts
    sole: Counts
    claimed: Tensor
    own: Tensor
    mean: Tensor
    labels: Tensor
    labelled: tuple[bool, ...]

    @classmethod
    def of_slabs(
        cls,
        slabs: Iterable[tuple[Sequence[Tensor], npt.NDArray[np.uint8]]],
        models: Sequence[int],
        labelled: Sequence[bool] | None = None,
    ) -> "CaseTally":
        """From (L, I, J, k) probabilities of each model and (I, J, k) labels of the reference, slab by slab."""
        organs = len(models)
        of_organs = _labels(organs).reshape(-1, 1, 1, 1)
        truth, sole = np.zeros(organs, np.int64), np.zeros((len(THRESHOLDS), organs, 2), np.int64)
        contested: list[tuple[Tensor, ...]] = []
        for probabilities, reference in slabs:
            labels = torch.from_numpy(np.ascontiguousarray(reference)).long()
            claimed, own = claims(probabilities, models)
            truth += torch.bincount(labels.ravel(), minlength=organs + 1)[1:].numpy()
            number = (claimed | (own >= _LOWEST)).sum(dim=0)
            place = number > 1
            for at, threshold in enumerate(THRESHOLDS):
                kept = (own >= threshold if threshold else claimed) & (number == 1)
                hits = kept & (labels == of_organs)
                sole[at] += torch.stack([kept.flatten(1).sum(dim=1), hits.flatten(1).sum(dim=1)], dim=1).numpy()
            mean = mean_probabilities(probabilities)
            contested.append((claimed[:, place], own[:, place], mean[:, place], labels[place]))
        parts = [torch.cat(column, dim=-1) for column in zip(*contested, strict=True)]
        claimed, own, mean, labels = parts
        return cls(truth, sole, claimed, own, mean, labels, tuple(labelled or [True] * organs))

    def dice(self, rule: FusionRule) -> OrganDice:
        """(L - 1,) Dice of the fused label map; None where an organ is in neither."""
        labels = winners(self.claimed, self.own, self.own if rule.evidence == "own" else self.mean, rule).long()
        length = len(self.truth) + 1
        won = torch.bincount(labels, minlength=length)[1:].numpy()
        hits = torch.bincount(labels[labels == self.labels], minlength=length)[1:].numpy()
        sole = self.sole[[THRESHOLDS.index(t) for t in rule.thresholds], range(len(self.truth))]
        return _dice(sole[:, 1] + hits, sole[:, 0] + won + self.truth)

    def own_dice(self) -> OrganDice:
        """(L - 1,) Dice of each organ as its own model alone labels it."""
        hits = (self.claimed & (self.labels == _labels(len(self.truth)).unsqueeze(1))).sum(dim=1).numpy()
        sole = self.sole[0]
        return _dice(sole[:, 1] + hits, sole[:, 0] + self.claimed.sum(dim=1).numpy() + self.truth)


@dataclass(frozen=True)
class Settlement:
    """How conflicts are settled, and what that gives on the validation cases; sequences (L - 1,).

    Attributes:
        rule: weights, thresholds and evidence.
        settled_by: how far it departs from plain probabilities.
        alone: mean Dice of each organ as its own model labels it.
        fused: mean Dice of the fused label map.
    """

    rule: FusionRule
    settled_by: SettledBy
    alone: OrganDice
    fused: OrganDice

    @property
    def shortfall(self) -> float:
        """Sum over organs of how far the fused label map is below; 0 where the promise holds."""
        return sum(max(0.0, (a or 0.0) - (f or 0.0)) for a, f in zip(self.alone, self.fused, strict=True))

    @property
    def below(self) -> tuple[int, ...]:
        """Labels of the organs that are below their own model."""
        pairs = enumerate(zip(self.alone, self.fused, strict=True), start=1)
        return tuple(label for label, (alone, fused) in pairs if (fused or 0.0) < (alone or 0.0))


def settle(tallies: Sequence[CaseTally], models: tuple[int, ...], *, absent_is_one: bool = False) -> Settlement:
    """Find settings under which no organ is below its own model, as near to plain probabilities as possible.

    Args:
        tallies: of the validation cases.
        models: (L - 1,) index of each organ's own model.
        absent_is_one: an organ in neither label map counts as 1, instead of being left out of the mean.

    Returns:
        The first settlement found without shortfall; else the one with the least.
    """
    labelled = list(zip(*(tally.labelled for tally in tallies), strict=True))
    absent = 1.0 if absent_is_one else None

    def mean(rows: Iterable[OrganDice]) -> OrganDice:
        columns = zip(zip(*rows, strict=True), labelled, strict=True)
        counting = ([absent if v is None else v for v in compress(column, known)] for column, known in columns)
        defined = ([value for value in values if value is not None] for values in counting)
        return tuple(float(np.mean(values)) if values else None for values in defined)

    alone = mean(tally.own_dice() for tally in tallies)

    def of(rule: FusionRule, by: SettledBy) -> Settlement:
        return Settlement(rule, by, alone, mean(tally.dice(rule) for tally in tallies))

    plain = [of(FusionRule.plain(models, evidence), "probabilities") for evidence in _EVIDENCE]
    tried = list(plain)
    levers: tuple[tuple[SettledBy, tuple[float, ...]], ...] = (
        ("weights", THRESHOLDS[:1]),
        ("weights and thresholds", THRESHOLDS),
    )
    for search in (_one_at_a_time, _several_at_once):
        for by, thresholds in levers:
            for evidence in _EVIDENCE:
                if any(each.shortfall == 0 for each in tried):
                    break
                start = min((each for each in tried if each.rule.evidence == evidence), key=_rank)
                tried.append(search(start, thresholds, lambda rule, by=by: of(rule, by)))  # type: ignore[misc]
    return min(tried, key=lambda each: each.shortfall)


def _rank(settlement: Settlement) -> tuple[float, float]:
    """Lower is better: first no organ below its own model, then a high mean, which leaves room for others."""
    return settlement.shortfall, -sum(value or 0.0 for value in settlement.fused)


def _one_at_a_time(
    start: Settlement, thresholds: Sequence[float], of: Callable[[FusionRule], Settlement]
) -> Settlement:
    """Give one organ after the other the weight and threshold that help most, as long as something helps."""
    now = start
    for _ in range(_MOST_ROUNDS):
        before = now
        for organ in range(len(now.rule.models)):
            for weight, threshold in product(WEIGHTS[::_COARSE], thresholds[::_COARSE]):
                now = min(now, of(_changed(now.rule, {organ: (weight, threshold)})), key=_rank)
            if now.shortfall == 0:
                return now
        if now is before:
            break
    return now


def _several_at_once(
    start: Settlement, thresholds: Sequence[float], of: Callable[[FusionRule], Settlement]
) -> Settlement:
    """Try settings of two to four organs at random, always the same, and keep what is better."""
    now, random = start, np.random.default_rng(0)
    number = len(now.rule.models)
    for _ in range(_JUMPS):
        organs = random.choice(number, size=min(int(random.integers(2, 5)), number), replace=False)
        changes = {int(o): (float(random.choice(WEIGHTS)), float(random.choice(thresholds))) for o in organs}
        now = min(now, of(_changed(now.rule, changes)), key=_rank)
        if now.shortfall == 0:
            break
    return now


def _changed(rule: FusionRule, changes: Mapping[int, tuple[float, float]]) -> FusionRule:
    """With weight and threshold of some organs, by index, replaced."""
    weights, thresholds = list(rule.weights), list(rule.thresholds)
    for organ, (weight, threshold) in changes.items():
        weights[organ], thresholds[organ] = weight, threshold
    return replace(rule, weights=tuple(weights), thresholds=tuple(thresholds))


def _labels(organs: int) -> Tensor:
    """(L - 1,) labels of the organs."""
    return torch.arange(1, organs + 1)


def _dice(intersection: Counts, cardinality: Counts) -> OrganDice:
    return tuple(2 * int(i) / int(c) if c else None for i, c in zip(intersection, cardinality, strict=True))
