"""Eq. 1 on whole label maps."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from viscera.metrics.overlap import confusion_matrix, dice

LABELS = arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 7))
Labels = npt.NDArray[np.uint8]


def test_two_blocks_of_ten_voxels_that_share_five() -> None:
    prediction, reference = np.zeros((2, 20, 1, 1), dtype=np.uint8)
    prediction[0:10], reference[5:15] = 3, 3
    # liver: 2 * 5 / (10 + 10); background: 10 voxels each, 5 of them shared (15 to 19)
    values = dice(confusion_matrix(prediction, reference))
    assert values[3] == 0.5
    assert values[0] == 0.5
    assert [values[label] for label in (1, 2, 4, 5, 6, 7)] == [None] * 6


def test_counts_of_a_pair_worked_by_hand() -> None:
    confusion = confusion_matrix(np.array([0, 1, 1, 2], np.uint8), np.array([0, 1, 2, 2], np.uint8), 3)
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]  # one voxel of class 1 is class 2 in the reference
    assert dice(confusion) == [2 * 1 / 2, 2 * 1 / 3, 2 * 1 / 3]  # of 2, 3 and 3 voxels in both together


@given(LABELS, LABELS)
def test_dice_is_symmetric_and_between_0_and_1(a: Labels, b: Labels) -> None:
    values = dice(confusion_matrix(a, b))
    assert values == dice(confusion_matrix(b, a))
    assert all(value is None or 0 <= value <= 1 for value in values)


@given(LABELS)
def test_dice_of_a_label_map_with_itself_is_1(a: Labels) -> None:
    assert all(value in {None, 1} for value in dice(confusion_matrix(a, a)))


@given(LABELS, LABELS, st.permutations(range(8)))
def test_renumbering_the_classes_renumbers_the_dice(a: Labels, b: Labels, order: list[int]) -> None:
    renumber = np.array(order, dtype=np.uint8)
    before, after = dice(confusion_matrix(a, b)), dice(confusion_matrix(renumber[a], renumber[b]))
    assert [after[order[label]] for label in range(8)] == before


@given(LABELS, LABELS, st.permutations(range(24)))
def test_the_order_of_the_voxels_does_not_matter(a: Labels, b: Labels, voxels: list[int]) -> None:
    shuffled = confusion_matrix(a.ravel()[voxels], b.ravel()[voxels])
    assert dice(shuffled) == dice(confusion_matrix(a, b))


@given(LABELS, LABELS)
def test_agrees_with_the_set_formula(a: Labels, b: Labels) -> None:
    for label, value in enumerate(dice(confusion_matrix(a, b))):
        mine, theirs = ({tuple(at) for at in np.argwhere(labels == label)} for labels in (a, b))
        expected = 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine or theirs else None
        assert value == expected


def test_memory_order_does_not_matter() -> None:
    a, b = np.random.default_rng(0).integers(0, 8, (2, 5, 6, 7)).astype(np.uint8)
    expected = confusion_matrix(a, b)
    for x, y in ((np.asfortranarray(a), b), (a, np.asfortranarray(b)), (a[::-1], b[::-1]), (a.T, b.T)):
        assert confusion_matrix(x, y).tolist() == expected.tolist()


@pytest.mark.parametrize("classes", [3, 8, 16, 17, 200])
def test_counts_of_many_voxels_and_classes(classes: int) -> None:
    # more voxels than are counted at once, in runs with background between, and a remainder
    random = np.random.default_rng(classes)
    a, b = np.repeat(random.integers(0, classes, (2, 40_001)) * (random.random((2, 40_001)) < 0.5), 7, axis=1)
    a, b = a.astype(np.uint8), b.astype(np.uint8)
    expected = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(expected, (a, b), 1)
    assert confusion_matrix(a, b, classes).tolist() == expected.tolist()
