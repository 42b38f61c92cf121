"""Where the voxels of an array lie in the patient: RAS+ millimetres, as in NIfTI."""

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.errors import BadInputError, BadTypeError, first_line

Affine = npt.NDArray[np.float64]
Index3 = tuple[int, int, int]
Point = tuple[float, float, float]
_TURNING_POINT = 1e-4  # by which another axis order must fit better: not by rounding, where two fit alike (45°)
LEAST_DETERMINANT = 1e-4  # of the directions of the axes; below, they lie in one plane
_ROUNDING = 1e-5  # of the last row of an affine, which is 0, 0, 0, 1
_NOTED_DEGREES, _NOTED_MM = 0.05, 0.005  # less is rounding, and no difference to tell people of
LPS_FROM_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes run to the left and to the back; its own inverse


def size_text(along_axes: Iterable[float]) -> str:
    """For people: `512×512×20`, `0.98×0.98×2`."""
    return "×".join(str(each) if isinstance(each, int) else f"{each:.3g}" for each in along_axes)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a scan: how many voxels along I, J, K, and where they lie.

    `affine` takes a voxel index (i, j, k, 1) to the RAS+ position of that voxel's centre in mm, as nibabel's does; what
    SimpleITK says is LPS+ (`Geometry.from_lps`). It may be given as any 4×4 numbers, and is kept as a copy.

    Raises BadInputError for a shape that is not three whole numbers of at least 1, and for an affine that is not a 4×4
    matrix of finite numbers with the last row 0, 0, 0, 1, or whose voxels have no extent.
    """

    shape: Index3  # voxels along I, J, K
    affine: Affine  # (4, 4) float64, read-only

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", _checked_affine(self.affine))
        object.__setattr__(self, "shape", _checked_shape(self.shape))

    def __repr__(self) -> str:
        return f"Geometry({self.text})"

    @property
    def text(self) -> str:
        """For people: `48×48×36, 8 mm, RAS`; three voxel sizes where they differ."""
        sizes = size_text(self.spacing_mm)
        same = len(set(sizes.split("×"))) == 1
        return f"{size_text(self.shape)}, {sizes.split('×')[0] if same else sizes} mm, {self.orientation}"

    @classmethod
    def from_spacing(cls, shape: Sequence[int], spacing_mm: Sequence[float]) -> "Geometry":
        """A grid along the RAS axes whose centre is the origin; raises BadInputError for a spacing of 0 or less."""
        grid = _checked_shape(shape)
        spacing = _checked_spacing(spacing_mm)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -spacing * (np.asarray(grid) - 1) / 2
        return cls(grid, affine)

    @classmethod
    def from_lps(
        cls, size: Sequence[int], spacing_mm: Sequence[float], origin_mm: Sequence[float], direction: Sequence[float]
    ) -> "Geometry":
        """The grid of a SimpleITK image, of what its GetSize, GetSpacing, GetOrigin and GetDirection return.

        `origin_mm` is the LPS+ position of the first voxel's centre, `direction` has 9 numbers: the LPS+ directions of
        I, J, K as the columns of a matrix, row by row. The voxels of that grid are (I, J, K):
        `GetArrayFromImage(image).transpose(2, 1, 0)`. Raises BadInputError as the constructor.
        """
        columns, origin = _numbers("direction", direction), _numbers("origin_mm", origin_mm)
        if columns.size != 9 or origin.shape != (3,):
            raise BadInputError(
                f"direction has {columns.size} numbers and origin_mm {origin.size}; 9 and 3 were expected, as of "
                "a three-dimensional image. Give one volume, not a single slice or a series in time."
            )
        lps = np.eye(4)
        lps[:3, :3], lps[:3, 3] = columns.reshape(3, 3) * _checked_spacing(spacing_mm), origin
        return cls(_checked_shape(size), LPS_FROM_RAS @ lps)

    @property
    def affine_lps(self) -> Affine:
        """(4, 4) voxel index to LPS+ position in mm, DICOM's."""
        affine: Affine = LPS_FROM_RAS @ self.affine
        return affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along I, J, K in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(i), float(j), float(k))

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """(3, 3) the directions of I, J, K as columns of length 1, RAS+."""
        unit: npt.NDArray[np.float64] = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return unit

    @property
    def orientation(self) -> str:
        """The nearest directions in which I, J, K run, as nibabel writes them: `RAS` is right, front, up."""
        order = AxisOrder.to_canonical(self)
        letters = ["", "", ""]
        for towards, away, axis, flipped in zip("RAS", "LPI", order.source_axes, order.flipped, strict=True):
            letters[axis] = away if flipped else towards
        return "".join(letters)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def skew_degrees(self) -> float:
        """How far the axes are from right angles: 0, or the tilt of the gantry under which slices were acquired."""
        cosines = np.abs(np.triu(self.directions.T @ self.directions, k=1))
        return float(np.degrees(np.arcsin(np.minimum(cosines.max(), 1))))

    def same_grid(self, other: "Geometry", tolerance_mm: float = 0.01) -> bool:
        """Whether both have the same shape and no corner voxel lies further apart than the tolerance."""
        if self.shape != other.shape:
            return False
        return self._apart_mm(other) <= tolerance_mm

    def fits(self, other: "Geometry") -> bool:
        """Whether labels on another grid are labels of a scan on this one: within a tenth of its smallest spacing."""
        return self.same_grid(other, tolerance_mm=0.1 * min(self.spacing_mm))

    def difference(self, other: "Geometry") -> str:
        """For people: in what another grid is not this one, first this one's; empty where the two are the same."""
        if self.shape != other.shape:
            return f"{size_text(self.shape)} and {size_text(other.shape)} voxels"
        apart_mm = self._apart_mm(other)
        if apart_mm == 0:
            return ""
        both, found = (self, other), list[str]()
        if not np.allclose(self.spacing_mm, other.spacing_mm, rtol=1e-4):
            found.append("spacings {} and {} mm".format(*("×".join(f"{s:.5g}" for s in g.spacing_mm) for g in both)))
        cosines = np.einsum("ij,ij->j", self.directions, other.directions)
        degrees = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
        if degrees > _NOTED_DEGREES:
            found.append(f"axes up to {degrees:.3g}° apart ({self.orientation} and {other.orientation})")
        first = [g.affine[:3, 3] for g in both]
        if (between := float(np.linalg.norm(first[0] - first[1]))) > _NOTED_MM:
            places = " and ".join(f"({', '.join(f'{x:.1f}' for x in place)})" for place in first)
            found.append(f"first voxels {between:.3g} mm apart (at {places} mm, RAS+)")
        return f"voxels lie up to {apart_mm:.3g} mm apart" + (f": {'; '.join(found)}" if found else "")

    def _apart_mm(self, other: "Geometry") -> float:
        """How far a voxel of two grids of one shape lies apart at most: at a corner."""
        corners = np.array([[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in self.shape))])
        return float(np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max())

    def to_mm(self, index: npt.ArrayLike) -> Point:
        """RAS+ position in mm of a voxel index, also between voxels."""
        x, y, z = (self.affine[:3, :3] @ np.asarray(index) + self.affine[:3, 3]).tolist()
        return x, y, z

    def scaled(self, factors: Sequence[float], shape: Index3) -> "Geometry":
        """The grid with voxels `factors` times as large whose first voxel starts at the same corner."""
        scale = np.diag([*factors, 1.0])
        scale[:3, 3] = (np.asarray(factors) - 1) / 2
        return Geometry(shape, self.affine @ scale)

    def to_json(self) -> dict[str, Any]:
        """As plain lists, for JSON."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}


@dataclass(frozen=True)
class AxisOrder:
    """A reordering and flipping of array axes, without interpolation."""

    source_axes: Index3  # new axis a runs along old axis `source_axes[a]`
    flipped: tuple[bool, bool, bool]  # whether new axis a runs against it

    @classmethod
    def to_canonical(cls, geometry: Geometry) -> "AxisOrder":
        """The order in which I, J, K run as close to right, anterior, superior as the grid allows."""
        return cls._towards(np.eye(3), geometry)

    @classmethod
    def between(cls, geometry: Geometry, other: Geometry) -> "AxisOrder":
        """The order in which the axes of a grid run as close to those of another as it allows."""
        return cls._towards(np.linalg.inv(other.directions), geometry)

    @classmethod
    def _towards(cls, frame: npt.NDArray[np.floating[Any]], geometry: Geometry) -> "AxisOrder":
        directions = frame @ geometry.directions
        best, most = (0, 1, 2), 0.0
        for i, j, k in itertools.permutations(range(3)):
            agreement = sum(abs(directions[new, old]) for new, old in enumerate((i, j, k)))
            if agreement > most + _TURNING_POINT:
                best, most = (i, j, k), agreement
        i, j, k = (bool(directions[new, old] < 0) for new, old in enumerate(best))
        return cls(best, (i, j, k))

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an (I, J, K) array in the new order."""
        return self._flipped(array.transpose(self.source_axes))

    def _flipped(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array in the new order, back in the old one."""
        return self._flipped(array).transpose(np.argsort(self.source_axes))

    def apply_to_geometry(self, geometry: Geometry) -> Geometry:
        """The geometry of the array that `apply` returns."""
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1
        for new_axis, (old_axis, flip) in enumerate(zip(self.source_axes, self.flipped, strict=True)):
            to_old[old_axis, new_axis] = -1 if flip else 1
            to_old[old_axis, 3] = geometry.shape[old_axis] - 1 if flip else 0
        i, j, k = (geometry.shape[axis] for axis in self.source_axes)
        return Geometry((i, j, k), geometry.affine @ to_old)


def has_extent(affine: Affine) -> bool:
    """Whether a (4, 4) affine is finite and its voxels have a length along each of three axes that span the space.

    In plain numbers: a store asks this twice of each of its cases, and NumPy takes ten times as long for so few.
    """
    rows: list[list[float]] = affine.tolist()
    lengths = [math.hypot(*column) for column in zip(*(row[:3] for row in rows[:3]), strict=True)]
    if not all(math.isfinite(x) for row in rows for x in row) or not all(0 < length < math.inf for length in lengths):
        return False
    (a, b, c), (d, e, f), (g, h, i) = ([x / n for x, n in zip(row, lengths, strict=False)] for row in rows[:3])
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) >= LEAST_DETERMINANT


def _checked_shape(shape: object) -> Index3:
    try:
        i, j, k = (operator.index(n) for n in shape)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        i = j = k = 0
    if min(i, j, k) < 1:
        raise BadInputError(
            f"shape: {shape!r}; three whole numbers of at least 1 were expected, the voxels along I, J, K. A volume "
            "has no channel or batch axis: give array[0].shape where it has one."
        )
    return i, j, k


def _checked_spacing(spacing_mm: object) -> npt.NDArray[np.float64]:
    found = _numbers("spacing_mm", spacing_mm)
    if found.shape != (3,) or not ((found > 0) & (found < np.inf)).all():
        raise BadInputError(f"spacing_mm: {spacing_mm!r}; three lengths in mm above 0 were expected, along I, J, K.")
    return found


def _checked_affine(given: object) -> Affine:
    affine = _numbers("affine", given)
    if affine.shape != (4, 4):
        raise BadInputError(
            f"affine: an array of shape {affine.shape}; 4×4 numbers were expected, from voxel index to RAS+ position "
            "in mm. nibabel has them as image.affine; Geometry.from_spacing and Geometry.from_lps make them of others."
        )
    *across, one = affine[3].tolist()
    if not has_extent(affine) or max(map(abs, (*across, one - 1))) > _ROUNDING:
        raise BadInputError(
            f"affine: {affine.tolist()} places no voxels. Finite numbers were expected, whose first three columns are "
            "the steps along I, J, K in mm, no two of them parallel, above a last row of 0, 0, 0, 1."
        )
    affine.setflags(write=False)
    return affine


def _numbers(name: str, given: object) -> npt.NDArray[np.float64]:
    """A copy."""
    try:
        return np.asarray(given, dtype=np.float64).copy()
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, text, a tensor on a GPU
        raise BadTypeError(f"{name}: {given!r} is not an array of numbers ({first_line(error)}).") from error
