"""Own networks on whole scans: against MONAI's sliding window, by hand, and what is refused."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import viscera
from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.engine.sliding_window import predict_probabilities

HU = np.random.default_rng(0).integers(-900, 900, (24, 16, 32)).astype(np.int16)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1)).eval()


def raw(windows_BIJK: Tensor) -> Tensor:
    return windows_BIJK.unsqueeze(1).float() / 1000


def test_it_is_monais_where_sub_volumes_are_the_same() -> None:
    """Sizes of 16 + n x 8 have the same sub-volumes at fixed steps and evenly spaced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inferers = pytest.importorskip("monai.inferers", reason="MONAI is not installed: pip install 'viscera[oracle]'")
        net = network()
        with torch.no_grad():
            theirs = inferers.sliding_window_inference(
                torch.from_numpy(HU)[None, None].float() / 1000, (16,) * 3, 2, lambda x: net(x).softmax(dim=1), 0.5
            )[0]
    ours = viscera.sliding_window_probabilities(net, HU, patch=16, blend="constant", prepare=raw)
    assert (ours.dtype, ours.shape) == (torch.float32, (3, *HU.shape))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@torch.no_grad()
def test_gaussian_weights_by_their_definition() -> None:
    """A Gaussian about the centre with a standard deviation of an eighth of the edge, at least 1e-4 of its largest."""
    net, at = network(), np.arange(16) - 7.5
    axis = np.exp(-((at / 2) ** 2) / 2)
    weights = np.einsum("i,j,k->ijk", axis, axis, axis)
    weights = np.maximum(weights / weights.max(), 1e-4)
    total, sums = np.zeros((3, *HU.shape)), np.zeros(HU.shape)
    for i, k in itertools.product((0, 8), (0, 8, 16)):
        window = slice(i, i + 16), slice(0, 16), slice(k, k + 16)
        found = net(raw(torch.from_numpy(HU[window])[None])).softmax(dim=1)[0].numpy()
        total[:, *window] += weights * found
        sums[window] += weights
    ours = viscera.sliding_window_probabilities(net, HU, patch=16, prepare=raw)
    np.testing.assert_allclose(ours.numpy(), total / sums, atol=1e-5)


def test_of_viscera_networks_it_is_what_a_run_predicts() -> None:
    torch.manual_seed(0)
    net = viscera.UNet3D(1, 8, 2, 2).eval()
    train = TrainConfig(patch=16, filters=2, levels=2)
    predict = PredictConfig(mode="sub_volumes")
    expected = predict_probabilities(net, HU, train, predict, torch.device("cpu"))
    assert torch.equal(viscera.sliding_window_probabilities(net, HU, patch=16), expected)


@pytest.mark.parametrize("shape", [(5, 9, 3), (20, 17, 31)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float64, np.int64])
def test_of_any_size_and_type(shape: tuple[int, ...], dtype: Any) -> None:
    """A network of single voxels does not see where sub-volumes lie, or what lies beside them."""
    torch.manual_seed(0)
    net, hu = nn.Conv3d(1, 3, 1).eval(), np.abs(HU[: shape[0], : shape[1], : shape[2]]).astype(dtype)
    hu = np.resize(hu, shape)
    with torch.no_grad():
        expected = net(raw(torch.from_numpy(hu.astype(np.float32))[None])).softmax(dim=1)[0]
    found = viscera.sliding_window_probabilities(net, hu, patch=8, prepare=raw)
    torch.testing.assert_close(found, expected)


class Gives(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        return self.what(x)


@pytest.mark.parametrize(
    ("what", "hu", "options", "message"),
    [
        (lambda x: [x], HU, {}, r"network: it gave list for 4 sub-volumes; logits \(4, L, 16, 16, 16\)"),
        (lambda x: x[..., 1:], HU, {}, r"it gave shape \(4, 1, 16, 16, 15\)"),
        (lambda x: x, HU[0], {}, r"hu: shape \(16, 32\), \(I, J, K\) was expected"),
        (lambda x: x, HU[None], {}, r"hu: shape"),
        (lambda x: x, np.where(HU > 0, np.nan, HU), {}, "hu: it has NaN or infinite values"),
        (lambda x: x, ["a"], {}, r"hu: list, an array \(I, J, K\) of HU"),
        (lambda x: x, HU, {"overlap": 1.0}, "overlap=1.0: a number from 0 to below 1"),
        (lambda x: x, HU, {"patch": 0}, "patch=0"),
        (lambda x: x, HU, {"batch_windows": 2.5}, "batch_windows"),
        (lambda x: x, HU, {"blend": "mean"}, "blend"),
    ],
)
def test_what_is_refused(what: Any, hu: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.sliding_window_probabilities(Gives(what).eval(), hu, **{"patch": 16, **options})


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"Call network.eval\(\) first"):
        viscera.sliding_window_probabilities(network().train(), HU)
    function: Any = network().forward
    with pytest.raises(TypeError, match=r"network: method, a torch.nn.Module was expected"):
        viscera.sliding_window_probabilities(function, HU)
