"""The seven labelled organs of the template, and what lies between them and looks like them: without a label.

Each is a little different in every patient. mm and HU; axes as in `body`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ORGANS
from viscera.imaging.phantom.body import Frame, body_parts
from viscera.imaging.phantom.shapes import Filling, Part, carved, ellipsoid, tube, union
from viscera.imaging.phantom.warp import Generator, Points, mm

_LABEL = {organ.name: organ.label for organ in ORGANS}
_COLON_MM = (  # ascending, transverse, descending
    [(92.0, -8, -170), (98, -18, -100), (98, -10, -42)],
    [(98.0, -10, -42), (60, 46, -58), (10, 66, -52), (-50, 60, -36), (-98, 6, -10)],
    [(-98.0, 6, -10), (-112, -22, -60), (-104, -18, -120), (-88, -10, -175)],
)
# standard deviations in the order of drawing: along each axis of where an organ lies, and of its lengths' logarithms
_PLACES_MM = {
    "pancreas": (6, 4, 8),
    "liver": (5, 5, 7),
    "spleen": (4, 6, 8),
    "stomach": (6, 4, 7),
    "gallbladder": (8, 6, 6),
    "vessels": (4, 3, 4),
}
_SIZES = {"liver": 0.05, "spleen": 0.09, "stomach": 0.06, "gallbladder": 0.08, "pancreas": 0.07, "vessels": 0.05}


@dataclass(frozen=True, eq=False)
class Person:
    """What makes one patient differ from the template."""

    frame: Frame
    at: Mapping[str, Points]  # shift (3,) of each organ in mm
    size: Mapping[str, float]  # factor on its lengths
    hu: Mapping[str, float]  # of what takes up contrast medium

    @classmethod
    def random(cls, rng: Generator) -> "Person":
        """In the portal-venous phase, a little early or late."""
        frame = Frame.random(rng)
        at = {organ: scatter(rng, deviations) for organ, deviations in _PLACES_MM.items()}
        at["stomach"] = at["stomach"] + at["pancreas"] * 0.6  # on which it rests
        size = {organ: float(np.exp(scatter(rng, deviation))) for organ, deviation in _SIZES.items()}
        portal = rng.normal(164, 8)
        hu = {
            "portal_vein": portal,
            "artery": portal + rng.normal(4, 7),
            "vena_cava": portal + rng.normal(-8, 8),
            "liver": rng.normal(102, 7),
            "spleen": rng.normal(116, 6),
            "pancreas": rng.normal(92, 7),
            "kidney": rng.normal(175, 12),
        }
        return cls(frame, at, size, hu)

    @property
    def stomach_mm(self) -> Points:
        """(5, 3) template positions along the stomach, from the fundus to the pylorus."""
        knots = np.array([(-54, -16, 66), (-66, 16, 44), (-54, 46, 8), (-16, 54, -14), (22, 40, -10)])
        moved: Points = knots + self.at["stomach"] * np.array([[0.6], [1.0], [1.2], [1.2], [0.7]])
        return moved

    @property
    def spleen_hilum_mm(self) -> Points:
        """(3,) where vessels enter the spleen."""
        return mm(-76.0, -24, 28) + self.at["spleen"]

    @property
    def liver_porta_mm(self) -> Points:
        """(3,) where the portal vein enters the liver."""
        return mm(38.0, 6, 26) + self.at["liver"] * mm(0.6, 0.8, 0.8)


def scatter(rng: Generator, deviations: npt.ArrayLike, *rows: int) -> Points:
    """(*rows, axes) normal deviates with a standard deviation for each axis, none further out than two of them."""
    deviates: Points = np.clip(rng.normal(0, 1, (*rows, *np.shape(deviations))), -2, 2) * np.asarray(deviations)
    return deviates


def patient_parts(rng: Generator) -> list[Part]:
    """Another patient in the order of painting; later parts lie in front, so organs touch and never overlap."""
    person = Person.random(rng)
    of_organs = bowel, stomach, spleen, liver, kidneys, vena_cava, duodenum, gallbladder, pancreas, portal_vein, artery
    return [*body_parts(person.frame, rng), *(part for parts_of in of_organs for part in parts_of(person, rng))]


def liver(person: Person, rng: Generator) -> list[Part]:
    """Right lobe under the right dome, left lobe across the midline in front; hepatic veins belong to it."""
    size, at = person.size["liver"], person.at["liver"]
    right = ellipsoid(at + mm(72, -4, 28), np.array([64, 78, 80]) * size, scatter(rng, (4, 4, 8)))
    left_length_mm = 66 + scatter(rng, 9)
    left = ellipsoid(at + mm(-2, 46, 50), np.array([left_length_mm, 32, 32]) * size, (0, -12, -8))
    shape = carved(union((right, left), 22), 2.5, (person.frame.cavity, person.frame.diaphragm), 10, inset_mm=2)
    parts = [Part(shape, person.hu["liver"], _LABEL["liver"], mottle_hu=2)]
    for end in ((90, 4, 66), (52, 46, 66), (-4, 42, 62)):
        outlet, tip = np.array((20, -26, 82)), np.array(end) + scatter(rng, (5, 5, 5))
        knots = np.array([outlet, (outlet + tip) / 2 + mm(0, 0, 5), tip]) + at
        vein = Part(tube(knots, (5, 4.5, 3)), person.hu["vena_cava"], _LABEL["liver"], within_label=_LABEL["liver"])
        parts.append(vein)
    return parts


def spleen(person: Person, rng: Generator) -> list[Part]:
    """A crescent along the left wall, behind."""
    size, at = person.size["spleen"], person.at["spleen"]
    knots = np.array([(-78, -58, 10), (-93, -44, 24), (-98, -24, 42), (-88, -12, 62)]) + at
    body = tube(knots + scatter(rng, (4, 4, 4)), np.array([23, 33, 33, 20]) * size)
    shape = carved(body, 2.0, (person.frame.cavity, person.frame.diaphragm), 10, inset_mm=2)
    return [Part(shape, person.hu["spleen"], _LABEL["spleen"], mottle_hu=2)]


def stomach(person: Person, rng: Generator) -> list[Part]:
    """Fundus under the left dome, body to the front, antrum across to the duodenum; fluid below, air above."""
    size = person.size["stomach"]
    knots = person.stomach_mm + scatter(rng, (4, 4, 5), 5)
    fullness = size * np.exp(scatter(rng, 0.05))
    bag = tube(knots, np.array([32, 31, 25, 18, 10]) * fullness)
    shape = carved(bag, 2.5, (person.frame.cavity, person.frame.diaphragm), 10, inset_mm=3)
    contrast = rng.random() < 0.45
    fluid_hu = rng.uniform(150, 300) if contrast else rng.uniform(5, 55)
    air_above_mm = knots[2, 1] + rng.uniform(-14, 14)
    wall_hu = rng.normal(80, 8)
    return [Part(shape, wall_hu, _LABEL["stomach"], Filling(rng.uniform(3, 5), fluid_hu, air_above_mm))]


def gallbladder(person: Person, rng: Generator) -> list[Part]:
    """A pear under the right lobe, its neck towards the liver's hilum."""
    at = person.at["liver"] / 2 + person.at["gallbladder"]
    knots = np.array([(48, 22, 2), (56, 36, -16), (62, 46, -36)]) + at + scatter(rng, (2, 2, 2), 3)
    pear = tube(knots, np.array([6, 12.5, 14.5]) * person.size["gallbladder"])
    return [Part(carved(pear, 1.0), rng.normal(10, 5), _LABEL["gallbladder"])]


