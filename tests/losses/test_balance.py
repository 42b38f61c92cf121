"""Eq. 3, 4 and 5 worked by hand."""

import numpy as np
import pytest

import viscera
from viscera.core.errors import BadInputError

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
        ([[1, 2]], "simple", "no vector of counts"),
        ([1, -2], "simple", "no vector of counts"),
        ([1, float("nan")], "simple", "no vector of counts"),
        ([], "simple", "no vector of counts"),
        ([1, 2], "cubic", "there is no 'cubic'"),
        ([1, 2], 3.0, "must lie in"),
    ],
)
def test_bad_input(counts: list[float], scheme: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.class_weights(counts, scheme)
