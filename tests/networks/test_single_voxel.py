"""Inputs of which the lowest level has a single voxel: what each normalisation makes of it."""

from typing import Any

import pytest
import torch
from torch import nn

from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.networks.normalisation import GroupNorm3D, InstanceNorm3D
from viscera.networks.unet3d import UNet3D

SMALLEST = [(4, 4, 4), (1, 1, 1), (3, 4, 2)]
RESIDUAL = {"encoder": "residual", "blocks": (1, 1, 1)}


def network_of(**settings: Any) -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(1, 3, 2, 3, design=NetworkConfig(**settings))


@pytest.mark.parametrize("voxels", [(2, 3, 4), (5, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_of_any_number_of_voxels_by_the_definition(voxels: tuple[int, ...], batch: int) -> None:
    torch.manual_seed(0)
    x, dtype = torch.randn(batch, 4, *voxels, dtype=torch.float64, requires_grad=True), torch.float64
    for module, groups in ((InstanceNorm3D(4, affine=True, dtype=dtype), 4), (GroupNorm3D(2, 4, dtype=dtype), 2)):
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
        parts = x.view(batch, groups, -1)
        spread = parts.var(dim=2, keepdim=True, unbiased=False)
        normal = ((parts - parts.mean(dim=2, keepdim=True)) / (spread + module.eps).sqrt()).view_as(x)
        scale, shift = (each.view(4, 1, 1, 1) for each in (module.weight, module.bias))
        torch.testing.assert_close(module(x), normal * scale + shift)
        (gradient,) = torch.autograd.grad(module(x).square().sum(), x)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("size", SMALLEST)
@pytest.mark.parametrize(
    "settings",
    [
        {"normalisation": "instance"},
        {"normalisation": "group", "groups": 2},
        {"normalisation": "instance", **RESIDUAL},
    ],
)
def test_normalisation_of_each_sub_volume_takes_it_in_training_and_evaluation(
    size: tuple[int, ...], settings: dict[str, Any]
) -> None:
    network, x = network_of(**settings), torch.rand(1, 1, *size)
    found = network.train()(x)
    found.square().sum().backward()
    assert found.shape == (1, 3, *size)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert torch.allclose(network.eval()(x), found, atol=1e-6)  # which has no statistics of training


@pytest.mark.parametrize("size", SMALLEST)
@pytest.mark.parametrize("settings", [{}, RESIDUAL])
def test_batch_normalisation_refuses_a_single_one_in_training_before_any_statistics_move(
    size: tuple[int, ...], settings: dict[str, Any]
) -> None:
    network, x = network_of(**settings), torch.rand(1, 1, *size)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BadInputError, match=r"one voxel at the lowest of 3 levels.*more than 4×4×4 voxels, two"):
        network.train()(x)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.eval()(x).shape == (1, 3, *size)
    assert network.train()(x.repeat(2, 1, 1, 1, 1)).isfinite().all()
    assert network(torch.rand(1, 1, 5, *size[1:])).isfinite().all()


def test_frozen_batch_normalisation_takes_it() -> None:
    network = network_of().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
    assert network(torch.rand(1, 1, 4, 4, 4)).isfinite().all()
