"""Which class the voxels of each class are called: shares, volumes, and classes that are taken for one another.

A Dice near 0 does not say where the voxels went, and that of the organs does not say what became of background. The
words for what is found here are in `metrics.learning`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ClassTable
from viscera.metrics.learning import LEARNT_DICE, Outcome, words_of
from viscera.metrics.overlap import dice

LINKED_SHARE = 0.2  # of the voxels of a class that is not learnt: from there on it is taken for what they are called


class Group(NamedTuple):
    """Classes that are taken for one another."""

    organs: tuple[str, ...]  # names, in label order; two or more
    dice: float  # of all of them as one class
    rest_dice: float | None  # of all others as one class; None: no voxel is one of them
    mean_dice: float  # of each by itself, over those that have a Dice


@dataclass(frozen=True, eq=False)
class Confusion:
    """Voxels by what they are and what they are called."""

    classes: ClassTable
    voxels: npt.NDArray[np.int64]  # (L, L) by class in the reference (rows) and in the prediction (columns)

    @classmethod
    def of_matrix(cls, confusion_LL: npt.NDArray[np.int64], classes: ClassTable) -> "Confusion":
        """Of a matrix as `metrics.overlap.confusion_matrix` makes it: predictions in rows."""
        return cls(classes, confusion_LL.T)

    def __add__(self, other: "Confusion") -> "Confusion":
        """The voxels of both together."""
        return Confusion(self.classes, self.voxels + other.voxels)

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(L, L) of the voxels of each class (row) the share that is called each class; NaN of a class without any."""
        true_L1 = self.voxels.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = np.where(true_L1 > 0, self.voxels / np.maximum(true_L1, 1), np.nan)
        return shares

    @cached_property
    def precisions(self) -> list[float | None]:
        """(L,) of the voxels that are called a class the share that is it; None where none is."""
        right_L, called_L = np.diagonal(self.voxels).tolist(), self.voxels.sum(axis=0).tolist()
        return [right / called if called else None for right, called in zip(right_L, called_L, strict=True)]

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of each class, by name; Dice over all voxels together."""
        names, found = self.classes.names, {}
        for label, (name, value) in enumerate(zip(names, dice(self.voxels), strict=True)):
            true, called = int(self.voxels[label].sum()), int(self.voxels[:, label].sum())
            most = int(self.voxels[label].argmax())
            own = self.voxels[label, label] == self.voxels[label, most]
            ratio, mostly = (called / true, name if own else names[most]) if true else (None, None)
            found[name] = Outcome(value, ratio, mostly)
        return found

    def words(self, name: str) -> tuple[str, ...]:
        """Why a class is not learnt (`words_of`).

        None of a class without any voxel: it has a Dice of 0 where it is predicted, which is no failure to learn it.
        """
        outcome = self.outcomes[name]
        return words_of(name, outcome) if outcome.volume_ratio is not None else ()

    @cached_property
    def group(self) -> Group | None:
        """The most classes that are taken for one another; None: none are.

        A class that is not learnt is taken for another where a fifth of its voxels is called so, and classes that are
        joined by others are one group. Organs that are called background are missed, and that joins them to nothing;
        background that is called an organ is joined to it. Of groups of as many classes that of most voxels counts.
        """
        values = [self.outcomes[name].dice for name in self.classes.names]
        linked = np.nan_to_num(self.shares) >= LINKED_SHARE
        linked[:, 0] = False
        linked[[value is None or value >= LEARNT_DICE for value in values]] = False
        linked |= linked.T | np.eye(len(self.classes), dtype=np.bool_)
        for _ in range(len(self.classes).bit_length()):  # what is joined to what is joined, twice as far each time
            linked = (linked.astype(np.int64) @ linked) > 0
        groups: list[list[int]] = [np.flatnonzero(row).tolist() for row in linked if row.sum() > 1]
        if not groups:
            return None
        labels = max(groups, key=lambda each: (len(each), int(self.voxels[each].sum()), each))
        outside = [label for label in range(len(self.classes)) if label not in labels]
        names = tuple(self.classes.names[label] for label in labels)
        own = [value for label in labels if (value := values[label]) is not None]
        rest = self._as_one(outside) if self.voxels[outside].any() else None
        return Group(names, self._as_one(labels) or 0.0, rest, sum(own) / len(own))

    def _as_one(self, labels: list[int]) -> float | None:
        """Dice of some classes as one; None of no voxel, in truth or prediction."""
        within = int(self.voxels[np.ix_(labels, labels)].sum())
        sizes = int(self.voxels[labels].sum() + self.voxels[:, labels].sum())
        return 2 * within / sizes if sizes else None
