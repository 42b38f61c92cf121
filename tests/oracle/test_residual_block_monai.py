"""The residual block against MONAI's, where they coincide: without a stride (there MONAI's shortcut skips voxels)."""

import warnings

import pytest
import torch
from torch import nn

from viscera.core.network_config import NetworkConfig
from viscera.networks.unet3d import ResidualBlock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    blocks = pytest.importorskip(
        "monai.networks.blocks.dynunet_block", reason="MONAI is not installed: pip install 'viscera[oracle]'"
    )


@pytest.mark.parametrize("channels", [(3, 6), (6, 6)])
@torch.no_grad()
def test_it_gives_what_monais_gives(channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    instance = ("INSTANCE", {"affine": True})
    theirs = blocks.UnetResBlock(3, *channels, kernel_size=3, stride=1, norm_name=instance, act_name="relu")
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = ResidualBlock(NetworkConfig(normalisation="instance"), channels, (1, 1, 1), (3, 3, 3))
    names = {"first": "1", "second": "2"} | ({"shortcut": "3"} if channels[0] != channels[1] else {})
    weights = theirs.state_dict()
    state = {f"{ours}.0.weight": weights[f"conv{number}.conv.weight"] for ours, number in names.items()}
    state |= {
        f"{ours}.1.{each}": weights[f"norm{n}.{each}"] for ours, n in names.items() for each in ("weight", "bias")
    }
    state |= {f"{ours}.0.bias": torch.zeros(channels[1]) for ours in ("first", "second")}  # MONAI has none
    ours.load_state_dict(state)
    x = torch.randn(2, channels[0], 6, 5, 7)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
