"""What lies between the labelled organs and looks like them: kidneys, inferior vena cava, duodenum, bowel.

None of it has a label.
"""

import numpy as np

from viscera.imaging.phantom.body import Frame
from viscera.imaging.phantom.organs import Enhancement, Places, ellipsoid, pylorus, scatter, spread
from viscera.imaging.phantom.render import Filling, Part
from viscera.imaging.phantom.shapes import Carved, Tube
from viscera.imaging.phantom.warp import Generator, Points, mm

_WALL_HU = 75.0
_COLON_MM = (  # ascending, transverse, descending
    [(92.0, -8, -170), (98, -18, -100), (98, -10, -42)],
    [(98.0, -10, -42), (60, 46, -58), (10, 66, -52), (-50, 60, -36), (-98, 6, -10)],
    [(-98.0, 6, -10), (-112, -22, -60), (-104, -18, -120), (-88, -10, -175)],
)


def bowel(frame: Frame, rng: Generator) -> list[Part]:
    """Small bowel in the lower middle, colon as a frame around it; painted before the labelled organs."""
    parts = []
    for _ in range(5):
        middle = mm(rng.uniform(-55, 55), rng.uniform(5, 50), rng.uniform(-125, -62))
        steps = scatter(rng, 6, (34, 20, 22))
        knots = middle + steps - steps.mean(0)
        parts.append(_gut(frame, knots, rng.uniform(10, 14, 6), rng))
    shift = spread(rng, (5, 5, 8))
    for course in _COLON_MM:
        knots = np.array(course) + shift
        parts.append(_gut(frame, knots, rng.uniform(14, 21, len(knots)), rng))
    return parts


def kidneys(frame: Frame, hu: Enhancement, rng: Generator) -> list[Part]:
    """Both kidneys: bright cortex, paler medulla, fat and urine in the sinus; the right one lies lower."""
    parts = []
    for side, height_mm in ((1, -44), (-1, -32)):
        centre = mm(side * 64, -50, height_mm) + spread(rng, (4, 4, 9))
        radii = np.array((25.0, 23, 53)) * np.exp(spread(rng, (0.06,))[0])
        tilt = mm(-8.0, side * 10, side * 20) + spread(rng, (3, 3, 5))
        shape = Carved(ellipsoid(centre, radii, tilt), 1.5, (frame.cavity,), 6)
        parts.append(Part(shape, hu.kidney, filling=Filling(8.0, hu.kidney - 30)))
        sinus = ellipsoid(centre - mm(side * 12, -4, 0), radii * (0.55, 0.4, 0.5), tilt)
        parts.append(Part(sinus, rng.uniform(-50, 10)))
    return parts


def vena_cava(places: Places, hu: Enhancement, rng: Generator) -> list[Part]:
    """Beside the aorta on the right, through the back of the liver to the heart; kidney veins join it."""
    at = places.vessels_mm * (1, 0.6, 0) + spread(rng, (2, 2, 0))
    knots = np.array([(34, -38, -190), (18, -36, -110), (17, -32, -30), (20, -24, 40), (20, -18, 130)]) + at
    main = Tube.through(knots, np.array((8, 10, 10.5, 11.5, 12)) * rng.uniform(0.85, 1.1))
    left = np.array([(-50, -44, -20), (-22, -22, -12), (2, -20, -14), (16, -30, -18)]) + at
    right = np.array([(52, -46, -34), (20, -34, -26)]) + at
    return [Part(Tube.through(course, (5.0,) * len(course)), hu.cava) for course in (left, right)] + [
        Part(main, hu.cava)
    ]


def duodenum(frame: Frame, places: Places, rng: Generator) -> list[Part]:
    """From the pylorus around the pancreas's head and back across the spine."""
    course = np.array([(44, 30, -18), (50, 10, -40), (40, 0, -66), (8, -6, -68), (-30, 6, -52)])
    knots = np.vstack([pylorus(places), course + places.pancreas_mm * 0.8 + scatter(rng, 5, (2, 2, 2))])
    return [_gut(frame, knots, rng.uniform(9, 12, 6), rng)]


def _gut(frame: Frame, knots: Points, radii_mm: Points, rng: Generator) -> Part:
    shape = Carved(Tube.through(knots, radii_mm), 1.5, (frame.cavity,), 6)
    kind = rng.random()
    content_hu = rng.uniform(140, 320) if kind < 0.3 else rng.uniform(0, 70)
    air_above_mm = np.inf if kind < 0.6 else knots[:, 1].mean() + rng.uniform(-6, 14)
    return Part(shape, rng.normal(_WALL_HU, 10), filling=Filling(rng.uniform(2, 4), content_hu, float(air_above_mm)))
