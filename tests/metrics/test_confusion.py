"""Which class the voxels of each class are called: matrices whose answers are worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.anatomy import ABDOMEN, CLASS_NAMES, ClassTable
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import EMPTY_RATIO, FLOODED_RATIO, Outcome, words_of
from viscera.metrics.overlap import confusion_matrix, dice

BACKGROUND, ARTERY, PORTAL_VEIN, LIVER, SPLEEN, STOMACH, GALLBLADDER, PANCREAS = range(8)


def confusion(cells: dict[tuple[int, int], int]) -> Confusion:
    """From voxels by (true class, what they are called)."""
    voxels = np.zeros((8, 8), dtype=np.int64)
    for at, number in cells.items():
        voxels[at] = number
    return Confusion(ABDOMEN, voxels)


# as square weights at a low rate: background is called stomach and liver, the spleen stomach, the small ones are found
FLOODED = confusion(
    {
        (BACKGROUND, BACKGROUND): 90,
        (BACKGROUND, STOMACH): 640,
        (BACKGROUND, LIVER): 270,
        (LIVER, LIVER): 60,
        (LIVER, STOMACH): 40,
        (SPLEEN, STOMACH): 20,
        (STOMACH, STOMACH): 30,
        (PANCREAS, PANCREAS): 8,
        (PANCREAS, BACKGROUND): 2,
    }
)


def test_no_others_are_found_where_none_has_a_voxel() -> None:
    """Background and liver are called each other; five of them are called spleen, which no voxel is."""
    voxels = np.zeros((8, 8), dtype=np.int64)
    voxels[0, 3] = voxels[3, 0] = 100
    voxels[0, 4] = 5
    group = Confusion(ABDOMEN, voxels).group
    assert group is not None
    assert (group.organs, group.rest_dice) == (("background", "liver"), None)


def test_shares_are_of_the_voxels_that_a_class_has() -> None:
    shares = FLOODED.shares
    assert shares[BACKGROUND, [BACKGROUND, LIVER, STOMACH]] == pytest.approx([0.09, 0.27, 0.64])
    assert shares[SPLEEN, STOMACH] == 1
    assert np.isnan(shares[ARTERY]).all()  # it has none


def test_outcomes_by_hand() -> None:
    found = FLOODED.outcomes

    def near(dice: float, ratio: float, called: str) -> Outcome:
        return Outcome(pytest.approx(dice), pytest.approx(ratio), called)  # type: ignore[arg-type] # compares as one

    # called background: 90 + 2; Dice 2 * 90 / (1000 + 92)
    assert found["background"] == near(180 / 1092, 0.092, "stomach")
    # called liver: 270 + 60, of 100; Dice 2 * 60 / 430
    assert found["liver"] == near(120 / 430, 3.3, "liver")
    assert found["spleen"] == Outcome(0.0, 0.0, "stomach")
    # called stomach: 640 + 40 + 20 + 30
    assert found["stomach"] == near(60 / 760, 730 / 30, "stomach")
    assert found["artery"] == Outcome(None, None, None)
    words = {name: words_of(name, outcome) for name, outcome in found.items()}
    assert words == {
        **dict.fromkeys(CLASS_NAMES, ()),
        "background": ("empty", "confused"),
        "liver": ("flooded",),
        "spleen": ("empty", "confused"),
        "stomach": ("flooded",),
    }


def test_precision_is_of_what_is_called_a_class() -> None:
    assert FLOODED.precisions[STOMACH] == pytest.approx(30 / 730)
    assert FLOODED.precisions[ARTERY] is None


def test_the_largest_group_and_its_dice_by_hand() -> None:
    group = FLOODED.group
    assert group is not None
    assert group.organs == ("background", "liver", "spleen", "stomach")
    # 1000 + 100 + 20 + 30 = 1150 voxels, all called one of the four, and 2 of the pancreas: 2 * 1150 / (1150 + 1152)
    assert group.dice == pytest.approx(2300 / 2302)
    # the rest is the pancreas alone: 8 of 10, and nothing else is called so
    assert group.rest_dice == pytest.approx(16 / 18)
    assert group.mean_dice == pytest.approx((180 / 1092 + 120 / 430 + 0 + 60 / 760) / 4)


def test_a_missed_organ_is_in_no_group_and_a_learnt_one_makes_none() -> None:
    missed = confusion({(BACKGROUND, BACKGROUND): 100, (SPLEEN, BACKGROUND): 10, (LIVER, LIVER): 10})
    assert missed.group is None
    # a quarter of the artery is called portal vein, and both are learnt
    learnt = confusion({(ARTERY, ARTERY): 75, (ARTERY, PORTAL_VEIN): 25, (PORTAL_VEIN, PORTAL_VEIN): 75})
    assert learnt.group is None
    worse = confusion({(ARTERY, ARTERY): 20, (ARTERY, PORTAL_VEIN): 80, (PORTAL_VEIN, PORTAL_VEIN): 75})
    assert worse.group is not None
    assert worse.group.organs == ("artery", "portal_vein")


def test_classes_are_joined_through_others() -> None:
    """Liver to spleen, spleen to stomach, stomach to pancreas: one group of four."""
    chain = {(each, each + 1): 10 for each in (LIVER, SPLEEN)} | {(STOMACH, PANCREAS): 10, (PANCREAS, PANCREAS): 10}
    group = confusion({**chain, (BACKGROUND, BACKGROUND): 50}).group
    assert group is not None
    assert group.organs == ("liver", "spleen", "stomach", "pancreas")
    assert group.dice == group.rest_dice == 1


def test_all_classes_together_have_no_rest() -> None:
    two = Confusion(ClassTable.of_names(["background", "a"]), np.array([[1, 9], [9, 1]]))
    assert two.group is not None
    assert (two.group.dice, two.group.rest_dice) == (1.0, None)
    assert two.group.mean_dice == pytest.approx(0.1)


def test_a_matrix_of_label_maps_is_read_the_right_way_round() -> None:
    reference, prediction = np.array([[[1, 1, 2]]], np.uint8), np.array([[[2, 2, 2]]], np.uint8)
    found = Confusion.of_matrix(
        confusion_matrix(prediction, reference, 3), ClassTable.of_names(["background", "a", "b"])
    )
    assert found.voxels.tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 1]]
    assert found.outcomes["a"].mostly_called == "b"


@given(st.lists(st.integers(0, 1000), min_size=9, max_size=9))
def test_the_volume_alone_bounds_the_dice(cells: list[int]) -> None:
    """An empty class has a Dice below 0.2, a flooded one below 0.5, wherever its voxels lie."""
    voxels = np.array(cells, dtype=np.int64).reshape(3, 3)
    found = Confusion(ClassTable.of_names(["background", "a", "b"]), voxels)
    for outcome, value in zip(found.outcomes.values(), dice(voxels), strict=True):
        assert outcome.dice == value
        if outcome.volume_ratio is not None and outcome.dice is not None:
            assert outcome.volume_ratio >= EMPTY_RATIO or outcome.dice < 0.2
            assert outcome.volume_ratio <= FLOODED_RATIO or outcome.dice < 0.5


def test_the_thresholds_are_those_in_the_words() -> None:
    assert pytest.approx(1 / 9) == EMPTY_RATIO
    assert FLOODED_RATIO == 3
