"""Parts of our networks against those of nnU-Net, in its environment, `.venv-bench` (make install-bench)."""

import pytest

from tests.bench_environment import lines_of, needs_nnunet

pytestmark = [pytest.mark.slow, needs_nnunet]

RESIDUAL_BLOCKS = """
import torch
from torch import nn
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from viscera.core.network_config import NetworkConfig
from viscera.networks.unet3d import ResidualBlock

torch.manual_seed(0)
settings = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": nn.ReLU}
wide, square = (4, 8), (8, 8)
halved, alone, cube = (2, 2, 2), (1, 1, 1), (3, 3, 3)
for channels, stride, kernel in (
    (wide, halved, cube), (wide, (2, 2, 1), (3, 3, 1)), (square, alone, cube), (wide, alone, (5, 3, 3))
):
    theirs = BasicBlockD(nn.Conv3d, *channels, kernel, stride, conv_bias=True, **settings)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = ResidualBlock(NetworkConfig(normalisation="instance"), channels, stride, kernel)
    of_block = {"first.0": "conv1.conv", "first.1": "conv1.norm", "second.0": "conv2.conv", "second.1": "conv2.norm"}
    of_skip = {f"shortcut.{n}": f"skip.{int(stride != (1, 1, 1))}.{kind}" for n, kind in enumerate(("conv", "norm"))}
    weights = theirs.state_dict()
    names = of_block | (of_skip if channels[0] != channels[1] else {})
    pairs = [(f"{a}.{kind}", f"{b}.{kind}") for a, b in names.items() for kind in ("weight", "bias")]
    ours.load_state_dict({a: weights[b] for a, b in pairs if b in weights})
    x = torch.randn(2, channels[0], 8, 12, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    print("equal")
"""


def test_residual_blocks_are_those_of_its_residual_encoder() -> None:
    assert lines_of(RESIDUAL_BLOCKS) == ["equal"] * 4