def pancreas(person: Person, rng: Generator) -> list[Part]:
    """Head in the loop of the duodenum, body across the spine, tail to the spleen's hilum."""
    at, tail = person.at["pancreas"], person.spleen_hilum_mm + mm(10, 2, -4)
    knots = np.array([(26, 8, -42), (26, 12, -26), (8, 22, -10), (-24, 14, 2), (-50, -6, 14)]) + at
    knots = np.vstack([knots + scatter(rng, (2, 2, 3), 5), tail])
    gland = tube(knots, np.array([13, 17, 11, 12, 11, 9]) * person.size["pancreas"])
    return [Part(carved(gland, 2.0), person.hu["pancreas"], _LABEL["pancreas"], mottle_hu=6)]


def portal_vein(person: Person, rng: Generator) -> list[Part]:
    """Superior mesenteric and splenic vein join behind the pancreas's neck, the trunk parts in the liver."""
    size = person.size["vessels"]
    joint = mm(12.0, 6, -10) + (person.at["vessels"] + person.at["pancreas"]) / 2
    porta = person.liver_porta_mm
    hilum = person.spleen_hilum_mm + mm(2, -4, 0)
    bend = scatter(rng, (4, 3, 4))
    right = porta + mm(30, -6, 10) + scatter(rng, (5, 5, 5))
    left = porta + mm(-14, 22, 16) + scatter(rng, (4, 4, 4))
    courses = (
        ([joint + mm(-2, -2, -88), joint + bend + mm(-2, 0, -44), joint], (5.5, 6.5, 7)),
        ([joint, (joint + porta) / 2 + bend / 2 + mm(0, 2, 0), porta], (7.5, 7.5, 7.2)),
        ([joint, joint + mm(-34, -2, 12) + bend, hilum + mm(26, 2, -6), hilum], (6, 5.5, 5, 4)),
        ([porta, (porta + right) / 2 + mm(0, 0, 4), right, right + mm(16, -18, 4)], (6.5, 6, 5, 3.5)),
        ([right, right + mm(10, 20, 10)], (5, 3.5)),
        ([porta, left, left + mm(-16, 10, 4)], (6, 5, 4)),
    )
    return [_vessel(courses, size, person.hu["portal_vein"], "portal_vein")]


