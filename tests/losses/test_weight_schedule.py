"""Weights that change over a training, as a program makes them without a configuration."""

from typing import Any

import numpy as np
import pytest
import torch

import viscera
from viscera.core.errors import BadInputError

START, END = np.array([1.0, 4.0, 1.0]) / 2, np.ones(3)


def test_weights_move_geometrically_and_keep_their_sum() -> None:
    schedule = viscera.WeightSchedule(START, END, first_step=10, last_step=20)
    assert schedule.at(0).tolist() == schedule.at(10).tolist() == [0.5, 2, 0.5]
    assert schedule.at(20).tolist() == schedule.at(10**9).tolist() == [1, 1, 1]
    # halfway: the roots of 1/2, 2, 1/2, which are to each other as 1, 2, 1, with the sum 3
    assert schedule.at(15) == pytest.approx([0.75, 1.5, 0.75])


def test_a_loss_follows_it() -> None:
    schedule = viscera.WeightSchedule(START.tolist(), END, last_step=2)
    loss = viscera.WeightedDiceLoss(schedule.at(0))
    loss.class_weights.copy_(torch.from_numpy(schedule.at(1)))
    assert loss.class_weights.tolist() == pytest.approx([0.75, 1.5, 0.75])


def test_the_same_weights_twice_never_change() -> None:
    weights = [1.0, 100.0]
    schedule = viscera.WeightSchedule(weights, weights)  # type: ignore[arg-type]
    assert schedule.constant
    assert schedule.at(7).tolist() == weights


@pytest.mark.parametrize("step", [-1, float("nan"), "3", None])
def test_a_step_is_a_number(step: Any) -> None:
    with pytest.raises(BadInputError, match="step="):
        viscera.WeightSchedule(START, END, 0, 4).at(step)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((START, END, 5, 5), "last_step=5: .* at least 6"),
        ((START, END, 5, 4), "last_step=4"),
        ((START, END, -1, 4), "first_step=-1"),
        ((START, END, 0, 1.5), "last_step=1.5"),
        ((START, np.ones(4)), "3 and 4 weights"),
        ((START, [np.nan, 1, 2]), "end: .* one finite weight"),
        (([-1, 3, 1], END), "start: "),
        (("simple", "uniform"), "start: 'simple'"),
        ((START[None], END[None]), "start: "),
    ],
)
def test_what_is_no_schedule_is_refused(given: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        viscera.WeightSchedule(*given)
