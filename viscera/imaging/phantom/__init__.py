"""The phantom: a procedural abdomen in portal-venous CT, as much as one likes of it, with the truth known.

Seven labelled organs lie among things that look like them and have no label: kidneys, inferior vena cava, bowel,
spine, muscle. It is a schematic to learn the trade on and to test with, and no picture of anyone. Who a patient is, is
drawn once (`organs`), and then painted on any grid (`shapes`).
"""

from collections.abc import Sequence

import numpy as np

from viscera.core.geometry import Geometry, Index3
from viscera.core.scan import Case, LabelMap, Volume
from viscera.imaging.phantom.organs import patient_parts
from viscera.imaging.phantom.shapes import Space, paint, with_noise
from viscera.imaging.phantom.warp import Generator, Pose, SmoothField

FIELD_OF_VIEW_MM = (384.0, 288.0, 288.0)  # left to right, back to front, down to up: holds the whole abdomen

_NOISE_HU_AT_3_MM = (13.0, 22.0)


def spacing_for(shape: Sequence[int]) -> float:
    """The isotropic spacing in mm at which the whole abdomen fits into a grid of (I, J, K) voxels."""
    return max(extent_mm / n for extent_mm, n in zip(FIELD_OF_VIEW_MM, shape, strict=True))


def phantom_name(number: int) -> str:
    """The name of a case, for example `phantom_007`; never one that ends in nnU-Net's channel number `_0000`."""
    return f"phantom_{number:03d}"


def phantom_case(seed: int, number: int, shape: Index3 = (128, 128, 96), spacing_mm: float | None = None) -> Case:
    """One phantom patient: HU int16 and labels uint8 (I, J, K) on one grid along the RAS axes, its centre the origin.

    Seed and number (from 0 on, else ValueError) alone decide who it is; shape and the isotropic spacing (None:
    `spacing_for(shape)`) only decide how it is sampled, and its noise.
    """
    spacing_mm = spacing_for(shape) if spacing_mm is None else spacing_mm
    geometry = Geometry.from_spacing(shape, (spacing_mm,) * 3)
    anatomy_rng, noise_rng = (
        Generator(np.random.Philox(sequence)) for sequence in np.random.SeedSequence([seed, number]).spawn(2)
    )
    pose, relief = Pose.random(anatomy_rng), SmoothField.random(anatomy_rng, 1, 22.0, 1.0)
    hu, labels = paint(patient_parts(anatomy_rng), Space.of(geometry, pose, relief))
    noise_hu = noise_rng.uniform(*_NOISE_HU_AT_3_MM) * min(1.5, (3.0 / spacing_mm) ** 0.5)
    volume = Volume(with_noise(hu, noise_rng, noise_hu), geometry)
    return Case(phantom_name(number), volume, LabelMap(labels, geometry))
