"""Where the patches of a training fall: a pure function of the seed, the step and the slot, on any machine."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.engine.feed import feed_of, training_cases
from viscera.io.store import Store

MOST_STEPS = 20_000


class TrainingPatches:
    """The patches that a configuration cuts from a store."""

    def __init__(self, store: Store, train: TrainConfig) -> None:
        """Raises BadInputError where the store has no training cases, or fewer than a batch."""
        self.names, self.train = training_cases(store), train
        self.feed = feed_of(store, train)

    def of_step(self, step: int) -> dict[str, Any]:
        """Case, first voxel and the one past the last of each patch, on the prepared grid; the settings they follow."""
        if not 1 <= step <= self.train.iterations:
            raise BadInputError(f"step {step}: 1 to {self.train.iterations:,} were expected.")
        patches = []
        for number, origin in self.feed.places(step):
            past = [first + self.train.patch for first in origin]
            patches.append({"case": self.names[number], "first": list(origin), "past": past})
        about = {"patch": self.train.patch, "seed": self.train.seed, "iterations": self.train.iterations}
        return {**about, "batch_size": self.train.batch_size, "step": step, "patches": patches}

    def coverage(self, case: str, steps: int) -> npt.NDArray[np.int32]:
        """(I, J, K) how many patches of the first steps each voxel of a case was in."""
        if not 1 <= steps <= min(self.train.iterations, MOST_STEPS):
            most = min(self.train.iterations, MOST_STEPS)
            raise BadInputError(f"{steps} steps: 1 to {most:,} were expected.")
        shape = self.feed.cases[self.names.index(case)][0].shape if case in self.names else None
        if shape is None:
            raise BadInputError(f"{case}: this is not a training case; no patch is cut from it.")
        corners = np.zeros([n + 1 for n in shape], dtype=np.int32)
        for first in self._of_case(case, steps):
            past = [min(a + self.train.patch, n) for a, n in zip(first, shape, strict=True)]
            _mark(corners, first, past)
        for axis in range(3):
            np.cumsum(corners, axis=axis, out=corners)
        return corners[: shape[0], : shape[1], : shape[2]]

    def _of_case(self, case: str, steps: int) -> Iterator[Index3]:
        wanted = self.names.index(case)
        for step in range(1, steps + 1):
            yield from (origin for number, origin in self.feed.places(step) if number == wanted)


def _mark(corners: npt.NDArray[np.int32], first: Index3, past: list[int]) -> None:
    """Add a box to what becomes, by sums along each axis, the number of boxes around each voxel."""
    for which in np.ndindex(2, 2, 2):
        corner = tuple(past[axis] if end else first[axis] for axis, end in enumerate(which))
        corners[corner] += 1 if sum(which) % 2 == 0 else -1


def heat(coverage: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.uint8], int]:
    """Coverage as one byte a voxel, 255 where it is highest, and how high that is."""
    most = int(coverage.max(initial=0))
    scaled = np.rint(coverage * (255 / max(most, 1))).astype(np.uint8)
    return np.asfortranarray(scaled), most
