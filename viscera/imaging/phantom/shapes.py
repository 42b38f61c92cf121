"""What the phantom is made of, and how it is painted: one part after the other with soft edges, then noise.

A shape is a signed distance in millimetres, negative inside, exact enough near the surface. It lies in template
coordinates and is evaluated on a box of the patient's grid, cut out around what it reaches.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from viscera.core.geometry import Geometry
from viscera.core.scan import HuArray, LabelArray
from viscera.imaging.phantom.warp import Array, Generator, Points, Pose, SmoothField, rotation

Box = tuple[slice, slice, slice]
Limit = Callable[[Array], Array]  # template positions (3, ...) to signed distance in mm

AIR_HU = -1000.0
_FAR_MM = 60.0  # what a tube reports away from the boxes of its pieces
_SEGMENT_MM = 7.0
_MARGIN_MM = 6.0  # for the bend within a box


@dataclass(frozen=True, eq=False)
class Space:
    """A patient's grid."""

    geometry: Geometry  # along the RAS axes
    pose: Pose  # from the patient to the template
    positions_mm: Array  # (3, I, J, K) float32, template position of each voxel centre
    relief: Array  # (I, J, K) float32, standard normal, structures of 3 to 5 cm: the unevenness of surfaces

    @classmethod
    def of(cls, geometry: Geometry, pose: Pose, relief: SmoothField) -> "Space":
        """Evaluate pose and relief on a grid."""
        spacing, origin = np.diag(geometry.affine)[:3], geometry.affine[:3, 3]
        x, y, z = (origin[a] + spacing[a] * np.arange(geometry.shape[a]) for a in range(3))
        return cls(geometry, pose, pose.template_positions((x, y, z)), relief.on_axes((x, y, z))[0])

    def box_around(self, low_mm: Points, high_mm: Points) -> Box:
        """The grid box of a template box, given by two corners (3,), and of blurred edges around it; may be empty."""
        corners_mm = np.array(list(itertools.product(*zip(low_mm, high_mm, strict=True))))
        patient_mm = self.pose.to_patient(corners_mm)
        return self._boxes(patient_mm.min(0)[None], patient_mm.max(0)[None], _MARGIN_MM + self.spacing_mm)[0]

    def boxes_along(self, points_mm: Points, radii_mm: Points) -> list[Box]:
        """The grid boxes of the N - 1 pieces between N template points (N, 3) of a tube with radii (N,)."""
        patient_mm, reach_mm = self.pose.to_patient(points_mm), 1.15 * np.maximum(radii_mm[:-1], radii_mm[1:])[:, None]
        low_mm, high_mm = np.minimum(patient_mm[:-1], patient_mm[1:]), np.maximum(patient_mm[:-1], patient_mm[1:])
        return self._boxes(low_mm - reach_mm, high_mm + reach_mm, self.spacing_mm)

    @property
    def spacing_mm(self) -> float:
        """The grid's coarsest spacing."""
        return max(self.geometry.spacing_mm)

    def _boxes(self, low_mm: Points, high_mm: Points, margin_mm: float) -> list[Box]:
        spacing, origin = np.diag(self.geometry.affine)[:3], self.geometry.affine[:3, 3]
        first = np.floor((low_mm - margin_mm - origin) / spacing).astype(int)
        last = np.ceil((high_mm + margin_mm - origin) / spacing).astype(int)
        first, last = np.clip(first, 0, self.geometry.shape), np.clip(last + 1, 0, self.geometry.shape)
        sides = [list(map(slice, *bounds)) for bounds in zip(first.T.tolist(), last.T.tolist(), strict=True)]
        return list(zip(*sides, strict=True))


@dataclass(frozen=True, eq=False)
class Shape:
    """What can be painted."""

    low_mm: Points  # lowest template corner (3,) that it reaches
    high_mm: Points  # highest
    distance_mm: Callable[[Space, Box], Array]  # signed distance on a box of the grid, negative inside


