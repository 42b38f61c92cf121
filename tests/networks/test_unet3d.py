"""The network against the published parameter counts."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import viscera
from viscera.core.errors import BadInputError
from viscera.networks.unet3d import UNet3D


def counted_as_in_the_paper(network: nn.Module) -> int:
    """Weights and biases of convolutions; batch normalisation is not counted (Çiçek et al. 2016, section 2)."""
    kinds = (nn.Conv3d, nn.ConvTranspose3d)
    return sum(p.numel() for module in network.modules() if isinstance(module, kinds) for p in module.parameters())


@pytest.mark.parametrize(("in_channels", "num_classes", "published"), [(3, 3, 19_069_955), (1, 8, 19_068_552)])
def test_parameter_count_of_cicek_et_al(in_channels: int, num_classes: int, published: int) -> None:
    assert counted_as_in_the_paper(viscera.UNet3D(in_channels, num_classes, base_filters=32)) == published


def test_width_scales_with_base_filters() -> None:
    # all convolutions but the first and last scale with the square of the width
    wide, narrow = (counted_as_in_the_paper(viscera.UNet3D(base_filters=f)) for f in (32, 16))
    assert 3.9 < wide / narrow < 4.0


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 9, 12), (1, 5, 3)])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int, int]) -> None:
    network = viscera.UNet3D(1, 8, base_filters=2, levels=3).eval()
    assert network(torch.rand(2, 1, *size)).shape == (2, 8, *size)


def test_batch_normalisation_stands_before_each_relu() -> None:
    modules = [m for m in viscera.UNet3D(base_filters=2).modules() if not isinstance(m, nn.Sequential | nn.ModuleList)]
    for before, relu in itertools.pairwise(modules):
        if isinstance(relu, nn.ReLU):
            assert isinstance(before, nn.BatchNorm3d)


def test_initialisation_is_he() -> None:
    torch.manual_seed(0)
    modules = viscera.UNet3D(base_filters=32).modules()
    layer = next(m for m in modules if isinstance(m, nn.Conv3d) and m.out_channels == 128)  # from 64: fan-in 64 * 27
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.02)


def test_keras_initialisation_is_glorot_with_its_batch_normalisation() -> None:
    torch.manual_seed(0)
    network = viscera.UNet3D(base_filters=32, initialisation="keras")
    layer = next(m for m in network.modules() if isinstance(m, nn.Conv3d) and m.out_channels == 128)  # from 64
    limit = (6 / ((64 + 128) * 27)) ** 0.5
    assert limit * 0.999 < layer.weight.abs().max().item() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}


def test_pytorchs_constants_are_the_default() -> None:
    norms = [m for m in viscera.UNet3D(base_filters=2).modules() if isinstance(m, nn.BatchNorm3d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-5)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialisation": "glorot"}, '"he", "keras"'),
        ({"levels": 0}, "levels=0: a whole number of at least 1"),
        ({"base_filters": 8.0}, "a whole number"),
        ({"num_classes": -1}, "at least 1"),
    ],
)
def test_a_misspelt_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        UNet3D(**options)


@pytest.mark.parametrize("shape", [(1, 8, 8, 8), (1, 2, 8, 8, 8), (1, 1, 8, 0, 8)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match=r"\(B, 1, I, J, K\) was expected"):
        UNet3D(base_filters=1, levels=2)(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.bool, torch.complex64])
def test_an_input_of_another_type_is_a_type_error(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"x: .*floating-point numbers were expected"):
        UNet3D(base_filters=1, levels=2)(torch.zeros(1, 1, 4, 4, 4, dtype=dtype))


def test_an_array_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="x: ndarray, a tensor was expected"):
        UNet3D(base_filters=1, levels=2)(np.zeros((1, 1, 4, 4, 4)))


def test_an_input_of_float64_is_told_what_to_do() -> None:
    network, x = UNet3D(base_filters=1, levels=2), torch.zeros(2, 1, 4, 4, 4, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"x: torch.float64, and the weights are torch.float32. Pass x.float\(\)"):
        network(x)
    assert network.double()(x).dtype == torch.float64


def test_a_design_is_a_network_config() -> None:
    design: Any = {"dropout": 0.5}
    with pytest.raises(TypeError, match=r"design: dict, a viscera.NetworkConfig was expected"):
        UNet3D(design=design)
