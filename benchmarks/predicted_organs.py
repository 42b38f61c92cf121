"""Label maps to score: the organs of a phantom, and what a trained network might say of them.

A prediction is the truth pulled out of shape by a smooth random field with a standard deviation of 1.5 mm along each
axis: Dice is 0.97 for the liver and 0.76 to 0.93 for the other organs, HD95 2 to 3 mm, as of good networks.
"""

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import Index3
from viscera.core.scan import LabelMap
from viscera.imaging.phantom import phantom_case
from viscera.imaging.phantom.warp import Generator, SmoothField

SHAPES: dict[str, Index3] = {"256": (256, 256, 160), "512": (512, 512, 400)}
_DEVIATION_MM, _KNOT_MM = 1.5, 15.0
_PLANES = 16  # that are made at once


def predicted_organs(shape: Index3) -> tuple[LabelMap, LabelMap]:
    """A prediction and the truth, eight classes."""
    truth = phantom_case(0, 0, shape).label_map
    field = SmoothField.random(Generator(np.random.Philox(1)), 3, _KNOT_MM, _DEVIATION_MM)
    n_and_mm = zip(shape, truth.geometry.spacing_mm, strict=True)
    x, y, z = ((np.arange(n, dtype=np.float64) - (n - 1) / 2) * np.float64(mm) for n, mm in n_and_mm)
    moved = np.empty_like(truth.labels)
    for start in range(0, shape[0], _PLANES):
        planes = slice(start, start + _PLANES)
        shift = field.on_axes((x[planes], y, z)) / np.reshape(truth.geometry.spacing_mm, (3, 1, 1, 1))
        here = np.ogrid[planes.start : min(planes.stop, shape[0]), : shape[1], : shape[2]]
        i, j, k = (
            np.clip(np.rint(at + by).astype(int), 0, n - 1) for at, by, n in zip(here, shift, shape, strict=True)
        )
        moved[planes] = truth.labels[i, j, k]
    return LabelMap(moved, truth.geometry), truth


def with_lost_pieces(prediction: LabelMap) -> LabelMap:
    """The left third of what is labelled is missed, and half as many voxels lie at the wrong end of the scan."""
    labels = prediction.labels.copy()
    where = np.flatnonzero(labels.any(axis=(1, 2)))
    third = (where[-1] - where[0]) // 3
    piece = labels[where[0] : where[0] + third].copy()
    labels[where[0] : where[0] + third] = 0
    labels[-third // 2 :, :, : piece.shape[2] // 2] = piece[: third // 2 + third % 2, :, -(piece.shape[2] // 2) :]
    return LabelMap(labels, prediction.geometry)


def with_specks(prediction: LabelMap) -> LabelMap:
    """Two voxels in a hundred have a random label, as of a network that has hardly been trained."""
    random = np.random.default_rng(0)
    specks: npt.NDArray[np.bool_] = random.random(prediction.labels.shape) < 0.02
    noise = random.integers(0, 8, prediction.labels.shape, dtype=np.uint8)
    return LabelMap(np.where(specks, noise, prediction.labels), prediction.geometry)
