"""A phantom patient: who is drawn once, and painted on any grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from viscera.core.geometry import Geometry, Index3
from viscera.core.scan import Case, LabelMap, Volume
from viscera.imaging.phantom.body import Frame, body_parts
from viscera.imaging.phantom.organs import (
    Enhancement,
    Places,
    artery,
    bowel,
    duodenum,
    gallbladder,
    kidneys,
    liver,
    pancreas,
    portal_vein,
    spleen,
    stomach,
    vena_cava,
)
from viscera.imaging.phantom.render import Part, paint, with_noise
from viscera.imaging.phantom.shapes import Space
from viscera.imaging.phantom.warp import Generator, Pose, SmoothField

FIELD_OF_VIEW_MM = (384.0, 288.0, 288.0)  # left to right, back to front, down to up: holds the whole abdomen

_NOISE_HU_AT_3_MM = (13.0, 22.0)


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient, independent of any grid."""

    pose: Pose  # of the whole body
    relief: SmoothField  # the unevenness of surfaces and tissue, one component
    parts: tuple[Part, ...]  # in the order of painting; later ones lie in front, so organs touch and never overlap

    @classmethod
    def random(cls, rng: Generator) -> "Patient":
        """Draw a patient."""
        pose, relief = Pose.random(rng), SmoothField.random(rng, 1, 22.0, 1.0)
        frame, places, hu = Frame.random(rng), Places.random(rng), Enhancement.random(rng)
        parts = (
            *body_parts(frame, rng),
            *bowel(frame, rng),
            *stomach(frame, places, rng),
            *spleen(frame, places, hu, rng),
            *liver(frame, places, hu, rng),
            *kidneys(frame, hu, rng),
            *vena_cava(places, hu, rng),
            *duodenum(frame, places, rng),
            *gallbladder(places, rng),
            *pancreas(places, hu, rng),
            *portal_vein(places, hu, rng),
            *artery(places, hu, rng),
        )
        return cls(pose, relief, parts)


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
    patient = Patient.random(anatomy_rng)
    hu, labels = paint(patient.parts, Space.of(geometry, patient.pose, patient.relief))
    noise_hu = noise_rng.uniform(*_NOISE_HU_AT_3_MM) * min(1.5, (3.0 / spacing_mm) ** 0.5)
    return Case(
        phantom_name(number),
        Volume(with_noise(hu, noise_rng, noise_hu), geometry),
        LabelMap(labels, geometry),
    )
