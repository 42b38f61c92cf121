"""Several models as one: each organ from the model that was best at it, conflicts settled by probability.

An organ's own model claims the voxels whose most probable class is that organ (or those from a threshold on). A voxel
that no organ's model claims is background; a voxel that one claims is that organ's. So without thresholds and conflicts
every organ's mask, and hence its Dice, is exactly that of its own model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class FusionRule:
    """Who gets a voxel. All sequences (L - 1,), organs in label order.

    Attributes:
        models: index of each organ's own model.
        weights: factors on the evidence, above 0.
        thresholds: probability from which an organ's model claims a voxel; 0: wherever the organ is its most probable
            class.
        evidence: own: the probability that an organ's own model gives it; mean: the mean over all models.
    """

    models: tuple[int, ...]
    weights: tuple[float, ...]
    thresholds: tuple[float, ...]
    evidence: Literal["own", "mean"] = "own"

    @classmethod
    def plain(cls, models: tuple[int, ...], evidence: Literal["own", "mean"] = "own") -> "FusionRule":
        """By probabilities alone."""
        return cls(models, (1.0,) * len(models), (0.0,) * len(models), evidence)


def claims(probabilities_MLIJK: Sequence[Tensor], models: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What each organ's own model says of it.

    Args:
        probabilities_MLIJK: (L, I, J, K) of each model, on one grid.
        models: (L - 1,) index of each organ's own model.

    Returns:
        (L - 1, I, J, K) bool, where the organ is its model's most probable class; and its probability there, of the
        same shape.
    """
    most_probable = [probabilities.argmax(dim=0) for probabilities in probabilities_MLIJK]
    claimed = torch.stack([most_probable[model] == label for label, model in enumerate(models, start=1)])
    return claimed, torch.stack([probabilities_MLIJK[model][label] for label, model in enumerate(models, start=1)])


def mean_probabilities(probabilities_MLIJK: Sequence[Tensor]) -> Tensor:
    """(L - 1, I, J, K) mean over the models of each organ's probability."""
    return torch.stack([probabilities[1:] for probabilities in probabilities_MLIJK]).mean(dim=0)


def winners(claimed: Tensor, own: Tensor, evidence: Tensor, rule: FusionRule) -> Tensor:
    """The label of every voxel: of the claiming organs the one of the most weighted evidence, the lower label at a tie.

    Args:
        claimed: (L - 1, …) bool: is the organ its model's most probable class?
        own: (L - 1, …) probabilities of the organs' own models.
        evidence: (L - 1, …) probabilities that decide conflicts.
        rule: weights and thresholds.

    Returns:
        (…) uint8; 0 where no organ claims the voxel.
    """
    shape = (len(claimed),) + (1,) * (claimed.ndim - 1)
    weights = torch.tensor(rule.weights, dtype=torch.float32).reshape(shape)
    thresholds = torch.tensor(rule.thresholds, dtype=torch.float32).reshape(shape)
    kept = torch.where(thresholds > 0, own >= thresholds, claimed)
    scores = torch.where(kept, evidence * weights, -1.0)
    best, organ = scores.max(dim=0)
    return torch.where(best >= 0, organ + 1, 0).to(torch.uint8)


def combine(probabilities_MLIJK: Sequence[Tensor], rule: FusionRule) -> Tensor:
    """One label map of several models' probabilities.

    Args:
        probabilities_MLIJK: (L, I, J, K) of each model, on one grid.
        rule: who gets a voxel.

    Returns:
        (I, J, K) uint8.
    """
    claimed, own = claims(probabilities_MLIJK, rule.models)
    evidence = own if rule.evidence == "own" else mean_probabilities(probabilities_MLIJK)
    return winners(claimed, own, evidence, rule)


def distinct_models(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names without repetition, in order of appearance; and the index of each among them."""
    listed = list(names)
    unique = tuple(dict.fromkeys(listed))
    return unique, tuple(unique.index(name) for name in listed)
