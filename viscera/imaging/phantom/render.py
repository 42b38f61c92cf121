"""From parts to a CT: painting one after the other with soft edges, then noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from viscera.core.scan import HuArray, LabelArray
from viscera.imaging.phantom.shapes import Box, Shape, Space
from viscera.imaging.phantom.warp import Array, Generator

AIR_HU = -1000.0


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
        box = space.box_around(*part.shape.reach_mm())
        if any(side.stop <= side.start for side in box):
            continue
        distance_mm = part.shape.distance_mm(space, box)
        if part.within_label is not None:
            distance_mm[labels[box] != part.within_label] = np.inf
        labels[box][distance_mm < 0] = part.label
        _blend(hu[box], _coverage(distance_mm, space), part.hu + part.mottle_hu * space.relief[box])
        if part.filling is not None:
            _fill(hu[box], distance_mm, part.filling, (space, box))
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


def _coverage(distance_mm: Array, space: Space) -> Array:
    coverage: Array = np.clip(0.5 - distance_mm / np.float32(space.spacing_mm), 0, 1)
    return coverage


def _blend(hu: Array, coverage: Array, new_hu: Array | float) -> None:
    hu += coverage * (new_hu - hu)


def _fill(hu: Array, distance_mm: Array, filling: Filling, place: tuple[Space, Box]) -> None:
    space, box = place
    inside_mm = distance_mm + np.float32(filling.wall_mm)
    _blend(hu, _coverage(inside_mm, space), filling.hu)
    if np.isfinite(filling.air_above_mm):
        below_mm = np.float32(filling.air_above_mm) - space.positions_mm[1][box]
        _blend(hu, _coverage(np.maximum(inside_mm, below_mm), space), AIR_HU)
