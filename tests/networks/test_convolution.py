"""Gradients of convolutions of few voxels, beside those of PyTorch's own loops, without oneDNN."""

import itertools

import pytest
import torch
from torch import nn

from viscera.networks.convolution import Convolution3D
from viscera.networks.unet3d import UNet3D, same_padding

CHANNELS = [(16, 16), (4, 16), (16, 4)]


def dirty_memory() -> None:
    """What is allocated next holds NaN."""
    for size in (16, 64, 100, 256, 500, 1024, 2000, 4096, 16384, 65536):
        torch.full((size,), float("nan"))


def in_float64(convolution: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """The gradient of the weights, which oneDNN does not compute in 64 bits."""
    other = nn.Conv3d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
    ).double()
    other(x.double()).sum().backward()
    assert other.weight.grad is not None
    return other.weight.grad


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [
        ((2, 2, 2), (3, 3, 3), 1),
        ((2, 4, 4), (3, 3, 3), 1),
        ((2, 2, 2), (3, 3, 1), 1),
        ((1, 1, 1), (3, 3, 3), 2),
        ((1, 1, 1), (1, 1, 3), 2),
        ((4, 2, 4), (5, 5, 5), 1),
        ((3, 3, 3), (5, 5, 5), 2),
        ((6, 6, 6), (7, 7, 7), 1),
    ],
)
def test_the_gradient_in_bfloat16_is_that_in_64_bits(
    size: tuple[int, int, int], kernel: tuple[int, int, int], stride: int, layout: torch.memory_format
) -> None:
    for (before, after), seed in itertools.product(CHANNELS, range(2)):
        torch.manual_seed(seed)
        convolution = Convolution3D(before, after, kernel, stride, same_padding(kernel))
        x = torch.randn(2, before, *size).bfloat16().float().contiguous(memory_format=layout).requires_grad_()
        dirty_memory()
        with torch.autocast("cpu", torch.bfloat16):
            found = convolution(x).sum()
        dirty_memory()
        found.backward()
        assert convolution.weight.grad is not None
        torch.testing.assert_close(
            convolution.weight.grad.double(), in_float64(convolution, x.detach()), rtol=0.02, atol=0.1
        )


def test_padding_it_first_is_the_same_convolution() -> None:
    torch.manual_seed(0)
    convolution = Convolution3D(4, 8, (5, 3, 7), (1, 2, 1), (2, 1, 3))
    x = torch.randn(2, 4, 3, 2, 4)
    plain = nn.Conv3d.forward(convolution.eval(), x)
    torch.testing.assert_close(convolution.train()(x), plain)


def test_what_fits_or_is_not_trained_is_computed_as_ever() -> None:
    torch.manual_seed(0)
    convolution = Convolution3D(4, 8, 3, padding=1)
    for x in (torch.randn(2, 4, 3, 3, 3), torch.randn(2, 4, 2, 2, 2)):  # in float32
        plain = torch.nn.functional.conv3d(x, convolution.weight, convolution.bias, padding=1)
        assert torch.equal(convolution(x), plain)


def test_a_network_of_few_voxels_trains_in_bfloat16_the_same_each_time() -> None:
    found = set()
    for _ in range(6):
        torch.manual_seed(0)
        network, x = UNet3D(base_filters=4, levels=3), torch.randn(2, 1, 8, 8, 8)
        dirty_memory()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(x).float().square().sum()
        dirty_memory()
        loss.backward()
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        found.add(tuple(gradient.double().sum().item() for gradient in gradients))
    assert len(found) == 1
