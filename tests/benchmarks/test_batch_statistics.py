"""A larger batch optimises another function: the sums of Eq. 2 by hand, and when the change is called small."""

import pytest
import torch
from torch import nn

from benchmarks.batch_statistics import joined, largest, loss_of, of_batches, organs_in, section
from viscera.engine.feed import NetworkInput
from viscera.losses.dice import WeightedDiceLoss


def window(label: int, logit: float) -> NetworkInput:
    """One window of one voxel: of two classes, and a `logit` of the second."""
    return NetworkInput(torch.full((1, 1, 1, 1, 1), logit), torch.full((1, 1, 1, 1), label, dtype=torch.uint8))


class Second(nn.Module):
    """Logits 0 and a times the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), self.a * x], dim=1)


def test_a_batch_without_an_organ_has_no_gradient_for_it_alone_and_one_among_others() -> None:
    """Only the second class counts. Its probability is 1/2 in both windows, and the first has none of it.

    Alone: 0 and -2 · 1/2 / (1/2 + 1) = -2/3, mean -1/3. Together: -2 · 1/2 / (1 + 1) = -1/2.
    """
    network, loss = Second(), WeightedDiceLoss([0.0, 2.0])
    batches = [window(0, 0.0), window(1, 0.0)]
    alone, gradients = of_batches(network, loss, batches, 1, 1)
    assert alone == pytest.approx(-1 / 3)
    assert gradients[0].item() == 0
    (both,) = joined(batches, 2)
    assert loss_of(network, loss, both, 2, 2).item() == pytest.approx(-1 / 2)
    assert loss_of(network, loss, both, 2, 1).item() == pytest.approx(-1 / 3)
    # by false positives: with a probability of 0.73 in the window without it, the loss of both falls when a does
    _, (slope,) = of_batches(network, loss, joined([window(0, 1.0), window(1, 0.0)], 2), 2, 2)
    assert slope.item() > 0
    _, slopes = of_batches(network, loss, [window(0, 1.0), window(1, 0.0)], 1, 1)
    assert [each.item() for each in slopes] == [0, 0]


def test_shares_without_an_organ() -> None:
    threes = [joined([window(label, 0.0) for label in labels], 3)[0] for labels in ((0, 0, 1), (0, 0, 0))]
    assert organs_in(threes, ("background", "liver")) == {
        "liver": {"windows_without": pytest.approx(5 / 6), "threes_without": 0.5}
    }


def test_the_largest_batch_is_the_last_before_the_first_that_changes_more_than_chance() -> None:
    rows = [
        {"windows": 6, "gradient": 0.1, "noise": 0.5},
        {"windows": 12, "gradient": 0.4, "noise": 0.35},
        {"windows": 24, "gradient": 0.1, "noise": 0.25},
    ]
    assert largest(rows) == 6
    assert largest(rows[1:]) == 3
    assert "Not measured yet" in section({})