def artery(person: Person, rng: Generator) -> list[Part]:
    """Aorta to the iliac arteries, coeliac trunk with splenic and hepatic artery, superior mesenteric artery."""
    size, at = float(person.size["vessels"] * np.exp(scatter(rng, 0.04))), person.at["vessels"]
    trunk = mm(-7.0, -8, 14) + at
    hilum, porta = person.spleen_hilum_mm + mm(2, 4, 14), person.liver_porta_mm + mm(-6, 8, -8)
    fork = mm(-4.0, -36, -108) + at + scatter(rng, (2, 1, 10))
    wave = scatter(rng, (4, 3, 3))
    courses = (
        ([mm(-12, -36, 160) + at, mm(-11, -34, 60) + at, mm(-8, -33, -20) + at, fork], (9.4, 8.8, 8.0, 7.4)),
        ([fork, fork + mm(22, 4, -34), fork + mm(42, 6, -70)], (5.2, 4.8, 4.5)),
        ([fork, fork + mm(-22, 4, -34), fork + mm(-42, 6, -70)], (5.2, 4.8, 4.5)),
        ([mm(-9, -33, 10) + at, trunk + mm(0, -6, 0), trunk], (5, 4.5, 4.5)),
        ([trunk, trunk + mm(-24, 2, 16) + wave, hilum + mm(28, 0, 3) - wave, hilum], (4, 4, 4, 3.5)),
        ([trunk, trunk + mm(18, 10, -4) + wave / 2, porta], (4, 4, 3.5)),
        ([mm(-8, -33, -6) + at, mm(-6, -14, -16) + at, mm(-6, -4, -50) + at, mm(-4, 4, -92) + at], (4.5, 4.5, 4.2, 4)),
    )
    return [_vessel(courses, size, person.hu["artery"], "artery")]


