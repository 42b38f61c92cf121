"""The network that predicts, against the one that was trained."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.network_designs import DESIGNS
from viscera.core.network_config import NetworkConfig
from viscera.networks import folded_unet3d
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

FOLDED = ("anisotropic", "deep supervision", "residual", "residual anisotropic")


def network_after_some_training(levels: int, initialisation: Literal["he", "keras"] = "he", **design: Any) -> UNet3D:
    """Its batch normalisation has statistics, scales and shifts unlike those that it begins with."""
    torch.manual_seed(levels)
    network = UNet3D(1, 5, 4, levels, initialisation, design=NetworkConfig(**design))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return network.eval()


def windows(shape: tuple[int, int, int]) -> Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("shape", [(16, 16, 16), (8, 24, 16), (13, 9, 22), (1, 1, 1)])
@torch.no_grad()
def test_logits_are_those_of_the_network_but_for_rounding(
    shape: tuple[int, int, int], layout: torch.memory_format
) -> None:
    for levels, initialisation in ((2, "he"), (3, "keras"), (4, "he")):
        network = network_after_some_training(levels, initialisation).to(memory_format=layout)  # type: ignore[arg-type, call-overload]
        x = windows(shape)
        expected, found = network(x), FoldedUNet3D(network)(x)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("shape", [(16, 16, 16), (13, 9, 22), (2, 1, 3)])
@torch.no_grad()
def test_networks_that_differ_from_the_papers_are_folded_likewise(name: str, shape: tuple[int, int, int]) -> None:
    """In float64, where nothing but the last digits differ, and in float32."""
    network, x = network_after_some_training(3, **DESIGNS[name]), windows(shape)
    expected = network(x)
    assert torch.allclose(FoldedUNet3D(network)(x), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    exact = FoldedUNet3D(network.double(), torch.float64)(x.double())
    assert torch.allclose(exact, network(x.double()), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_window_alone_gets_the_logits_that_it_gets_beside_others() -> None:
    """Also where `conv3d` would compute a single one in another way, because it is small."""
    network, x = FoldedUNet3D(network_after_some_training(3)), windows((16, 12, 16))
    together = network(x)
    for at, window in enumerate(x):
        assert torch.allclose(network(window[None])[0], together[at], rtol=0, atol=2e-6 * float(together.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_fused_operations_give_the_logits_of_plain_ones(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = FoldedUNet3D(network_after_some_training(3), dtype), windows((16, 12, 16))
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor does not compute in bfloat16")
    assert folded_unet3d._fuses(dtype)
    found = network(x)
    monkeypatch.setattr(folded_unet3d, "_fuses", lambda _: False)
    plain = network(x)
    rounding = 1e-6 if dtype == torch.float32 else 2**-6  # of the largest: a sum is rounded once in place of twice
    assert torch.allclose(found, plain, rtol=0, atol=rounding * float(plain.abs().max()))


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_a_pytorch_without_the_fused_operations_takes_plain_ones(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(folded_unet3d, "_fused", fail)
    assert not folded_unet3d._fuses.__wrapped__(torch.float32)
    assert not folded_unet3d._fuses(torch.float64)  # a type that oneDNN does not have


@torch.no_grad()
def test_in_float64_nothing_but_the_last_digits_differ() -> None:
    network = network_after_some_training(3).double()
    x = windows((12, 16, 20)).double()
    assert torch.allclose(FoldedUNet3D(network, torch.float64)(x), network(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_bfloat16_is_as_close_to_float32_as_autocast_is() -> None:
    network, x = network_after_some_training(4), windows((24, 16, 16))
    expected = torch.softmax(network(x), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = torch.softmax(network(x).float(), dim=1)
        found = torch.softmax(FoldedUNet3D(network, torch.bfloat16)(x).float(), dim=1)
    assert (found - expected).abs().mean() < 1.5 * (autocast - expected).abs().mean() < 0.02


@torch.no_grad()
def test_the_network_itself_stays_as_it_was() -> None:
    network, x = network_after_some_training(3), windows((8, 8, 8))
    before = network(x)
    FoldedUNet3D(network, torch.bfloat16)(x)
    assert torch.equal(network(x), before)
