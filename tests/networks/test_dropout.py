"""Which channels are left out: how many, by how much the others count more, and that a step decides it alone."""

from typing import Any

import pytest
import torch

from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.networks.dropout import kept_channels
from viscera.networks.unet3d import UNet3D


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


def in_training(share: float = 0.5) -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(1, 3, 2, 2, design=NetworkConfig(dropout=share)).train()


def channels_of_the_lowest_level(network: UNet3D, x: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Before and after what leaves some out: (B, C, I, J, K) each."""
    seen: list[torch.Tensor] = []
    before = network.down[-1].register_forward_hook(lambda _module, _inputs, found: seen.append(found.detach()))
    after = network.up[-1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    with before, after:
        network(x, **options)
    return seen[0], seen[1]


def test_a_plain_loop_leaves_channels_out_by_pytorchs_generator() -> None:
    network, x = in_training(), torch.rand(3, 1, 8, 8, 8)
    torch.manual_seed(5)
    before, after = channels_of_the_lowest_level(network, x)
    torch.manual_seed(5)
    assert torch.equal(after, torch.nn.functional.dropout3d(before, 0.5, training=True))
    factors = (after / before).nanmean(dim=(2, 3, 4))  # a channel of a sub-volume as a whole, or not at all
    assert {0.0, 2.0} == set(factors[~factors.isnan()].tolist())
    assert not torch.equal(network(x), network(x))


def test_without_training_and_where_the_kept_are_given_nothing_is_drawn() -> None:
    network, x = in_training(), torch.rand(2, 1, 8, 8, 8)
    state = torch.get_rng_state()
    kept = kept_channels(0.5, network.lowest_channels, (1, 2), slice(0, 2))
    before, after = channels_of_the_lowest_level(network, x, kept_BC=kept)
    assert torch.equal(after, before * kept[:, :, None, None, None])
    network.eval()
    before, after = channels_of_the_lowest_level(network, x)
    assert torch.equal(after, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_dropout_a_training_draws_nothing() -> None:
    network, state = in_training(0.0), torch.get_rng_state()
    network(torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)


def test_kept_channels_of_another_shape_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"kept_BC: shape \(1, 8\).*2 sub-volumes and 8 channels"):
        in_training()(torch.rand(2, 1, 8, 8, 8), torch.ones(1, 8))
    kept: Any = [[1.0] * 8] * 2
    with pytest.raises(BadInputError, match="kept_BC: list"):
        in_training()(torch.rand(2, 1, 8, 8, 8), kept)
