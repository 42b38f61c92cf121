"""Eq. 1 on whole label maps."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from viscera.core.anatomy import CLASS_NAMES, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.metrics.overlap import dice, overlap_counts, score

LABELS = arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 7))
Labels = npt.NDArray[np.uint8]


def label_map(labels: Labels, spacing_mm: float = 1.0) -> LabelMap:
    return LabelMap(labels, Geometry.from_spacing(labels.shape, (spacing_mm,) * 3))


def test_two_blocks_of_ten_voxels_that_share_five() -> None:
    prediction, reference = np.zeros((2, 20, 1, 1), dtype=np.uint8)
    prediction[0:10], reference[5:15] = 3, 3
    # liver: 2 * 5 / (10 + 10); background: 10 voxels each, 5 of them shared (15 to 19)
    values = dice(*overlap_counts(prediction, reference))
    assert values[3] == 0.5
    assert values[0] == 0.5
    assert [values[label] for label in (1, 2, 4, 5, 6, 7)] == [None] * 6


def test_counts_of_a_pair_worked_by_hand() -> None:
    intersection, cardinality = overlap_counts(np.array([0, 1, 1, 2], np.uint8), np.array([0, 1, 2, 2], np.uint8), 3)
    assert intersection.tolist() == [1, 1, 1]
    assert cardinality.tolist() == [2, 3, 3]


def test_an_organ_missed_whole_or_made_up_is_0_and_one_absent_from_both_undefined() -> None:
    prediction, reference = np.zeros((2, 4, 1, 1), dtype=np.uint8)
    reference[0], prediction[1] = 6, 5
    rows = {each.organ: each.value for each in score(label_map(prediction), label_map(reference))}
    assert list(rows) == list(CLASS_NAMES)
    assert rows["gallbladder"] == 0
    assert rows["stomach"] == 0
    assert rows["pancreas"] is None


@given(LABELS, LABELS)
def test_dice_is_symmetric_and_between_0_and_1(a: Labels, b: Labels) -> None:
    values = dice(*overlap_counts(a, b))
    assert values == dice(*overlap_counts(b, a))
    assert all(value is None or 0 <= value <= 1 for value in values)


@given(LABELS)
def test_dice_of_a_label_map_with_itself_is_1(a: Labels) -> None:
    assert all(value in {None, 1} for value in dice(*overlap_counts(a, a)))


@given(LABELS, LABELS, st.permutations(range(8)))
def test_renumbering_the_classes_renumbers_the_dice(a: Labels, b: Labels, order: list[int]) -> None:
    renumber = np.array(order, dtype=np.uint8)
    before, after = dice(*overlap_counts(a, b)), dice(*overlap_counts(renumber[a], renumber[b]))
    assert [after[order[label]] for label in range(8)] == before


@given(LABELS, LABELS, st.permutations(range(24)))
def test_the_order_of_the_voxels_does_not_matter(a: Labels, b: Labels, voxels: list[int]) -> None:
    shuffled = overlap_counts(a.ravel()[voxels], b.ravel()[voxels])
    assert dice(*shuffled) == dice(*overlap_counts(a, b))


@given(LABELS, LABELS)
def test_agrees_with_the_set_formula(a: Labels, b: Labels) -> None:
    for label, value in enumerate(dice(*overlap_counts(a, b))):
        mine, theirs = ({tuple(at) for at in np.argwhere(labels == label)} for labels in (a, b))
        expected = 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine or theirs else None
        assert value == expected


def test_memory_order_does_not_matter() -> None:
    a, b = np.random.default_rng(0).integers(0, 8, (2, 5, 6, 7)).astype(np.uint8)
    expected = overlap_counts(a, b)
    for x, y in ((np.asfortranarray(a), b), (a, np.asfortranarray(b)), (a[::-1], b[::-1]), (a.T, b.T)):
        for found, wanted in zip(overlap_counts(x, y), expected, strict=True):
            assert found.tolist() == wanted.tolist()


def test_two_grids_cannot_be_compared() -> None:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    with pytest.raises(BadInputError, match="do not lie on one grid"):
        score(label_map(labels), label_map(labels, spacing_mm=1.5))


def test_an_organ_in_neither_is_undefined_or_one() -> None:
    labels = np.zeros((2, 2, 2), dtype=np.uint8)
    labels[0] = 3
    pair = label_map(labels), label_map(labels)
    assert [each.value for each in score(*pair)] == [1, None, None, 1, None, None, None, None]
    assert [each.value for each in score(*pair, absent="one")] == [1] * 8


def test_other_classes_than_the_papers() -> None:
    table = ClassTable.of_names(["background", "liver", "kidney"])
    prediction, reference = np.zeros((2, 4, 1, 1), dtype=np.uint8)
    prediction[:2], reference[1:3] = 2, 2  # 2 * 1 / (2 + 2)
    values = [(each.organ, each.value) for each in score(label_map(prediction), label_map(reference), classes=table)]
    assert values == [("background", 0.5), ("liver", None), ("kidney", 0.5)]


def test_a_label_that_stands_for_nothing_is_refused() -> None:
    labels = np.full((2, 2, 2), 9, dtype=np.uint8)
    with pytest.raises(BadInputError, match="label 9: the classes are 0 to 7"):
        score(label_map(labels), label_map(labels))


@pytest.mark.parametrize("absent", ["undefined", "one"])
def test_an_organ_that_is_not_labelled_is_undefined_and_background(absent: Literal["undefined", "one"]) -> None:
    prediction, reference = np.zeros((2, 6, 1, 1), dtype=np.uint8)
    prediction[:2], prediction[2:4], reference[2:4] = 3, 4, 4  # livers that the reference cannot know of; a spleen
    found = score(label_map(prediction), label_map(reference), absent=absent, unlabelled=("liver", "pancreas"))
    rows = {each.organ: each.value for each in found}
    assert rows["spleen"] == 1
    assert rows["background"] == 1  # four voxels, two of them called liver: none of the labelled classes
    assert rows["liver"] is None
    assert rows["pancreas"] is None  # in neither map, whatever `absent` says
    assert rows["stomach"] == (1 if absent == "one" else None)
