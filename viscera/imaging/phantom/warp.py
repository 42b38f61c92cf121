"""Smooth random fields in millimetres, and the pose that brings a patient's positions into the template.

Everything is a function of the position in mm, so that one patient is the same on every grid.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
Axes = tuple[Points, Points, Points]
Generator = np.random.Generator

_REACH_MM = 240.0  # a field covers the cube of twice this edge around the origin and fades to 0 outside
_POINT_DEVIATION = 0.33  # of a sum of cubic B-splines with standard normal coefficients
_INVERSE_STEPS = 4


@dataclass(frozen=True, eq=False)
class SmoothField:
    """A random field of cubic B-splines."""

    coefficients: Array  # (C, n, n, n) float32, one a knot and component; the middle knot is the origin
    knot_mm: float  # distance of the knots; structures are about twice as large

    @classmethod
    def random(cls, rng: Generator, components: int, knot_mm: float, deviation: float) -> "SmoothField":
        """A Gaussian field with mean 0 and about the given standard deviation at every point."""
        n = 2 * int(_REACH_MM / knot_mm) + 1
        coefficients = rng.standard_normal((components, n, n, n), dtype=np.float32)
        return cls(coefficients * np.float32(deviation / _POINT_DEVIATION), knot_mm)

    def on_axes(self, axes_mm: Axes) -> Array:
        """(C, I, J, K) values on the grid of the positions x (I,), y (J,) and z (K,)."""
        field = self.coefficients
        for axis_mm in axes_mm:
            field = np.tensordot(field, self._basis(axis_mm), axes=(1, 1))  # the next axis goes, its grid comes last
        return field

    def at(self, points_mm: Points) -> Points:
        """(N, C) values at the positions (N, 3)."""
        basis = self._basis(points_mm)
        field: Array = np.tensordot(basis[:, 0], self.coefficients, axes=(1, 1))
        field = np.einsum("ndbc,nb->ndc", field, basis[:, 1])
        values: Points = np.einsum("ndc,nc->nd", field, basis[:, 2]).astype(np.float64)
        return values

    def _basis(self, positions_mm: Points) -> Array:
        n = self.coefficients.shape[1]
        t = np.abs(positions_mm[..., None] / self.knot_mm - (np.arange(n) - n // 2))
        near, far = 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6
        basis: Array = np.where(t < 1, near, far).astype(np.float32)
        return basis


@dataclass(frozen=True, eq=False)
class Pose:
    """How a patient differs from the template as a whole: turned, scaled, shifted and gently bent."""

    linear: Points  # (3, 3) float64, patient to template
    shift_mm: Points  # (3,) float64, where the template's origin lies in the patient but for the bend
    bend: SmoothField  # three components in mm, added in template coordinates

    @classmethod
    def random(cls, rng: Generator) -> "Pose":
        """Angles of about 3 degrees, sizes of about 95 to 105 per cent, shifts and bending of several mm."""
        degrees = np.clip(rng.normal(0, 2.5, 3), -6, 6)
        size = 1.01 * np.exp(np.clip(rng.normal(0, 0.03), -0.06, 0.05) + np.clip(rng.normal(0, 0.015, 3), -0.03, 0.03))
        linear = np.diag(1 / size) @ rotation(degrees)
        shift_mm = np.clip(rng.normal(0, (4, 4, 8)), (-8, -8, -16), (8, 8, 16))
        return cls(linear, shift_mm, SmoothField.random(rng, 3, 80.0, 5.0))

    def template_positions(self, axes_mm: Axes) -> Array:
        """(3, I, J, K) float32: where each voxel centre lies in the template, mm; axes as in `SmoothField.on_axes`."""
        positions = self.bend.on_axes(axes_mm)
        for component in range(3):
            for axis in range(3):
                part = self.linear[component, axis] * (axes_mm[axis] - self.shift_mm[axis])
                positions[component] += part.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        return positions

    def to_patient(self, points_mm: Points) -> Points:
        """(N, 3) positions in the patient of template positions (N, 3), mm: the inverse, by fixed-point iteration."""
        inverse = np.linalg.inv(self.linear)
        patient_mm = points_mm @ inverse.T + self.shift_mm
        for _ in range(_INVERSE_STEPS):
            patient_mm = (points_mm - self.bend.at(patient_mm)) @ inverse.T + self.shift_mm
        return patient_mm


def rotation(degrees: npt.ArrayLike) -> Points:
    """(3, 3) rotation by angles (3,) about x, y and z, multiplied in this order."""
    matrix = np.eye(3)
    angles = np.radians(np.asarray(degrees, dtype=np.float64))
    for (first, second), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def mm(x: float, y: float, z: float) -> Points:
    """A position or shift (3,) in mm."""
    return np.array((x, y, z), dtype=np.float64)
