"""A small abdomen of ellipsoids to draw."""

import numpy as np
import numpy.typing as npt
import pytest

from viscera.core.anatomy import CLASSES
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap

# centre and radii in voxels of a 32x24x24 grid that runs right, front, up: the liver lies on the patient's right
ELLIPSOIDS = {
    "artery": ((15, 8, 12), (1.2, 1.2, 11)),
    "portal_vein": ((18, 11, 12), (4, 1.1, 1.1)),
    "liver": ((23, 13, 15), (6, 7, 6)),
    "spleen": ((6, 8, 15), (3, 4, 5)),
    "stomach": ((10, 15, 14), (4, 4, 5)),
    "gallbladder": ((22, 18, 8), (2, 2, 2)),
    "pancreas": ((13, 12, 9), (6, 1.6, 1.6)),
}


@pytest.fixture(scope="session")
def label_map() -> LabelMap:
    return LabelMap(ellipsoids(), Geometry.from_spacing((32, 24, 24), (8.0, 8.0, 8.0)))


def ellipsoids() -> npt.NDArray[np.uint8]:
    labels = np.zeros((32, 24, 24), dtype=np.uint8)
    i, j, k = np.ogrid[:32, :24, :24]
    for c in CLASSES[1:]:
        (x, y, z), (rx, ry, rz) = ELLIPSOIDS[c.name]
        labels[((i - x) / rx) ** 2 + ((j - y) / ry) ** 2 + ((k - z) / rz) ** 2 <= 1] = c.label
    return labels
