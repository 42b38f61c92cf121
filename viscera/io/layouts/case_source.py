"""One labelled case: its files, and how they become a scan with one label map."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from viscera.core.errors import BadInputError
from viscera.core.scan import Case, LabelMap
from viscera.io.nifti import read_labels, read_mask, read_volume
from viscera.io.store import Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseSource:
    """The files of one labelled case, not yet read.

    Attributes:
        name: of the case: as its scan is called (without `_0000`), or the folder that holds only this case.
        image: the CT.
        labels: its label map, or the folder of its masks.
        mapping: the label map's numbers to class numbers.
        masks: files of one organ each, to its class number; if there are any, they are the labels.
        unlabelled: names of the classes that are not labelled in this case, in label order.
        split: the part of the data set's official split that it is in; None if it does not say.
        refusal: why the case cannot be taken; empty if it can.
    """

    name: str
    image: Path
    labels: Path
    mapping: Mapping[int, int]
    masks: Mapping[Path, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    split: Split | None = None
    refusal: str = ""

    @property
    def files(self) -> dict[str, Path]:
        """All files that the case is made of, by a name that each has alone: its own, or with its folder."""
        paths = [self.image, *(self.masks or [self.labels])]
        names = [path.name for path in paths]
        return {p.name if names.count(p.name) == 1 else f"{p.parent.name}/{p.name}": p for p in paths}

    def read(self) -> Case:
        """Read scan and labels; raises BadInputError as the readers and `Case` do."""
        self._refuse_if_not(self.image)
        label_map = self.read_labels()
        return Case(self.name, read_volume(self.image), label_map, self.unlabelled)

    def read_labels(self) -> LabelMap:
        """Read the labels alone.

        Where masks overlap, the class of the lowest number has the voxel, and a warning tells how many there are.

        Raises:
            BadInputError: a file is missing or cannot be read, masks of different grids, or the case is refused.
        """
        if self.refusal:
            raise BadInputError(f"{self.name}: {self.refusal}")
        if self.masks:
            return _merged(self.name, self.masks)
        self._refuse_if_not(self.labels)
        return read_labels(self.labels, dict(self.mapping))

    def _refuse_if_not(self, path: Path) -> None:
        if not path.exists():
            raise BadInputError(f"{self.name}: {path} is missing. Add the file, or leave the case out.")


def _merged(name: str, masks: Mapping[Path, int]) -> LabelMap:
    """One label map of several masks, the lowest class number on top; an empty mask is an organ that is not there."""
    by_class = sorted(masks.items(), key=lambda item: item[1])
    first, label = by_class[0]
    read = read_mask(first)
    labels, geometry = read.labels * np.uint8(label), read.geometry
    overlapping = 0
    for path, label in by_class[1:]:
        mask = read_mask(path)
        if not mask.geometry.same_grid(geometry, tolerance_mm=0.1 * min(geometry.spacing_mm)):
            raise BadInputError(
                f"{name}: {path} and {first} do not lie on one grid ({mask.geometry.shape} and {geometry.shape} "
                "voxels). Export all masks from the same series, or leave the case out."
            )
        inside = mask.labels > 0
        overlapping += int(np.count_nonzero(inside & (labels > 0)))
        labels[inside & (labels == 0)] = label
    if overlapping:
        log.warning(
            "%s: %d voxels lie in more than one mask; the class of the lowest number has them.", name, overlapping
        )
    return LabelMap(labels, geometry)