def bowel(person: Person, rng: Generator) -> list[Part]:
    """Small bowel in the lower middle, colon as a frame around it; painted before the labelled organs."""
    parts = []
    for _ in range(5):
        middle = mm(rng.uniform(-55, 55), rng.uniform(5, 50), rng.uniform(-125, -62))
        steps = scatter(rng, (34, 20, 22), 6)
        knots = middle + steps - steps.mean(0)
        parts.append(_gut(person, knots, rng.uniform(10, 14, 6), rng))
    shift = scatter(rng, (5, 5, 8))
    for course in _COLON_MM:
        knots = np.array(course) + shift
        parts.append(_gut(person, knots, rng.uniform(14, 21, len(knots)), rng))
    return parts


def kidneys(person: Person, rng: Generator) -> list[Part]:
    """Both kidneys: bright cortex, paler medulla, fat and urine in the sinus; the right one lies lower."""
    parts = []
    for side, height_mm in ((1, -44), (-1, -32)):
        centre = mm(side * 64, -50, height_mm) + scatter(rng, (4, 4, 9))
        radii = np.array((25.0, 23, 53)) * np.exp(scatter(rng, 0.06))
        tilt = mm(-8.0, side * 10, side * 20) + scatter(rng, (3, 3, 5))
        shape = carved(ellipsoid(centre, radii, tilt), 1.5, (person.frame.cavity,), 6)
        parts.append(Part(shape, person.hu["kidney"], filling=Filling(8.0, person.hu["kidney"] - 30)))
        sinus = ellipsoid(centre - mm(side * 12, -4, 0), radii * (0.55, 0.4, 0.5), tilt)
        parts.append(Part(sinus, rng.uniform(-50, 10)))
    return parts


def vena_cava(person: Person, rng: Generator) -> list[Part]:
    """Beside the aorta on the right, through the back of the liver to the heart; kidney veins join it."""
    at = person.at["vessels"] * (1, 0.6, 0) + scatter(rng, (2, 2, 0))
    knots = np.array([(34, -38, -190), (18, -36, -110), (17, -32, -30), (20, -24, 40), (20, -18, 130)]) + at
    main = tube(knots, np.array((8, 10, 10.5, 11.5, 12)) * rng.uniform(0.85, 1.1))
    left = np.array([(-50, -44, -20), (-22, -22, -12), (2, -20, -14), (16, -30, -18)]) + at
    right = np.array([(52, -46, -34), (20, -34, -26)]) + at
    joining = [Part(tube(course, (5.0,) * len(course)), person.hu["vena_cava"]) for course in (left, right)]
    return [*joining, Part(main, person.hu["vena_cava"])]


def duodenum(person: Person, rng: Generator) -> list[Part]:
    """From the pylorus around the pancreas's head and back across the spine."""
    course = np.array([(44, 30, -18), (50, 10, -40), (40, 0, -66), (8, -6, -68), (-30, 6, -52)])
    knots = np.vstack([person.stomach_mm[-1], course + person.at["pancreas"] * 0.8 + scatter(rng, (2, 2, 2), 5)])
    return [_gut(person, knots, rng.uniform(9, 12, 6), rng)]


def _gut(person: Person, knots: Points, radii_mm: Points, rng: Generator) -> Part:
    shape = carved(tube(knots, radii_mm), 1.5, (person.frame.cavity,), 6)
    kind = rng.random()
    content_hu = rng.uniform(140, 320) if kind < 0.3 else rng.uniform(0, 70)
    air_above_mm = np.inf if kind < 0.6 else knots[:, 1].mean() + rng.uniform(-6, 14)
    wall_hu = rng.normal(75, 10)
    return Part(shape, wall_hu, filling=Filling(rng.uniform(2, 4), content_hu, float(air_above_mm)))


def _vessel(courses: Sequence[tuple[Sequence[Points], Sequence[float]]], size: float, hu: float, name: str) -> Part:
    tubes = [tube(np.array(knots, dtype=np.float64), np.asarray(radii) * size) for knots, radii in courses]
    return Part(union(tubes), hu, _LABEL[name])
