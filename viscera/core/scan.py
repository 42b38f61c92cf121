"""The values that travel through the journey: a CT volume, a label map, and both of one patient."""

import copy
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import IGNORED, NUM_CLASSES, ClassTable
from viscera.core.errors import BadInputError, refuse_non_number
from viscera.core.geometry import AxisOrder, Geometry, size_text
from viscera.core.given_arrays import checked, planes, refuse_other_labels
from viscera.core.shape_hints import given_path, refuse_other_than

HuArray = npt.NDArray[np.int16]
LabelArray = npt.NDArray[np.uint8]
_NAMED = 3  # organs of a label map
_Kind = TypeVar("_Kind", "Volume", "LabelMap")
_FEW = 32  # numbers that are counted one by one
AIR_HU = -1024  # what stands where a scanner measured nothing: around the field of view, beyond the edge of a scan


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT scan: `hu` int16 (I, J, K) in Hounsfield units, in the order of the file, and where it lies.

    An int16 array is taken as it is, without a copy, so what is written into it later is in the volume, too. Any other
    NumPy array of whole numbers that 16 bits hold becomes a copy of int16: other integers, other byte orders, and
    floats that miss a whole number by a thousandth or less, as nibabel's `get_fdata` has them.

    Raises BadTypeError for anything but such an array and a `Geometry`; BadInputError for another shape than the
    grid's, for NaN and infinite values, fractions, and numbers beyond 16 bits.
    """

    hu: "HuArray"
    geometry: Geometry

    def __post_init__(self) -> None:
        refuse_other_than(Geometry, self.geometry, "geometry")
        object.__setattr__(self, "hu", checked("hu", self.hu, self.geometry))

    def __repr__(self) -> str:
        hu = f", {self.hu.min()} to {self.hu.max()} HU" if self.hu.size else ""
        return f"Volume({self.geometry.text}{hu})"

    def canonical(self) -> "Volume":
        """The same voxels with axes running to the right, to the front and up (a view)."""
        order = AxisOrder.to_canonical(self.geometry)
        return _with(self, hu=order.apply(self.hu), geometry=order.apply_to_geometry(self.geometry))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Organ labels: `labels` uint8 (I, J, K), numbers as in a table of `core.anatomy`, and where they lie.

    Of a reference, voxels that nobody labelled have the number 255 (`core.anatomy.IGNORED`). A uint8 array is taken as
    it is, without a copy. Any other NumPy array of such numbers becomes uint8: masks (True is 1), other integers, and
    floats that miss a whole number by a thousandth or less. `classes` says what the numbers stand for; without it any
    are taken.

    Raises BadTypeError for anything but such an array, a `Geometry` and a `ClassTable`; BadInputError for another shape
    than the grid's, for fractions, NaN, numbers below 0 or beyond 255, and those that are not in `classes`.
    """

    labels: "LabelArray"
    geometry: Geometry
    classes: ClassTable | None = None  # what the numbers stand for, where that is known

    def __post_init__(self) -> None:
        refuse_other_than(Geometry, self.geometry, "geometry")
        object.__setattr__(self, "labels", checked("labels", self.labels, self.geometry))
        if self.classes is not None:
            refuse_other_than(ClassTable, self.classes, "classes")
            refuse_other_labels(self.labels, self.classes)

    def __repr__(self) -> str:
        known = {c.label: c.title for c in self.classes.classes} if self.classes else {}
        counts = value_counts(self.labels)
        found = [
            f"{known.get(n, f'label {n}')} {counts[n]:,}" for n in range(1, len(counts)) if counts[n] and n < IGNORED
        ]
        organs = ", ".join([*found[:_NAMED], *(["…"] if len(found) > _NAMED else [])]) or "no organ"
        return f"LabelMap({self.geometry.text}, {organs})"

    def save(self, path: str | Path) -> Path:
        """Write it as NIfTI (`.nii` or `.nii.gz`), on its own grid; raises BadInputError for other names."""
        path = given_path(path, "the file")
        if not path.name.lower().endswith((".nii", ".nii.gz")):
            raise BadInputError(f"{path}: a name that ends in .nii or .nii.gz was expected.")
        importlib.import_module("viscera.io.nifti").write_nifti(path, self)  # which stands a floor above
        return path

    def canonical(self) -> "LabelMap":
        """The same voxels with axes running to the right, to the front and up (a view)."""
        order = AxisOrder.to_canonical(self.geometry)
        return _with(self, labels=order.apply(self.labels), geometry=order.apply_to_geometry(self.geometry))

    def in_order_of(self, geometry: Geometry) -> "LabelMap":
        """The same voxels with axes that run as those of a grid do (a view)."""
        refuse_other_than(Geometry, geometry, "geometry")
        order = AxisOrder.between(self.geometry, geometry)
        return _with(self, labels=order.apply(self.labels), geometry=order.apply_to_geometry(self.geometry))

    def voxel_counts(self, num_classes: int | None = None) -> npt.NDArray[np.int64]:
        """(L,) voxels of each class; those that nobody labelled are in none.

        L is `num_classes`: by default that of the table of classes, or else the paper's eight; more where there are
        higher numbers. Raises BadTypeError for no whole number, BadInputError for one below 1.
        """
        if num_classes is None:
            num_classes = len(self.classes) if self.classes else NUM_CLASSES
        refuse_non_number("num_classes", num_classes, 1, whole=True)
        counts = value_counts(self.labels)[:IGNORED]
        beyond = np.flatnonzero(counts[num_classes:])
        counts = counts[: num_classes + (int(beyond[-1]) + 1 if beyond.size else 0)]
        return np.pad(counts, (0, max(0, num_classes - len(counts))))

    @property
    def ignored(self) -> int:
        """Voxels that nobody labelled."""
        return sum(int(np.count_nonzero(plane == IGNORED)) for plane in planes(self.labels))


