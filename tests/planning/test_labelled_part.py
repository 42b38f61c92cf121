"""What a partly labelled map says of its organs, by hand; and Cavalieri's principle on a ball."""

import numpy as np
import numpy.typing as npt
import pytest

from viscera.core.anatomy import IGNORED
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.planning.labelled_part import LabelledPart

Labels = npt.NDArray[np.uint8]
SPACING = (1.0, 2.0, 3.0)


def part_of(labels: Labels, spacing_mm: tuple[float, float, float] = SPACING) -> LabelledPart:
    return LabelledPart.of(LabelMap(labels, Geometry.from_spacing(labels.shape, spacing_mm)), 4)


def test_what_touches_unlabelled_voxels_is_not_whole_if_only_at_a_corner() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[6:, 6:, 6:] = IGNORED
    labels[1:3, 1:3, 1:3] = 1  # far
    labels[4:6, 4:6, 4:6] = 2  # its last voxel and the first unlabelled one meet at a corner
    found = part_of(labels)
    assert found.whole == {1}  # of 3 there is nothing
    assert found.slices_for_one is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_apart_and_how_long_what_is_labelled_is(axis: int) -> None:
    """Planes 1, 5 and 9 of 12: one for four. Across them all of 12 voxels are labelled, along them one in a row."""
    labels = np.full((12, 12, 12), IGNORED, np.uint8)
    np.moveaxis(labels, axis, 0)[1::4] = 1
    found = part_of(labels)
    assert found.whole == frozenset()
    assert found.slices_for_one == 4
    assert found.labelled_mm == tuple(mm * (1 if at == axis else 12) for at, mm in enumerate(SPACING))


@pytest.mark.parametrize(
    ("planes", "slices_for_one"),
    [
        ([2, 4, 7], 2.5),  # as sparse slices look on a grid that does not fit them
        ([2, 4, 11], None),  # apart by 2 and by 7
        ([2, 3, 6], None),  # two together
        ([2, 3, 4, 5], None),  # a slab, whose organs are whole or cut
        ([5], None),  # one slice: nobody knows for how many it stands
        ([], None),
    ],
)
def test_slices_that_are_not_apart_at_even_distances_say_nothing_of_volumes(
    planes: list[int], slices_for_one: float | None
) -> None:
    labels = np.full((5, 5, 12), IGNORED, np.uint8)
    labels[:, :, planes] = 1
    assert part_of(labels).slices_for_one == slices_for_one


def test_strokes_are_no_slices() -> None:
    """Two rows of 4 voxels, and one of 2: 10 voxels in 3 rows along I, each voxel alone along J and K."""
    labels = np.full((9, 9, 9), IGNORED, np.uint8)
    labels[1:5, 1, 1] = 1
    labels[1:5, 4, 4] = 0
    labels[6:8, 7, 7] = 2
    found = part_of(labels)
    assert (found.whole, found.slices_for_one) == (frozenset(), None)
    assert found.labelled_mm == pytest.approx((10 / 3, 2.0, 3.0))


def test_nothing_labelled() -> None:
    found = part_of(np.full((4, 4, 4), IGNORED, np.uint8))
    assert found == LabelledPart(frozenset(), None, (np.inf, np.inf, np.inf))


@pytest.mark.parametrize("first", range(5))
def test_one_slice_in_five_tells_the_volume_of_a_ball_wherever_the_first_is(first: int) -> None:
    """Of radius 15 voxels: 4/3 π 15³."""
    at = np.indices((40, 40, 40)) - 20.3
    ball = np.square(at).sum(axis=0) < 15**2
    labels = np.where(ball, 1, 0).astype(np.uint8)
    labels[:, :, [k for k in range(40) if k % 5 != first]] = IGNORED
    found = part_of(labels)
    assert found.slices_for_one is not None
    estimate = found.slices_for_one * np.count_nonzero(labels == 1)
    assert estimate == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.05)


def test_axes_of_the_file_do_not_matter() -> None:
    labels = np.full((6, 7, 8), IGNORED, np.uint8)
    labels[:, ::3] = 1
    turned = LabelMap(labels, Geometry.from_spacing(labels.shape, SPACING))
    order = np.diag([-1.0, 1, 1, 1]) @ turned.geometry.affine[:, [2, 1, 0, 3]]
    other = LabelMap(np.ascontiguousarray(labels.transpose(2, 1, 0)), Geometry((8, 7, 6), order))
    found, again = (LabelledPart.of(each, 4) for each in (turned, other))
    assert (found.slices_for_one, found.labelled_mm) == (3, (6.0, 2.0, 24.0))
    assert again.labelled_mm == (6.0, 2.0, 24.0)
    assert again.slices_for_one == 3
