"""Laws of weights whose counts are those of other classes: `counts_of` of `study.weights`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import LossConfig
from viscera.losses.balance import Weights, WeightSchedule

counts = st.lists(st.integers(1, 10**10), min_size=8, max_size=8)
powers = st.floats(0, 2)
orders = st.permutations(range(8))


def weights(counts_L: list[int], power: float, order: list[int], **settings: object) -> Weights:
    counts_of = {name: CLASS_NAMES[of] for name, of in zip(CLASS_NAMES, order, strict=True)}
    config = LossConfig(weights={"mine": {"power": power, "counts_of": counts_of}}, **settings)
    return WeightSchedule.of(counts_L, "mine", config, 3, CLASS_NAMES).start


@given(counts, powers)
def test_every_class_by_its_own_count_is_the_power_to_the_bit(counts_L: list[int], power: float) -> None:
    for settings in ({}, {"normalise": "sum_to_L", "epsilon": 0.0}, {"numerator": "volumes"}):
        plain = WeightSchedule.of(counts_L, power, LossConfig(**settings), 3).start
        assert weights(counts_L, power, list(range(8)), **settings).tobytes() == plain.tobytes()


@given(counts, powers, orders)
def test_permuted_counts_are_permuted_weights(counts_L: list[int], power: float, order: list[int]) -> None:
    plain = weights(counts_L, power, list(range(8)))
    assert weights(counts_L, power, order).tolist() == plain[order].tolist()


@given(st.floats(1e-6, 1e6))
def test_values_that_sum_to_l_know_no_scale(factor: float) -> None:
    values = np.arange(1, 9) * factor
    config = LossConfig(normalise="sum_to_L", weights={"mine": dict(zip(CLASS_NAMES, values.tolist(), strict=True))})
    found = WeightSchedule.of([1] * 8, "mine", config, 3, CLASS_NAMES).start
    np.testing.assert_allclose(found, np.arange(1, 9) * 8 / 36, rtol=1e-12)
