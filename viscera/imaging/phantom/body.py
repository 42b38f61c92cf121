"""What encloses the organs: skin, fat, muscle wall, lungs, heart and bones. None of it has a label.

Template coordinates: x to the patient's right, y to the front, z up; the origin lies in front of the spine at the
height of the first lumbar vertebra. Millimetres and HU throughout.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from viscera.imaging.phantom.shapes import Part, carved, ellipsoid, region, tube, union
from viscera.imaging.phantom.warp import Array, Generator

FAT_HU, MUSCLE_HU, LUNG_HU, BONE_HU = -100.0, 58.0, -810.0, 330.0
SPINE_Y_MM = -64.0

_FAR = np.full(3, 400.0)
_VERTEBRA_PITCH_MM = 36.0


@dataclass(frozen=True)
class Frame:
    """The walls of one patient's abdomen; its methods are limits (see `shapes`)."""

    half_width_mm: float  # of the cavity, to the sides
    half_depth_mm: float  # of the cavity, front to back
    wall_mm: float  # thickness of the muscle wall
    fat_mm: float  # thickness of the fat under the skin
    dome_mm: float  # height of the right dome of the diaphragm
    vertebra_mm: float  # height of the first disc

    @classmethod
    def random(cls, rng: Generator) -> "Frame":
        """Another person; the fat differs most."""
        return cls(
            half_width_mm=rng.uniform(128, 138),
            half_depth_mm=rng.uniform(82, 90),
            wall_mm=rng.uniform(9, 14),
            fat_mm=rng.uniform(6, 20),
            dome_mm=rng.uniform(92, 104),
            vertebra_mm=rng.uniform(-18, 18),
        )

    def cavity(self, positions: Array, beyond_mm: float = 0.0) -> Array:
        """Inside the muscle wall, or inside the ellipse that lies so far beyond its inner face."""
        half_width_mm, half_depth_mm = (np.float32(n + beyond_mm) for n in (self.half_width_mm, self.half_depth_mm))
        x, y = positions[0] / half_width_mm, positions[1] / half_depth_mm
        norm = np.sqrt(x * x + y * y + np.float32(1e-12))
        x /= half_width_mm
        y /= half_depth_mm
        distance_mm: Array = norm * (norm - 1) / np.sqrt(x * x + y * y + np.float32(1e-20))
        return distance_mm

    def diaphragm(self, positions: Array) -> Array:
        """Below the diaphragm: two domes and the central tendon between them."""
        x, y, z = positions
        back = np.minimum((y - 5) / 70, 0) ** 2
        right = self.dome_mm - 22 * ((x - 65) / 60) ** 2 - 22 * back - 14 * ((y - 5) / 70) ** 2
        left = self.dome_mm - 12 - 22 * ((x + 72) / 60) ** 2 - 22 * back - 14 * ((y - 5) / 70) ** 2
        tendon = self.dome_mm - 18 - 25 * (x / 60) ** 2 - 35 * back
        below: Array = (z - np.maximum(np.maximum(right, left), tendon)) * np.float32(0.8)
        return below

    def lungs(self, positions: Array) -> Array:
        """Above the diaphragm, beside the mediastinum."""
        x, y, _ = positions
        beside = 24 - np.abs(x) + np.where(y < -50, 10, 0)
        chest = self.cavity(positions) + 3
        lungs: Array = np.maximum(np.maximum(chest, 4 - self.diaphragm(positions)), beside).astype(np.float32)
        return lungs

    def ribs(self, positions: Array) -> Array:
        """Slanting bars in the muscle wall of the chest."""
        _, y, z = positions
        middle = np.abs(self.cavity(positions) - self.wall_mm / 2) - 4
        bars = 5.5 * (0.25 - np.cos((z - 0.45 * y) * np.float32(2 * np.pi / 30)))
        ribs: Array = np.maximum(np.maximum(middle, bars), np.maximum(-z - 0.6 * y - 15, y - 65)).astype(np.float32)
        return ribs

    def discs(self, positions: Array) -> Array:
        """The slices between the vertebral bodies."""
        height_mm = (positions[2] - self.vertebra_mm) % _VERTEBRA_PITCH_MM
        discs: Array = np.abs(height_mm - _VERTEBRA_PITCH_MM / 2).astype(np.float32) - 4
        return discs


def body_parts(frame: Frame, rng: Generator) -> list[Part]:
    """Skin to bones, in the order of painting."""
    bone_hu = BONE_HU + rng.normal(0, 30)
    layers = ((frame.wall_mm + frame.fat_mm, FAT_HU, 3), (frame.wall_mm, MUSCLE_HU, 5), (0.0, FAT_HU, 4))
    return [
        *(Part(region(partial(frame.cavity, beyond_mm=mm), -_FAR, _FAR), hu, mottle_hu=by) for mm, hu, by in layers),
        Part(region(frame.ribs, np.array([-200.0, -130, -60]), np.array([200.0, 80, 400])), bone_hu),
        Part(region(frame.lungs, np.array([-160.0, -120, 0]), np.array([160.0, 120, 400])), LUNG_HU, mottle_hu=25),
        Part(ellipsoid((-22, 32, 150), (62, 46, 54)), 150, mottle_hu=8),
        *_muscles(rng),
        *_spine(frame, bone_hu),
    ]


def _muscles(rng: Generator) -> list[Part]:
    parts = []
    for side in (-1, 1):
        psoas = np.array([[side * 26, -58, 20], [side * 36, -56, -50], [side * 50, -44, -200]])
        parts.append(Part(tube(psoas, (6, rng.uniform(15, 19), 25)), MUSCLE_HU, mottle_hu=4))
        parts.append(Part(ellipsoid((side * 34.0, -88, 0), (27.0, 17, 800)), MUSCLE_HU, mottle_hu=6))
    crura = tube(np.array([[-14.0, -42, 60], [-12, -44, 10], [-10, -50, -40]]), (8, 8, 4))
    return [*parts, Part(crura, MUSCLE_HU)]


def _spine(frame: Frame, bone_hu: float) -> list[Part]:
    column = ellipsoid((0.0, SPINE_Y_MM, 0), (22.0, 17, 2000))
    canal = ellipsoid((0.0, SPINE_Y_MM - 25, 0), (11.0, 9, 2000))
    arch = ellipsoid((0.0, SPINE_Y_MM - 26, 0), (19.0, 14, 2000))
    process = ellipsoid((0.0, SPINE_Y_MM - 42, 0), (4.5, 16, 2000))
    return [
        Part(carved(union((arch, process), 6), limits=(lambda q: -frame.discs(q) - 2,)), bone_hu + 40),
        Part(canal, 35),
        Part(column, bone_hu - 110, mottle_hu=15),
        Part(carved(column, limits=(frame.discs,), round_mm=0), 95),
    ]