def ellipsoid(centre_mm: npt.ArrayLike, radii_mm: npt.ArrayLike, degrees: npt.ArrayLike = (0, 0, 0)) -> Shape:
    """Centre and half-axes (3,) in mm, turned about x, y and z in turn."""
    centre, radii, axes = np.asarray(centre_mm, np.float64), np.asarray(radii_mm, np.float64), rotation(degrees)
    half_mm = np.sqrt(((axes * radii[:, None]) ** 2).sum(0))

    def distance_mm(space: Space, box: Box) -> Array:
        positions = space.positions_mm[(slice(None), *box)]
        scaled = (axes / radii[:, None]).astype(np.float32)
        unit = np.tensordot(scaled, positions, axes=1)
        unit -= (scaled @ centre.astype(np.float32)).reshape(3, 1, 1, 1)
        norm = np.sqrt(np.einsum("cijk,cijk->ijk", unit, unit) + np.float32(1e-12))
        unit /= radii.astype(np.float32).reshape(3, 1, 1, 1)
        slope = np.sqrt(np.einsum("cijk,cijk->ijk", unit, unit) + np.float32(1e-20))
        distance: Array = norm * (norm - 1) / slope
        return distance

    return Shape(centre - half_mm, centre + half_mm, distance_mm)


def tube(knots_mm: Points, radii_mm: npt.ArrayLike) -> Shape:
    """A tube of varying width along a cubic spline through the knots (N, 3), with radii (N,) at the knots, mm."""
    lengths = np.linalg.norm(np.diff(knots_mm, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    samples = np.linspace(0, along[-1], max(2, int(np.ceil(along[-1] / _SEGMENT_MM)) + 1))
    points: Points = CubicSpline(along, knots_mm)(samples)
    radii: Points = np.interp(samples, along, np.asarray(radii_mm, dtype=np.float64))

    def distance_mm(space: Space, box: Box) -> Array:
        start = [part.start for part in box]
        result = np.full([part.stop - part.start for part in box], _FAR_MM, dtype=np.float32)
        for n, segment_box in enumerate(space.boxes_along(points, radii)):
            inside = tuple(
                slice(max(part.start, whole.start), min(part.stop, whole.stop))
                for part, whole in zip(segment_box, box, strict=True)
            )
            if any(part.stop <= part.start for part in inside):
                continue
            positions = space.positions_mm[(slice(None), *inside)]
            view = result[tuple(slice(p.start - s, p.stop - s) for p, s in zip(inside, start, strict=True))]
            np.minimum(view, _segment_distance_mm(positions, points[n : n + 2], radii[n : n + 2]), out=view)
        return result

    return Shape(points.min(0) - radii.max(), points.max(0) + radii.max(), distance_mm)


def _segment_distance_mm(positions: Array, ends: Points, radii: Points) -> Array:
    first, step = ends[0], ends[1] - ends[0]
    offset = positions - first.astype(np.float32).reshape(3, 1, 1, 1)
    direction = (step / (step @ step)).astype(np.float32)
    along = np.clip(np.einsum("c,cijk->ijk", direction, offset), 0, 1)
    offset -= step.astype(np.float32).reshape(3, 1, 1, 1) * along
    radius = radii[0] + (radii[1] - radii[0]) * along
    distance_mm: Array = np.sqrt(np.einsum("cijk,cijk->ijk", offset, offset)) - radius.astype(np.float32)
    return distance_mm


def union(shapes: Sequence[Shape], melt_mm: float = 0.0) -> Shape:
    """Several shapes, melted into each other over `melt_mm` (0: plainly joined)."""
    low = np.min([shape.low_mm for shape in shapes], axis=0) - melt_mm / 4
    high = np.max([shape.high_mm for shape in shapes], axis=0) + melt_mm / 4

    def distance_mm(space: Space, box: Box) -> Array:
        result = shapes[0].distance_mm(space, box)
        for shape in shapes[1:]:
            result = smooth_min(result, shape.distance_mm(space, box), melt_mm)
        return result

    return Shape(low, high, distance_mm)


def carved(
    shape: Shape, relief_mm: float = 0.0, limits: Sequence[Limit] = (), round_mm: float = 8.0, inset_mm: float = 0.0
) -> Shape:
    """A shape of uneven surface (s.d. `relief_mm`), `inset_mm` within all limits, rounded there over `round_mm`."""

    def distance_mm(space: Space, box: Box) -> Array:
        result = shape.distance_mm(space, box)
        if relief_mm:
            result = result + np.float32(relief_mm) * space.relief[box]
        for limit in limits:
            beyond_mm = limit(space.positions_mm[(slice(None), *box)]) + np.float32(inset_mm)
            result = -smooth_min(-result, -beyond_mm, round_mm)
        return result

    return Shape(shape.low_mm - 2 * relief_mm, shape.high_mm + 2 * relief_mm, distance_mm)


def region(limit: Limit, low_mm: Points, high_mm: Points) -> Shape:
    """Whatever a limit encloses between two template corners (3,), mm."""
    return Shape(low_mm, high_mm, lambda space, box: limit(space.positions_mm[(slice(None), *box)]))


def smooth_min(a: Array, b: Array, melt_mm: float) -> Array:
    """The smaller of two distances, rounded where they are closer than `melt_mm`."""
    if melt_mm <= 0:
        return np.minimum(a, b)
    mix = np.maximum(np.float32(melt_mm) - np.abs(a - b), 0)
    smooth: Array = np.minimum(a, b) - mix * mix * np.float32(0.25 / melt_mm)
    return smooth


@dataclass(frozen=True)
class Filling:
    """What a hollow part holds."""

    wall_mm: float  # thickness of the wall around it
    hu: float  # of the content
    air_above_mm: float = np.inf  # template height (to the front, a patient lies on the back) above which it is air


@dataclass(frozen=True, eq=False)
class Part:
    """One thing in the body; painted over what was there before."""

    shape: Shape  # where
    hu: float  # of the part, or of its wall
    label: int = 0  # class number, 0 for what no label map shows
    filling: Filling | None = None  # content of a hollow part
    mottle_hu: float = 0.0  # how much the relief shows in its HU
    within_label: int | None = None  # paint only where this label already is


def paint(parts: Sequence[Part], space: Space) -> tuple[Array, LabelArray]:
    """Paint parts in their order onto air: (I, J, K) HU float32 without noise, and labels uint8.

    A voxel takes the label of the last part whose surface encloses its centre, and the HU of the parts in proportion to
    how far their surfaces are away, within one voxel (the partial volume effect).
    """
    hu = np.full(space.geometry.shape, AIR_HU, dtype=np.float32)
    labels = np.zeros(space.geometry.shape, dtype=np.uint8)
    for part in parts:
        box = space.box_around(part.shape.low_mm, part.shape.high_mm)
        if any(side.stop <= side.start for side in box):
            continue
        distance_mm = part.shape.distance_mm(space, box)
        if part.within_label is not None:
            distance_mm[labels[box] != part.within_label] = np.inf
        labels[box][distance_mm < 0] = part.label
        _blend(hu[box], distance_mm, space.spacing_mm, part.hu + part.mottle_hu * space.relief[box])
        if part.filling is not None:
            inside_mm = distance_mm + np.float32(part.filling.wall_mm)
            _blend(hu[box], inside_mm, space.spacing_mm, part.filling.hu)
            if np.isfinite(part.filling.air_above_mm):
                below_mm = np.float32(part.filling.air_above_mm) - space.positions_mm[1][box]
                _blend(hu[box], np.maximum(inside_mm, below_mm), space.spacing_mm, AIR_HU)
    return hu, labels


def with_noise(hu: Array, rng: Generator, deviation_hu: float) -> HuArray:
    """Add noise that neighbouring voxels share and round to int16; the scanner's range is -1024 to 3071 HU."""
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    for axis in range(3):
        ahead, behind = np.roll(noise, 1, axis), np.roll(noise, -1, axis)
        noise *= 2
        noise += ahead
        noise += behind
        noise *= np.float32(1 / np.sqrt(6))
    noise *= np.float32(deviation_hu)
    noise += hu
    return np.clip(np.rint(noise), -1024, 3071).astype(np.int16)


def _blend(hu: Array, distance_mm: Array, spacing_mm: float, new_hu: Array | float) -> None:
    hu += np.clip(0.5 - distance_mm / np.float32(spacing_mm), 0, 1) * (new_hu - hu)
