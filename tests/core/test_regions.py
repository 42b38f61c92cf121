"""The smallest boxes about what is there."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from viscera.core import regions
from viscera.core.regions import EMPTY, Box, box_of, box_where, boxes_of, cropped

MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([False, False, False, True]))


def test_two_voxels_by_hand() -> None:
    labels = np.zeros((6, 7, 8), dtype=np.uint8)
    labels[1, 5, 2] = labels[3, 2, 2] = 7
    assert box_of(labels) == (slice(1, 4), slice(2, 6), slice(2, 3))
    assert box_of(np.zeros((2, 2, 2))) == EMPTY


@given(MASKS)
def test_nothing_lies_outside_and_every_face_touches(mask: npt.NDArray[np.bool_]) -> None:
    inside = cropped(mask, box_of(mask))
    assert inside.sum() == mask.sum()
    assert inside.flags.c_contiguous
    for axis in range(3):
        if mask.any():
            assert inside.take(0, axis).any()
            assert inside.take(-1, axis).any()


@given(arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 3)))
def test_every_class_has_the_box_of_its_mask(labels: npt.NDArray[np.uint8]) -> None:
    assert boxes_of(labels, 4) == [EMPTY, *(box_of(labels == label) for label in (1, 2, 3))]


def test_boxes_run_through_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((4, 5, 9), dtype=np.uint8)
    labels[1, 2, 1] = labels[3, 0, 7] = 1
    labels[2, 4, 5] = 2
    monkeypatch.setattr(regions, "_SLAB_VOXELS", 40)  # two planes
    assert boxes_of(labels, 4) == [EMPTY, (slice(1, 4), slice(0, 3), slice(1, 8)), box_of(labels == 2), EMPTY]
    assert box_where(lambda planes: labels[:, :, planes] > 0, labels.shape) == box_of(labels)
    assert box_where(lambda planes: labels[:, :, planes] > 2, labels.shape) == EMPTY


def test_a_box_of_several_holds_all_and_empty_ones_do_not_count() -> None:
    def filled(box: Box) -> npt.NDArray[np.bool_]:
        mask = np.zeros((6, 3, 10), dtype=np.bool_)
        mask[box] = True
        return mask

    one, other = (slice(1, 3), slice(0, 2), slice(5, 6)), (slice(4, 5), slice(1, 2), slice(2, 9))
    assert box_of(filled(one), filled(other)) == (slice(1, 5), slice(0, 2), slice(2, 9))
    assert box_of(filled(one), filled(EMPTY)) == one
    assert box_of(filled(EMPTY), filled(EMPTY)) == EMPTY
