"""HD95 and surface Dice, worked out by hand; surface-distance itself is asked in tests/oracle."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.plain_surfaces import plain_surface_distances, surface_distances
from viscera.metrics import surface_distance
from viscera.metrics.surface_distance import SurfaceDistances, label_surface_distances

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
MASKS = arrays(np.bool_, (5, 4, 3))
SPACING_MM = (0.7, 1.0, 2.5)
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)


def voxels(shape: tuple[int, int, int], *places: tuple[int | slice, ...]) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for place in places:
        mask[place] = True
    return mask


def test_two_voxels_four_apart() -> None:
    # a voxel's surface has its eight corners; the near four are 3 voxels of 2 mm away, the far four 4
    one, other = voxels((6, 3, 3), (0, 1, 1)), voxels((6, 3, 3), (4, 1, 1))
    measured = surface_distances(one, other, (2.0, 1.0, 0.5))
    assert sorted(measured.prediction_mm) == [6.0] * 4 + [8.0] * 4
    assert measured.hausdorff_mm(95) == 8.0
    assert measured.hausdorff_mm(50) == 6.0
    assert [measured.dice(tolerance) for tolerance in (5.9, 6.0, 7.9, 8.0)] == pytest.approx([0, 0.5, 0.5, 1])


def test_one_far_speck_is_below_five_per_cent_of_a_large_surface() -> None:
    # the cube's faces: 6 x 20 x 20 mm2 or so; the speck has eight corners of sqrt(3) / 8, which is 1.7 mm2
    cube = voxels((60, 30, 30), (slice(3, 23), slice(3, 23), slice(3, 23)))
    specked = cube | voxels((60, 30, 30), (52, 10, 10))
    measured = surface_distances(specked, cube, (1.0, 1.0, 1.0))
    assert measured.hausdorff_mm(95) == 0.0
    assert measured.hausdorff_mm(100) == 30.0  # from corner 53 to the face at 23
    share = 1 - np.sqrt(3) / measured.prediction_mm2.sum()
    assert measured.dice(0) == pytest.approx(
        (measured.reference_mm2.sum() + share * measured.prediction_mm2.sum())
        / (measured.reference_mm2.sum() + measured.prediction_mm2.sum())
    )


def test_a_shift_along_a_wide_axis_is_measured_in_its_millimetres() -> None:
    one = voxels((8, 8, 8), (slice(2, 5), slice(2, 5), slice(2, 5)))
    for axis, shift in enumerate((0.7, 1.1, 2.5)):
        measured = surface_distances(np.roll(one, 1, axis), one, (0.7, 1.1, 2.5))
        assert measured.hausdorff_mm(100) == pytest.approx(shift)
        assert measured.dice(shift) == 1
        near = measured.dice(0.99 * shift)
        assert near is not None
        assert near < 1


def test_where_a_mask_is_empty() -> None:
    one, nothing = voxels((3, 3, 3), (1, 1, 1)), voxels((3, 3, 3))
    for pair in ((one, nothing), (nothing, one)):
        measured = surface_distances(*pair, (1.0, 1.0, 1.0))
        assert measured.hausdorff_mm() == math.inf
        assert measured.dice(100.0) == 0
    measured = surface_distances(nothing, nothing, (1.0, 1.0, 1.0))
    assert measured.hausdorff_mm() is None
    assert measured.dice(100.0) is None
    empty = np.zeros((0, 0, 0), dtype=np.bool_)
    assert surface_distances(empty, empty, (1.0, 1.0, 1.0)).hausdorff_mm() is None


@given(MASKS, SPACINGS)
def test_a_mask_is_at_no_distance_from_itself(mask: Mask, spacing: tuple[float, ...]) -> None:
    measured = surface_distances(mask, mask, spacing)
    assert measured.hausdorff_mm() == (0 if mask.any() else None)
    assert measured.dice(0) == (1 if mask.any() else None)


@given(MASKS, MASKS, SPACINGS)
def test_prediction_and_reference_may_change_places(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    there, back = surface_distances(a, b, spacing), surface_distances(b, a, spacing)
    assert there.hausdorff_mm() == pytest.approx(back.hausdorff_mm())
    assert there.dice(1.0) == pytest.approx(back.dice(1.0))


@given(MASKS, MASKS, SPACINGS)
def test_background_around_the_masks_changes_nothing(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    inside = surface_distances(a, b, spacing)
    around = surface_distances(np.pad(a, 4), np.pad(b, 4), spacing)
    assert around.hausdorff_mm() == pytest.approx(inside.hausdorff_mm())
    assert around.dice(1.0) == pytest.approx(inside.dice(1.0))


@given(MASKS, MASKS, SPACINGS)
def test_a_wider_tolerance_never_lowers_the_surface_dice(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    measured = surface_distances(a, b, spacing)
    values = [measured.dice(tolerance) for tolerance in (0.0, 0.7, 1.0, 2.5, 5.0, 100.0)]
    if a.any() and b.any():
        assert values == sorted(values)  # type: ignore[type-var]
        assert values[-1] == 1


@given(MASKS, MASKS, SPACINGS)
def test_looking_around_and_a_search_tree_find_what_a_distance_transform_finds(
    a: Mask, b: Mask, spacing: tuple[float, ...]
) -> None:
    plain = plain_surface_distances(a, b, spacing)
    for reach, tree in ((8, (100, 500)), (1, (100, 500)), (8, (0, 0))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface_distance, "_REACH", reach)
            patch.setattr(surface_distance, "_TREE", tree)
            found = surface_distances(a, b, spacing)
        assert_same(found, plain)


@given(arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 4)), arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 4)))
def test_the_labels_of_a_map_are_measured_as_their_masks(a: Labels, b: Labels) -> None:
    labels = (4, 1, 2, 3, 7)
    for label, found in zip(labels, label_surface_distances(a, b, SPACING_MM, labels), strict=True):
        assert_same(found, plain_surface_distances(a == label, b == label, SPACING_MM))


def test_large_masks_a_few_voxels_and_far_apart() -> None:
    # more elements than look around at once; a piece that the prediction misses, and a far one of its own
    random = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(random.standard_normal((70, 64, 56)), 4)
    reference = noise > 0
    prediction = ndimage.gaussian_filter(np.roll(noise, 2, axis=0) + 0.02 * random.standard_normal(noise.shape), 1) > 0
    reference[40:], prediction[:8], prediction[45:] = False, False, False
    prediction[66:69, 60:63, 50:53] = True
    for spacing in ((1.0, 1.0, 1.0), (0.7, 0.7, 2.5)):
        found, plain = (of(prediction, reference, spacing) for of in (surface_distances, plain_surface_distances))
        assert_same(found, plain)
        assert found.hausdorff_mm(95) == pytest.approx(plain.hausdorff_mm(95), rel=1e-12)


def assert_same(found: SurfaceDistances, plain: SurfaceDistances) -> None:
    """Element by element, to rounding; those of equal distance may change places where rounding parts them."""
    for name in ("prediction_mm", "reference_mm"):
        distances_mm = getattr(plain, name)
        np.testing.assert_allclose(getattr(found, name), distances_mm, rtol=1e-12)
    for name in ("prediction_mm2", "reference_mm2"):
        np.testing.assert_allclose(np.sort(getattr(found, name)), np.sort(getattr(plain, name)), rtol=1e-12)
    for tolerance_mm in (0.0, 0.9, 1.7, 3.1):
        value = plain.dice(tolerance_mm)
        assert found.dice(tolerance_mm) == (None if value is None else pytest.approx(value, rel=1e-12))
