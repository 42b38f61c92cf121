"""What the pictures of a suspicious place show, read back from their pixels."""

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from viscera.check.check_page import PLANES, picture_places, plane_figure
from viscera.check.findings import Finding
from viscera.core.anatomy import ABDOMEN
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Volume
from viscera.drawing.canvas import Pixels, to_pixels

SHAPE = (40, 30, 20)
AXIAL, CORONAL, SAGITTAL = PLANES
LIVER = ABDOMEN.classes[3]
MM = tuple[float, float, float]


def cube_at_right_front_top(affine: npt.NDArray[np.float64] | None = None) -> tuple[Case, MM]:
    """A body that fills the scan, with a liver in the corner that is right, front and up; and its middle."""
    hu = np.full(SHAPE, 0, dtype=np.int16)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[30:38, 22:28, 14:18] = 3
    geometry = Geometry.from_spacing(SHAPE, (5, 5, 5))
    x, y, z = (geometry.affine @ (33.5, 24.5, 15.5, 1))[:3]
    if affine is not None:
        labels, hu = labels[::-1, ::-1].copy(), hu[::-1, ::-1].copy()
        geometry = Geometry(SHAPE, geometry.affine @ affine)
    return Case("case", Volume(hu, geometry), LabelMap(labels, geometry)), (float(x), float(y), float(z))


def middle_of(pixels: Pixels, colour: str) -> tuple[float, float]:
    """Row and column, 0 to 1 from top left, of the pixels near a colour."""
    apart = np.abs(pixels.astype(float) / 255 - np.array(to_rgb(colour))).max(axis=2)
    row, column = np.argwhere(apart < 0.12).mean(axis=0) / pixels.shape[:2]
    return float(row), float(column)


def flipped() -> npt.NDArray[np.float64]:
    """From voxel indices of an LPS file to those of the same grid in RAS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:2, 3] = SHAPE[0] - 1, SHAPE[1] - 1
    return affine


@pytest.mark.parametrize("lps", [False, True])
def test_right_is_on_the_left_front_and_up_above_and_front_on_the_left_from_the_side(lps: bool) -> None:
    case, at_mm = cube_at_right_front_top(flipped() if lps else None)
    assert case.volume.geometry.orientation == ("LPS" if lps else "RAS")
    for plane, expected in ((AXIAL, (5 / 30, 6 / 40)), (CORONAL, (4 / 20, 6 / 40)), (SAGITTAL, (4 / 20, 5 / 30))):
        row, column = middle_of(to_pixels(plane_figure(case, plane, at_mm, ABDOMEN, set())), LIVER.colour)
        assert row == pytest.approx(expected[0], abs=0.05), plane.title
        assert column == pytest.approx(expected[1], abs=0.05), plane.title


def test_the_slice_goes_through_the_place() -> None:
    case, _ = cube_at_right_front_top()
    elsewhere = to_pixels(plane_figure(case, AXIAL, (0.0, 0.0, -40.0), ABDOMEN, set()))
    apart = np.abs(elsewhere.astype(float) / 255 - np.array(to_rgb(LIVER.colour))).max(axis=2)
    assert (apart >= 0.12).all()


def test_places_outside_of_the_scan_show_its_nearest_slice() -> None:
    case, _ = cube_at_right_front_top()
    assert to_pixels(plane_figure(case, CORONAL, (1e4, 1e4, 1e4), ABDOMEN, set())).size > 0


def test_findings_of_one_place_share_their_pictures() -> None:
    case, at_mm = cube_at_right_front_top()

    def finding(kind: str, place: MM | None) -> Finding:
        return Finding("case", "liver", kind, "suspicious", "", "", place)

    findings = [finding("volume", at_mm), finding("left_right", at_mm), finding("fragments", (0, 0, 0))]
    findings += [finding("same_image", None)]
    first, second = picture_places(case, findings, ABDOMEN, most=5)
    assert [each.kind for each in first.findings] == ["volume", "left_right"]
    assert [each.kind for each in second.findings] == ["fragments"]
    assert [title for title, _ in first.slices] == ["axial", "coronal", "sagittal"]
    assert all(png.startswith(b"\x89PNG") for _, png in first.slices)
    assert len(picture_places(case, findings, ABDOMEN, most=1)) == 1
    assert picture_places(case, findings, ABDOMEN, most=0) == []
