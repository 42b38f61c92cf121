"""Calibration errors by hand."""

import numpy as np
import pytest

from viscera.metrics.calibration import Reliability


def test_by_hand() -> None:
    # 10 voxels at 0.92, 7 of which are the organ: a gap of 0.22; 30 at 0.02, one of which is: 1/30 - 0.02
    found = Reliability()
    found.add(np.array([0.92, 0.02]), np.array([10, 30]), np.array([7, 1]))
    assert np.flatnonzero(found.voxels).tolist() == [0, 18]
    assert found.expected_error() == pytest.approx((10 * 0.22 + 30 * (1 / 30 - 0.02)) / 40)
    assert found.average_error() == pytest.approx((0.22 + (1 / 30 - 0.02)) / 2)
    twice = Reliability()
    twice += found
    twice += found
    assert twice.expected_error() == pytest.approx(found.expected_error())
    assert Reliability().expected_error() is Reliability().average_error() is None


def test_a_bin_has_its_upper_end_and_the_first_zero() -> None:
    found = Reliability()
    ends = np.array([0, 1 / 20, 0.0500001, 1], dtype=np.float32)
    found.add(ends, np.ones(4, dtype=int), np.zeros(4, dtype=int))
    assert {at: int(n) for at, n in enumerate(found.voxels) if n} == {0: 2, 1: 1, 19: 1}
