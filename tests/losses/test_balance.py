"""Eq. 3, 4 and 5 worked by hand."""

from typing import Any

import numpy as np
import pytest

import viscera
from viscera.core.config import LossConfig, ScheduleConfig
from viscera.core.errors import BadInputError
from viscera.losses.balance import WeightSchedule

# Two classes, 96 and 4 voxels, one hundred in all: N = 100, L = 2.
COUNTS = [96, 4]


def test_eq_3_uniform() -> None:
    assert viscera.class_weights(COUNTS, "uniform").tolist() == [1.0, 1.0]


def test_eq_4_simple() -> None:
    # 100 / (2 * 96 + 1) = 100 / 193; 100 / (2 * 4 + 1) = 100 / 9
    assert viscera.class_weights(COUNTS, "simple") == pytest.approx([100 / 193, 100 / 9], rel=1e-15)


def test_eq_5_square() -> None:
    # 100 / (2 * 9216 + 1) = 100 / 18433; 100 / (2 * 16 + 1) = 100 / 33
    assert viscera.class_weights(COUNTS, "square") == pytest.approx([100 / 18433, 100 / 33], rel=1e-15)


def test_weights_are_float64() -> None:
    assert viscera.class_weights(COUNTS, "square").dtype == np.float64


def test_epsilon_saves_an_empty_class() -> None:
    # 10 / (2 * 0 + 1) = 10 with either scheme
    assert viscera.class_weights([10, 0], "simple")[1] == 10
    assert viscera.class_weights([10, 0], "square")[1] == 10


def test_without_epsilon_an_empty_class_is_refused() -> None:
    with pytest.raises(BadInputError, match="class 1 has no voxel"):
        viscera.class_weights([10, 0], "simple", epsilon=0)


def test_n_as_number_of_volumes() -> None:
    # N = 5 volumes: 5 / (2 * 96 + 1), 5 / (2 * 4 + 1)
    weights = viscera.class_weights(COUNTS, "simple", numerator="volumes", volumes=5)
    assert weights == pytest.approx([5 / 193, 5 / 9], rel=1e-15)


def test_n_as_volumes_needs_their_number() -> None:
    with pytest.raises(BadInputError, match="volumes="):
        viscera.class_weights(COUNTS, "simple", numerator="volumes")


def test_normalised_weights_sum_to_the_number_of_classes() -> None:
    weights = viscera.class_weights(COUNTS, "square", normalise="sum_to_L")
    assert weights.sum() == pytest.approx(2)
    assert weights[1] / weights[0] == pytest.approx(18433 / 33)


@pytest.mark.parametrize(("power", "scheme"), [(1, "simple"), (2, "square")])
def test_a_power_gives_the_named_scheme(power: float, scheme: str) -> None:
    assert viscera.class_weights(COUNTS, power).tolist() == viscera.class_weights(COUNTS, scheme).tolist()


def test_power_zero_is_uniform_up_to_scale() -> None:
    # 100 / (2 * 1 + 1) for both
    assert viscera.class_weights(COUNTS, 0.0) == pytest.approx([100 / 3, 100 / 3])


def test_power_one_half() -> None:
    # 100 / (2 * 2 + 1) = 20 for R = 4
    assert viscera.class_weights(COUNTS, 0.5)[1] == pytest.approx(20)


def test_counts_as_large_as_the_papers_do_not_overflow() -> None:
    # 340 volumes of 128 * 128 * 200 voxels: R² of the background is about 1e18, beyond int64 when squared again
    counts = [10**9, 10**3]
    assert viscera.class_weights(counts, "square")[0] == pytest.approx((10**9 + 10**3) / 2 / 1e18, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "scheme", "message"),
    [
        ([[1, 2]], "simple", "not a vector of counts"),
        ([1, -2], "simple", "not a vector of counts"),
        ([1, float("nan")], "simple", "not a vector of counts"),
        ([], "simple", "not a vector of counts"),
        ([1, 2], "cubic", "there is no 'cubic'"),
        ([1, 2], 3.0, "must lie in"),
        ([1, 2], float("nan"), "finite number"),
        ([1, 2], -1, "at least 0"),
        ([1, 2], True, "a number"),
        ([1, 2], None, "a number"),
        ([0, 0], "simple", "no class has a voxel"),
        ([0.9, 0.1], "simple", "not whole numbers"),
        (["a", "b"], "simple", "not a vector of counts"),
        ([True, False], "simple", "not a vector of counts"),
        ([[1], [2, 3]], "simple", "not a vector of counts"),
        ([1, float("inf")], "simple", "not a vector of counts"),
    ],
)
def test_bad_input(counts: Any, scheme: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.class_weights(counts, scheme)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "mean"}, 'normalise=\'mean\'.*"none", "sum_to_L"'),
        ({"numerator": "volume", "volumes": 3}, '"voxels", "volumes"'),
        ({"numerator": "volumes", "volumes": 0}, "at least 1"),
        ({"numerator": "volumes", "volumes": 2.5}, "a whole number"),
        ({"epsilon": float("nan")}, "finite number"),
        ({"epsilon": -1}, "at least 0"),
    ],
)
def test_a_misspelt_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.class_weights([9, 1], "simple", **options)


