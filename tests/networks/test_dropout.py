"""Which channels are left out: how many, by how much the others count more, and that a step decides it alone."""

import pytest
import torch

from viscera.networks.dropout import kept_channels


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_as_many_are_left_out_as_was_asked_and_the_mean_stays(share: float) -> None:
    """Of 40,000 channels: standard errors of 0.0025 at most for the share, and of 0.01 for the mean."""
    factors = kept_channels(share, 20_000, (3, 7), slice(0, 2))
    assert set(factors.flatten().tolist()) == {0.0, torch.tensor(1 / (1 - share)).item()}
    assert (factors == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    assert factors.mean().item() == pytest.approx(1, abs=0.04)


def test_none_is_left_out_at_a_share_of_0() -> None:
    assert torch.equal(kept_channels(0.0, 9, (0, 1), slice(0, 2)), torch.ones(2, 9))


def test_a_step_decides_it_alone_and_each_window_for_itself() -> None:
    first = kept_channels(0.5, 64, (3, 7), slice(0, 3))
    torch.manual_seed(1)
    assert torch.equal(kept_channels(0.5, 64, (3, 7), slice(0, 3)), first)
    assert torch.equal(kept_channels(0.5, 64, (3, 7), slice(1, 3)), first[1:])  # of another rank
    others = [kept_channels(0.5, 64, key, slice(0, 3)) for key in ((3, 8), (4, 7), (2**64 - 1, 7))]
    rows = torch.cat([first, *others])
    assert len(set(map(tuple, rows.tolist()))) == len(rows) == 12
