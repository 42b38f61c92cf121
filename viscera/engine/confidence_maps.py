"""Maps of class probabilities and of entropy on a scan's own grid, gathered while it is segmented."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray
from viscera.imaging.most_probable import OnPlane
from viscera.imaging.probabilities import entropy
from viscera.io.nifti_header import Placement
from viscera.io.probability_maps import LEVELS, MapSpool, quantised

_ENTROPY_LEVELS = 255


@dataclass(frozen=True, eq=False)
class ConfidenceMaps:
    """The maps of one scan, by the name of their format; used in a `with`, at whose end their place is given back."""

    names: Collection[str]  # those that are asked for
    folder: Path  # where there is place for them
    classes: int
    spools: dict[str, MapSpool] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self.spools.values():
            spool.close()

    def begun(self, geometry: Geometry) -> OnPlane | None:
        """What to tell of each plane of a scan; None where no map is wanted. BadInputError where the disk is full."""
        for name in self.names:
            volumes, dtype = (self.classes, np.uint16) if name == "probabilities" else (1, np.uint8)
            self.spools[name] = MapSpool(self.folder, geometry, volumes, dtype)
        return self.add if self.spools else None

    def add(self, probabilities_LIJ: Tensor, labels_IJ: LabelArray) -> None:
        """The next plane along the canonical K axis, and what the label map says there."""
        if "probabilities" in self.spools:
            self.spools["probabilities"].put(quantised(probabilities_LIJ.numpy(), labels_IJ))
        if "entropy" in self.spools:
            undecided = entropy(probabilities_LIJ).clamp_(0, 1).numpy()
            self.spools["entropy"].put(np.rint(undecided * _ENTROPY_LEVELS).astype(np.uint8)[None])

    def packed(self, name: str, path: Path, placement: Placement | None) -> Path:
        """One of them as a NIfTI file with a temporary name beside `path`."""
        levels = LEVELS if name == "probabilities" else _ENTROPY_LEVELS
        return self.spools[name].pack(path, f"viscera {name}", 1 / levels, placement)