def test_weights_that_are_all_0_are_refused() -> None:
    with pytest.raises(BadInputError, match="every weight is 0"):
        WeightSchedule.of(COUNTS, "square", LossConfig(count_scale=1e300), 3)


def test_a_limited_ratio_lowers_the_large_weights() -> None:
    for counts, max_ratio, expected in (
        ([100, 50, 2], 10, [1, 2, 10]),  # 1 / R is as 1, 2 and 50
        ([50, 75, 3], 1, [1, 1, 1]),  # uniform
    ):
        config = LossConfig(epsilon=0, max_ratio=max_ratio)
        weights = WeightSchedule.of(counts, "simple", config, 3).start
        smallest = sum(counts) / (3 * max(counts))  # Eq. 4 of the commonest class, which the limit leaves as it is
        assert weights == pytest.approx(np.array(expected) * smallest)


def test_counts_a_thousand_times_larger() -> None:
    # N / L R stays, N / L R^2 falls a thousandfold (epsilon 0); with epsilon 1 the small count of 4 shows it
    plain, large = (
        [WeightSchedule.of(COUNTS, w, LossConfig(count_scale=s, epsilon=0), 3).start for w in ("simple", "square")]
        for s in (1, 1000)
    )
    assert large[0] == pytest.approx(plain[0], rel=1e-15)
    assert large[1] == pytest.approx(plain[1] / 1000, rel=1e-15)


def test_without_a_schedule_the_step_does_not_matter() -> None:
    schedule = WeightSchedule.of(COUNTS, "simple", LossConfig(), 3)
    assert schedule.constant
    assert schedule.at(0).tolist() == schedule.at(10**6).tolist() == viscera.class_weights(COUNTS, "simple").tolist()


def test_a_schedule_moves_geometrically_and_always_sums_to_l() -> None:
    config = LossConfig(epsilon=0, schedule=ScheduleConfig(to="uniform", first_step=10, last_step=20))
    schedule = WeightSchedule.of([9, 1], "square", config, 3)
    # 1/81 : 1 sums to 2 as 2/82 and 162/82; half way 1/9 : 1 as 0.2 and 1.8; in the end 1 and 1
    assert schedule.at(0) == pytest.approx([2 / 82, 162 / 82])
    assert schedule.at(10) == pytest.approx([2 / 82, 162 / 82])
    assert schedule.at(15) == pytest.approx([0.2, 1.8])
    assert schedule.at(20).tolist() == schedule.at(99).tolist() == [1, 1]
    assert not schedule.constant


def test_the_limit_comes_before_the_sum() -> None:
    weights = WeightSchedule.of([9, 1], 2, LossConfig(epsilon=0, normalise="sum_to_L", max_ratio=3), 1).start
    assert weights == pytest.approx([0.5, 1.5])


def test_background_can_have_the_mean_weight_of_the_organs() -> None:
    plain = WeightSchedule.of([90, 9, 1], "simple", LossConfig(epsilon=0), 1).start
    weights = WeightSchedule.of([90, 9, 1], "simple", LossConfig(epsilon=0, background="mean"), 1).start
    # 100 / (3 * 9) and 100 / 3, their mean 500 / 27
    assert weights == pytest.approx([500 / 27, 100 / 27, 100 / 3])
    assert weights[1:].tolist() == plain[1:].tolist()


CLASSES = ("background", "liver", "spleen")


def test_weights_by_value_are_as_given_in_the_order_of_the_classes() -> None:
    config = LossConfig(weights={"mine": {"spleen": 3, "background": 0.5, "liver": 1}})
    assert WeightSchedule.of([90, 9, 1], "mine", config, 1, CLASSES).start.tolist() == [0.5, 1, 3]
    config = config.model_copy(update={"normalise": "sum_to_L"})
    assert WeightSchedule.of([90, 9, 1], "mine", config, 1, CLASSES).start == pytest.approx([1 / 3, 2 / 3, 2])


def test_a_class_can_be_weighted_by_the_count_of_another() -> None:
    swapped = {"power": 2, "counts_of": {"liver": "spleen", "spleen": "liver"}}
    weights = WeightSchedule.of(
        [90, 9, 1], "swapped", LossConfig(epsilon=0, weights={"swapped": swapped}), 1, CLASSES
    ).start
    # N / (L R²) with N = 100: 100 / (3 * 8100), the liver by the spleen's one voxel, the spleen by the liver's nine
    assert weights == pytest.approx([100 / 24300, 100 / 3, 100 / 243])


def test_named_weights_are_of_these_classes() -> None:
    config = LossConfig(weights={"mine": {"background": 1, "liver": 1, "lung": 1}})
    with pytest.raises(BadInputError, match="no class lung here"):
        WeightSchedule.of([90, 9, 1], "mine", config, 1, CLASSES)
