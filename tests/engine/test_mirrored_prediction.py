"""Means over mirror images: laws that hold for any network, in every mode, and what is recorded and said of them."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.settings import Axis
from viscera.engine import sliding_window
from viscera.engine.predictor import Predictor
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trained_model import build_network
from viscera.io.store import Store
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.stages.predict import predict
from viscera.stages.train import train

CPU = torch.device("cpu")
TRAIN = TrainConfig(patch=16, levels=2, filters=2)
MODES = [
    {"mode": "whole_volume"},
    {"mode": "sub_volumes"},
    {"mode": "sub_volumes", "blend": "constant", "overlap": 0.3},
    {"mode": "auto"},
]
SCANS: list[tuple[tuple[int, ...], str, list[int]]] = [  # shape, axes over which is averaged, mirrored along
    ((21, 18, 16), "R", [0]),  # windows in uneven steps
    ((16, 18, 29), "S", [2]),
    ((11, 18, 16), "RS", [0, 2]),  # smaller than a window, by an odd number
    ((5, 20, 17), "RAS", [0, 2]),
]


def scan(shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """Noise with air about it, more on one side."""
    hu = np.random.default_rng(0).integers(-400, 400, shape).astype(np.int16)
    hu[: shape[0] // 3], hu[:, -2:] = -1000, -1000
    return hu


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A random one, of which no output is that of a mirrored input."""
    torch.manual_seed(0)
    return FoldedUNet3D(build_network(TRAIN).eval())


def probabilities(network: nn.Module, hu: npt.NDArray[np.int16], axes: str, how: dict[str, Any]) -> Tensor:
    return predict_probabilities(network, hu, TRAIN, PredictConfig(mirror_axes=tuple(axes), **how), CPU)


@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize(("shape", "axes", "mirrored"), SCANS)
def test_a_mirrored_scan_has_the_mirrored_probabilities_whatever_the_network(
    how: dict[str, Any],
    shape: tuple[int, ...],
    axes: str,
    mirrored: list[int],
    network: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliding_window, "MOST_BYTES", 3e5)  # so that large windows are several
    hu = scan(shape)
    one = probabilities(network, hu, axes, how)
    other = probabilities(network, np.flip(hu, tuple(mirrored)).copy(), axes, how)
    torch.testing.assert_close(other, one.flip([axis + 1 for axis in mirrored]), rtol=0, atol=2e-6)
    assert one.shape == (8, *shape)
    assert not torch.allclose(one, probabilities(network, hu, "", how), atol=1e-3)


class Symmetric(nn.Module):
    """A network whose output for a mirrored input is its output mirrored: means over neighbours, and a line."""

    def forward(self, x: Tensor) -> Tensor:
        near = nn.functional.avg_pool3d(x, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([near * label for label in range(8)], dim=1)


@pytest.mark.parametrize("how", MODES)
def test_of_a_symmetric_network_nothing_changes(how: dict[str, Any]) -> None:
    hu = scan((32, 24, 40))  # in even steps
    found = probabilities(Symmetric(), hu, "RAS", how)
    torch.testing.assert_close(found, probabilities(Symmetric(), hu, "", how), rtol=0, atol=2e-6)


class Counting(nn.Module):
    """Keeps the shape of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.repeat(1, 8, 1, 1, 1)


@pytest.mark.parametrize("how", MODES)
def test_each_axis_doubles_the_windows_and_none_is_larger(how: dict[str, Any]) -> None:
    alone, mirrored = Counting(), Counting()
    for network, axes in ((alone, ""), (mirrored, "RAS")):
        probabilities(network, np.zeros((32, 24, 40), dtype=np.int16), axes, how)
    number = [sum(shape[0] for shape in each.seen) - (how["mode"] == "auto") for each in (alone, mirrored)]  # but air
    assert number[1] == 8 * number[0]
    assert {shape[2:] for shape in mirrored.seen} == {shape[2:] for shape in alone.seen}


@torch.no_grad()
def test_in_one_pass_it_is_the_plain_mean(network: nn.Module) -> None:
    hu = scan((16, 24, 20))
    x = torch.from_numpy(hu).float().add(500).div(1000).clamp(0, 1)[None, None]
    every = [axes for number in range(3) for axes in combinations((2, 4), number)]
    expected = torch.stack([network(x.flip(axes)).softmax(dim=1).flip(axes) for axes in every]).mean(dim=0)[0]
    found = probabilities(network, hu, "RS", {"mode": "whole_volume"})
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_of_several_runs_it_is_the_mean_of_theirs(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "a")
    train(tiny_store.path, tmp_path / "b", tiny_config(seed=1))
    how = PredictConfig(mirror_axes=("A",), mode="sub_volumes")
    hu = scan((20, 18, 26))
    found = [
        predict_probabilities(model.network, hu, model.trained_with.train, model.config, CPU)
        for run in (tmp_path, tmp_path / "a", tmp_path / "b")
        for model in Predictor.load(run, how).models.values()
    ]
    torch.testing.assert_close(found[0], (found[1] + found[2]) / 2, rtol=0, atol=1e-5)


def test_a_prediction_records_its_mirrors_and_warns_once_of_those_that_training_did_not_have(
    tiny_raw: Path, tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scans, how = tiny_raw / "imagesTr", PredictConfig(mirror_axes=("R", "S"))
    predict(tiny_run, scans, tmp_path, how)
    assert caplog.text.count("averages over mirror images along R, S, and no training patch was mirrored so") == 1
    record = (tmp_path / "case_0.json").read_text()
    assert '"mirror_axes"' in record
    caplog.clear()
    predict(tiny_run, scans, tmp_path, PredictConfig(), overwrite=True)
    assert "mirror" not in caplog.text
    assert '"mirror_axes"' not in (tmp_path / "case_0.json").read_text()  # as before there were mirrors


@pytest.mark.parametrize(("enabled", "named"), [(True, "along S,"), (False, "along R, S,")])
def test_axes_along_which_training_mirrored_are_not_warned_of(
    enabled: bool,
    named: str,
    tiny_store: Store,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    augment = {"enabled": enabled, "mirror_axes": ["A"], "flip_left_right": True}
    train(tiny_store.path, tmp_path / "r", tiny_config(iterations=1, augment=augment))
    caplog.clear()
    axes: tuple[Axis, ...] = ("R", "S")
    Predictor.load(tmp_path / "r", PredictConfig(mirror_axes=axes))
    assert caplog.text.count("predict.mirror_axes") == 1
    assert named in caplog.text


def test_a_run_that_mirrors_by_itself_predicts_so(
    tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(iterations=1)
    mirrors = config.predict.model_copy(update={"mirror_axes": ("A",)})
    train(tiny_store.path, tmp_path / "r", config.model_copy(update={"predict": mirrors}))
    assert caplog.text.count("averages over mirror images along A,") == 1  # as the training begins
    caplog.set_level(logging.WARNING)
    caplog.clear()
    predictor = Predictor.load(tmp_path / "r")
    assert predictor.config.mirror_axes == ("A",)
    assert predictor.provenance["settings"]["mirror_axes"] == ["A"]
    assert not caplog.text
    volume = tiny_store.volume("case_0")
    mirrored = replace(volume, hu=np.flip(volume.hu, 1).copy())
    found = [predictor(each).labels for each in (volume, mirrored)]
    assert (found[0] == np.flip(found[1], 1)).mean() > 0.999  # ties aside
