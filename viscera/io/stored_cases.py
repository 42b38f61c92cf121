"""The arrays of some cases of a Store as a sequence, opened when they are first asked for."""

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

from viscera.core.errors import BadInputError
from viscera.core.geometry import size_text
from viscera.core.machine_limits import most_open_files
from viscera.core.scan import HuArray, LabelArray
from viscera.io.store import Store


class StoredCases(Sequence[tuple[HuArray, LabelArray]]):
    """Image and labels of some cases of a store, memory-mapped when they are first asked for.

    Those asked for last stay open, as many as take half of the files that the system lets a process open (two a case).
    """

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self.shapes = [store.manifest.cases[name].prepared.shape for name in names]  # of each, without opening it
        most = max(1.0, most_open_files() // 4)

        @lru_cache(int(most) if most < len(names) else None)
        def opened(number: int) -> tuple[HuArray, LabelArray]:
            image, labels = store.image(names[number]), store.labels(names[number])
            if not image.shape == labels.shape == self.shapes[number]:
                now, before = size_text(image.shape), size_text(self.shapes[number])
                raise BadInputError(
                    f"{store.path}: {names[number]} has {now} voxels, and had {before} when the store was opened: "
                    "another process changes it. Let that end, then start again."
                )
            return image, labels

        self._opened = opened

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, number: int) -> tuple[HuArray, LabelArray]: ...
    @overload
    def __getitem__(self, number: slice) -> list[tuple[HuArray, LabelArray]]: ...
    def __getitem__(self, number: int | slice) -> tuple[HuArray, LabelArray] | list[tuple[HuArray, LabelArray]]:
        if isinstance(number, slice):
            return [self._opened(each) for each in range(len(self))[number]]
        return self._opened(range(len(self))[number])
