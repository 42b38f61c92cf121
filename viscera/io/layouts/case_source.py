"""One labelled case: its files, and how they become a scan with one label map."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from viscera.core.anatomy import IGNORED, LabelNumbers
from viscera.core.errors import BadInputError
from viscera.core.regions import Mask, central_voxel
from viscera.core.scan import Case, LabelMap, Overlap, value_counts
from viscera.core.wording import agreeing, counted
from viscera.io.manifest import Split
from viscera.io.nifti import label_numbers_in, read_labels, read_mask, read_volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseSource:
    """The files of one labelled case, not yet read."""

    name: str  # of the case: as its scan is called (without `_0000`), or the folder that holds only this case
    image: Path  # the CT
    labels: Path  # its label map, or the folder of its masks
    numbers: LabelNumbers  # of the label map; of masks, what they do not label
    # files of one organ each, to its class number; if there are any, they are the labels
    masks: Mapping[Path, int] = field(default_factory=dict)
    split: Split | None = None  # the part of the data set's official split that it is in; None if it does not say
    refusal: str = ""  # why the case cannot be taken; empty if it can
    has_pseudonym: bool = False  # whether `name` is one, and no file is called by its own name either

    def under(self, pseudonym: str) -> "CaseSource":
        """The same under a pseudonym."""
        return replace(self, name=pseudonym, has_pseudonym=True)

    @property
    def meaning(self) -> dict[str, int]:
        """What is ours in it: label number, or name of the mask file, to class number; `meaning_with` says the rest."""
        of_numbers = {str(number): label for number, label in self.numbers.mapping.items() if label}
        called = {path: name for name, path in self.files.items()} if self.has_pseudonym else {}
        return {called.get(path, path.name): label for path, label in self.masks.items()} or of_numbers

    def meaning_with(self, *, ignored: bool) -> dict[str, int]:
        """`meaning`, and where voxels of the map are `ignored` what their number stands for."""
        number = self.numbers.ignored
        return self.meaning | ({str(number): IGNORED} if ignored and number is not None else {})

    @property
    def shows_ignored(self) -> bool:
        """Whether the label map, which is read for that, has voxels that nobody labelled."""
        return self.numbers.ignored is not None and self.numbers.ignored in label_numbers_in(self.labels)

    @property
    def files(self) -> dict[str, Path]:
        """All files that the case is made of, by a name that each has alone: its own, or with its folder.

        Under a pseudonym `scan`, `labels`, `mask 1`.
        """
        if self.has_pseudonym:
            masks = {f"mask {number}": path for number, path in enumerate(self.masks, start=1)}
            return {"scan": self.image, **(masks or {"labels": self.labels})}
        paths = [self.image, *(self.masks or [self.labels])]
        names = [path.name for path in paths]
        return {p.name if names.count(p.name) == 1 else f"{p.parent.name}/{p.name}": p for p in paths}

    def read(self) -> Case:
        """Read scan and labels; raises BadInputError as the readers and `Case` do."""
        self._refuse_if_not(self.image)
        label_map, overlaps = self._read_labels()
        volume = read_volume(self.image)
        return Case(self.name, volume, label_map.in_order_of(volume.geometry), self.numbers.unlabelled, overlaps)

    def read_labels(self) -> LabelMap:
        """Read the labels alone; of masks that overlap the lowest number has the voxel, and a warning says so.

        Raises BadInputError where a file is missing or cannot be read, masks lie on different grids, the case is
        refused.
        """
        return self._read_labels()[0]

    def _read_labels(self) -> tuple[LabelMap, tuple[Overlap, ...]]:
        if self.refusal:
            raise BadInputError(f"{self.name}: {self.refusal}")
        if not self.masks:
            self._refuse_if_not(self.labels)
            return read_labels(self.labels, self.numbers), ()
        label_map, overlaps = _merged(self.name, self.masks)
        if overlaps:
            voxels = sum(overlap.voxels for overlap in overlaps)
            lie = f"{counted(voxels, 'voxel')} {agreeing(voxels, 'lies', 'lie')}"
            log.warning("%s: %s in more than one mask; there the class of the lowest number counts.", self.name, lie)
        return label_map, overlaps

    def _refuse_if_not(self, path: Path) -> None:
        if not path.is_file():
            what, cause = ("is not a file", None) if path.exists() else ("is missing", FileNotFoundError(path))
            raise BadInputError(f"{self.name}: {path} {what}. Add the file, or leave the case out.") from cause


def _merged(name: str, masks: Mapping[Path, int]) -> tuple[LabelMap, tuple[Overlap, ...]]:
    """One label map of several masks, the lowest class number on top; an empty mask is an organ that is not there."""
    by_class = sorted(masks.items(), key=lambda item: item[1])
    first, label = by_class[0]
    read = read_mask(first)
    labels, geometry = read.labels * np.uint8(label), read.geometry
    overlaps: list[Overlap] = []
    for path, label in by_class[1:]:
        mask = read_mask(path).in_order_of(geometry)
        if not geometry.fits(mask.geometry):
            raise BadInputError(
                f"{name}: {path} and {first} do not lie on one grid ({mask.geometry.difference(geometry)}). Export all "
                "masks from the same series, or leave the case out."
            )
        inside = mask.labels > 0
        overlaps += _overlaps(LabelMap(labels, geometry), inside, label)
        labels[inside & (labels == 0)] = label
    return LabelMap(labels, geometry), tuple(overlaps)


def _overlaps(so_far: LabelMap, inside: Mask, label: int) -> Iterator[Overlap]:
    """What the mask of a class has in common with the labels so far."""
    shared = np.where(inside, so_far.labels, 0)
    counts = value_counts(shared)
    for kept in np.flatnonzero(counts[1:]) + 1:
        share = float(counts[kept] / np.count_nonzero(inside))
        inside_mm = so_far.geometry.to_mm(central_voxel(shared == kept))
        yield Overlap(int(kept), label, int(counts[kept]), share, inside_mm)