@dataclass(frozen=True)
class Overlap:
    """Voxels that lie in the masks of two classes, and have the label of one."""

    kept: int  # the class that has them
    lost: int  # the other
    voxels: int  # how many
    share: float  # of all voxels in the mask of `lost`, above 0 to 1
    inside_mm: tuple[float, float, float]  # the one nearest to the middle of them, RAS+


@dataclass(frozen=True, eq=False)
class Case:
    """A scan and its labels on one grid; raises BadInputError for labels of another shape, or that lie elsewhere."""

    name: str
    volume: Volume
    label_map: LabelMap
    unlabelled: tuple[str, ...] = ()  # classes that the case's data set does not label
    overlaps: tuple[Overlap, ...] = ()  # of the masks that the labels were made of

    def __post_init__(self) -> None:
        refuse_other_than(Volume, self.volume, "volume")
        refuse_other_than(LabelMap, self.label_map, "label_map")
        scan, labels = self.volume.geometry, self.label_map.geometry
        if scan.fits(labels):
            return
        if scan.shape == labels.shape:
            found = (
                "labels and scan have the same shape but lie at different places in the patient ("
                f"{labels.difference(scan)})"
            )
        else:
            found = f"labels are {size_text(labels.shape)} but the scan is {size_text(scan.shape)}"
        raise BadInputError(f"{self.name}: {found}. Export both from the same series, or leave the case out.")


def value_counts(numbers: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.int64]:
    """(highest number + 1,) how often each is there in an array of small numbers (I, J, K).

    Plane by plane in the order of the memory, and number by number where there are few: a fourteenth of the time of
    `bincount`, which takes eight times the memory of a label map.
    """
    counts = np.zeros(int(numbers.max(initial=0)) + 1, dtype=np.int64)
    for plane in planes(numbers):
        highest = int(plane.max(initial=0))
        if highest > _FEW:
            counts += np.bincount(plane.ravel(order="K"), minlength=len(counts))
        else:
            for number in range(1, highest + 1):
                counts[number] += np.count_nonzero(plane == number)
    counts[0] = numbers.size - counts[1:].sum()
    return counts


def _with(value: _Kind, **fields: object) -> _Kind:
    """The same with other fields, which are views of its own: checked as it was made, they need not be again."""
    made = copy.copy(value)
    for name, field in fields.items():
        object.__setattr__(made, name, field)
    return made


@dataclass(frozen=True)
class OrganFacts:
    """What was measured of one organ in one label map; None: it is absent, or that is not known."""

    volume_ml: float
    mean_hu: float | None  # over its voxels
    cut_off: bool  # whether it touches the edge of the scan
    large_fragments: int  # connected components that hold a tenth of the volume or more
    confidence: float | None = None  # mean over its voxels of its probability, 0 to 1
    sd_hu: float | None = None  # of the population
    voxels: int = 0
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None  # lowest, highest R, A, S
    box: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None  # first and last I, J, K, in the map's order
    pieces: int = 0  # connected components (26 neighbours)
    largest_piece: float | None = None  # share of its voxels
    beside_ignored: bool = False  # whether it touches voxels that nobody labelled, and may go on in them
    entropy: float | None = None  # mean over its voxels of how undecided the network is, 0 to 1
