"""What a number format changes is held against what a seed changes."""

import pytest

from benchmarks.bench_precision import compared


@pytest.mark.parametrize(("shift", "within"), [(0.05, True), (-0.05, True), (0.2, False)])
def test_a_difference_is_noise_below_the_standard_deviation_of_the_seeds(shift: float, within: bool) -> None:
    # 0.6, 0.7, 0.8: standard deviation 0.1; the pairs differ by shift - 0.01, shift and shift + 0.01
    float32, bfloat16 = [0.6, 0.7, 0.8], [0.6 + shift - 0.01, 0.7 + shift, 0.8 + shift + 0.01]
    found = compared({"float32": float32, "bfloat16": bfloat16})
    assert found["seed_sd"] == 0.1
    assert found["difference"] == shift
    assert found["standard_error"] == pytest.approx(0.01 / 3**0.5, abs=1e-4)
    assert found["mean"] == {"float32": 0.7, "bfloat16": pytest.approx(0.7 + shift)}
    assert found["within_seed_noise"] is within
