"""What Figures 2-4 show: one test case, cut down to a slice and a coarse label map an arm. Opens no file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, LabelMap

Bounds = tuple[float, float]
Box2 = tuple[Bounds, Bounds]
LONGEST_EDGE = 128


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The CT behind the overlays.

    Attributes:
        hu: (A, B) float32, canonical: to the right, to the front.
        spacing_mm: of A and B.
        view_mm: the part worth showing, from the slice's first corner.
    """

    hu: npt.NDArray[np.float32]
    spacing_mm: tuple[float, ...]
    view_mm: Box2


@dataclass(frozen=True, eq=False)
class LabelView:
    """A label map cut down to what is drawn.

    Attributes:
        axial: (I, J) uint8, the shown slice.
        spacing_mm: of I and J.
        coarse: the whole map, thinned to at most 128 voxels an edge.
    """

    axial: LabelArray
    spacing_mm: tuple[float, float]
    coarse: LabelMap

    @classmethod
    def of(cls, label_map: LabelMap, slice_index: int) -> "LabelView":
        """Cut down a canonical label map; the arrays are copies, so that the full one can go."""
        i, j, _ = label_map.geometry.spacing_mm
        return cls(label_map.labels[:, :, slice_index].copy(), (i, j), thinned(label_map))


@dataclass(frozen=True, eq=False)
class Scene:
    """One test case as truth and all arms label it.

    Attributes:
        case: its name.
        slice_index: the axial slice, counted from the lowest, 0-based, of `slices` on the scan's grid.
        organs_in_slice: organs that the truth has there.
        truth: the reference.
        predictions: by name of arm, and `fused`; an arm without one is missing here.
        seeds: by name of arm, the seed whose prediction is shown.
        flagged: by name of arm, names of the organs that are flagged in that prediction.
    """

    case: str
    slice_index: int
    slices: int
    organs_in_slice: int
    backdrop: Backdrop
    truth: LabelView
    predictions: Mapping[str, LabelView]
    seeds: Mapping[str, int]
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def thinned(label_map: LabelMap, longest: int = LONGEST_EDGE) -> LabelMap:
    """Every n-th voxel of each axis longer than `longest`; a copy."""
    shape = label_map.labels.shape
    i, j, k = (-(-n // longest) for n in shape)
    labels = label_map.labels[i // 2 :: i, j // 2 :: j, k // 2 :: k].copy()
    geometry = label_map.geometry.scaled((i, j, k), (labels.shape[0], labels.shape[1], labels.shape[2]))
    return LabelMap(labels, Geometry(geometry.shape, geometry.affine))
