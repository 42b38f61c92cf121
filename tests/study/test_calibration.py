"""How sure a model is against how often it is right, on voxels counted by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from viscera.study.calibration import count_conflicts, no_counts, platt

BIN = 20  # bins per unit of log odds, of -14 to 14


def counted(right: dict[float, int], wrong: dict[float, int]) -> np.ndarray:
    """(bins, 2) voxels by their log odds."""
    counts: np.ndarray = no_counts(1)[0]
    for column, voxels in enumerate((right, wrong)):
        for odds, number in voxels.items():
            counts[int((odds + 14) * BIN), column] += number
    return counts


def model(*voxels: tuple[float, float, float]) -> Tensor:
    """(L, N, 1) of three classes."""
    return torch.tensor(voxels).T.unsqueeze(-1)


def test_contested_voxels_are_counted_by_how_sure_and_how_right_they_are() -> None:
    # class 1 comes from the first model, class 2 from the second; of five voxels both claim the last two
    first = model((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.2, 0.3, 0.5), (0.1, 0.8, 0.1), (0.1, 0.8, 0.1))
    second = model((0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.3, 0.2, 0.5))
    reference = np.array([[0], [1], [2], [2], [1]], np.uint8)
    counts = no_counts(2)
    count_conflicts(counts, [((first, second), reference)], (0, 1), (True, True))
    of_80 = int((np.log(4) + 14) * BIN)
    assert counts[0, of_80].tolist() == [1, 1]
    assert counts[1, of_80].tolist() == [1, 0]
    assert counts[1, 14 * BIN].tolist() == [0, 1]
    assert counts.sum() == 4
    count_conflicts(counts, [((first, second), reference)], (0, 1), (False, True))  # labels no class 1
    assert (counts[0].sum(), counts[1].sum()) == (2, 4)


def test_a_model_that_is_right_as_often_as_it_says_stays_as_it_is() -> None:
    # 1 / (1 + e^-x) of the voxels of log odds x are right, in each bin from 0 to 4
    odds = np.arange(0, 4, 1 / BIN) + 0.5 / BIN
    share = 1 / (1 + np.exp(-odds))
    right = dict(zip(odds.tolist(), (100_000 * share).astype(int).tolist(), strict=True))
    wrong = dict(zip(odds.tolist(), (100_000 * (1 - share)).astype(int).tolist(), strict=True))
    assert platt(counted(right, wrong)) == pytest.approx((1, 0), abs=0.01)


def test_a_model_that_is_twice_too_sure_is_halved_and_one_that_is_biased_is_moved() -> None:
    # log odds 2 and 6, right as often as 1 and 3 say: 73.1 % and 95.26 %
    too_sure = counted({2.025: 73_106, 6.025: 95_257}, {2.025: 26_894, 6.025: 4_743})
    assert platt(too_sure) == pytest.approx((0.5, 0), abs=0.03)
    biased = counted({2.025: 73_106, 4.025: 95_257}, {2.025: 26_894, 4.025: 4_743})
    assert platt(biased) == pytest.approx((1, -1), abs=0.04)


def test_few_voxels_say_little_and_none_says_nothing() -> None:
    assert platt(no_counts(1)[0]) == (1.0, 0.0)
    slope, offset = platt(counted({3.025: 1}, {}))  # one voxel, and right: two thirds by Platt's prior, not certainty
    assert 1 / (1 + np.exp(-(slope * 3.025 + offset))) == pytest.approx(2 / 3, abs=0.01)


def test_the_surer_a_model_the_likelier_whatever_it_does() -> None:
    slope, _ = platt(counted({1.025: 1000}, {5.025: 1000}))  # the less sure, the righter
    assert slope == 0.05
