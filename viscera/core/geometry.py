"""Where the voxels of an array lie in the patient: RAS+ millimetres, as in NIfTI."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]
Index3 = tuple[int, int, int]
Point = tuple[float, float, float]
_TURNING_POINT = 1e-4  # by which another axis order must fit better: not by rounding, where two fit alike (45°)
LPS_FROM_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes run to the left and to the back; its own inverse


def size_text(along_axes: Iterable[float]) -> str:
    """For people: `512×512×20`, `0.98×0.98×2`."""
    return "×".join(str(each) if isinstance(each, int) else f"{each:.3g}" for each in along_axes)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a scan."""

    shape: Index3  # voxels along I, J, K
    affine: Affine  # (4, 4) float64, voxel index (i, j, k, 1) to RAS+ position in mm (voxel centres); read-only

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

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
        """A grid along the RAS axes whose centre is the origin."""
        spacing = np.asarray(spacing_mm, dtype=np.float64)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -spacing * (np.asarray(shape) - 1) / 2
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), affine)

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
        corners = np.array([[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in self.shape))])
        apart_mm = np.linalg.norm((corners @ self.affine.T - corners @ other.affine.T)[:, :3], axis=1)
        return bool(apart_mm.max() <= tolerance_mm)

    def fits(self, other: "Geometry") -> bool:
        """Whether labels on another grid are labels of a scan on this one: within a tenth of its smallest spacing."""
        return self.same_grid(other, tolerance_mm=0.1 * min(self.spacing_mm))

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
