"""A patient: who is drawn once, and painted on any grid."""

from dataclasses import dataclass

from viscera.imaging.phantom.body import Frame, body_parts
from viscera.imaging.phantom.bystanders import bowel, duodenum, kidneys, vena_cava
from viscera.imaging.phantom.organs import (
    Enhancement,
    Places,
    artery,
    gallbladder,
    liver,
    pancreas,
    portal_vein,
    spleen,
    stomach,
)
from viscera.imaging.phantom.render import Part
from viscera.imaging.phantom.warp import Generator, Pose, SmoothField


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient, independent of any grid.

    Attributes:
        pose: of the whole body.
        relief: the unevenness of surfaces and tissue, one component.
        parts: in the order of painting; later ones lie in front, so organs touch and never overlap.
    """

    pose: Pose
    relief: SmoothField
    parts: tuple[Part, ...]

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
