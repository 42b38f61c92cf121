"""Prediction by sub-volumes, and on the scan's own grid."""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from viscera.core.config import Config, PredictConfig, PrepareConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import Volume
from viscera.engine import sliding_window
from viscera.engine import trained_model as module
from viscera.engine.predictor import Predictor
from viscera.engine.sliding_window import predict_probabilities, probability_planes
from viscera.engine.trained_model import Model
from viscera.imaging.windows import covering_origins, gaussian_weights
from viscera.io.checkpoint import Checkpoint, load_with_checksum
from viscera.io.files import sha256
from viscera.io.store import Store
from viscera.stages.train import train

CPU = torch.device("cpu")


class Counting(nn.Module):
    """The n-th window that it sees gets the logit n for class 1, everywhere; the others 0."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(x.shape[0], 8, *x.shape[2:])
        for window in logits:
            window[1] = self.seen
            self.seen += 1
        return logits


class Local(nn.Module):
    """Logits that depend on the voxel alone: any window of any tiling must give the same."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * label for label in range(8)], dim=1)


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
@pytest.mark.parametrize("batch_windows", [1, 3, 100])
def test_overlapping_windows_are_averaged_by_their_weights(blend: str, batch_windows: int) -> None:
    shape, patch = (6, 4, 4), 4
    config = PredictConfig.model_validate({"mode": "sub_volumes", "blend": blend, "batch_windows": batch_windows})
    found = predict_probabilities(Counting(), noise(shape), TrainConfig(patch=patch), config, CPU)
    # two windows along I, from 0 and from 2; class 1 has probability p_n = e^n / (e^n + 7) in the n-th
    p = [1 / 8, np.e / (np.e + 7)]
    weight = gaussian_weights((4, 4, 4)) if blend == "gaussian" else np.ones((4, 4, 4))
    assert found.shape == (8, *shape)
    for i, j, k in itertools.product(range(6), range(4), range(4)):
        w = [weight[i, j, k] if i < 4 else 0.0, weight[i - 2, j, k] if i >= 2 else 0.0]
        expected = (w[0] * p[0] + w[1] * p[1]) / (w[0] + w[1])
        assert float(found[1, i, j, k]) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(found.sum(dim=0), torch.ones(shape))


@pytest.mark.parametrize("shape", [(9, 5, 13), (4, 4, 4), (3, 11, 2), (1, 1, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_the_tiling_does_not_matter_to_a_network_that_sees_single_voxels(
    shape: tuple[int, int, int], overlap: float
) -> None:
    hu = noise(shape)
    tiled = predict_probabilities(
        Local(), hu, TrainConfig(patch=4), PredictConfig(mode="sub_volumes", overlap=overlap), CPU
    )
    whole = predict_probabilities(Local(), hu, TrainConfig(patch=4), PredictConfig(mode="whole_volume"), CPU)
    assert tiled.shape == whole.shape == (8, *shape)
    x = torch.from_numpy((hu.astype(np.float32) + 500) / 1000)
    expected = torch.softmax(torch.stack([x * label for label in range(8)]), dim=0)
    assert torch.allclose(tiled, expected, atol=1e-6)
    assert torch.allclose(whole, expected, atol=1e-6)


@pytest.mark.parametrize("batch_windows", [1, 5, 100])
def test_a_plane_comes_as_soon_as_no_later_window_reaches_it(batch_windows: int) -> None:
    config = PredictConfig(mode="sub_volumes", batch_windows=batch_windows)
    network = Counting()
    planes = probability_planes(network, noise((8, 6, 30)), TrainConfig(patch=4), config, CPU)
    # windows of 4 from 0, 2, 4 along K, six in each: two planes after the first six, the next two after twelve …
    assert [network.seen for _ in planes] == [
        min(14 * 6, batch_windows * math.ceil(6 * min(k // 2 + 1, 14) / batch_windows)) for k in range(30)
    ]


@pytest.mark.parametrize("batch_windows", [1, 5, 100])
def test_no_more_planes_are_held_than_a_window_is_thick(batch_windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held, add = [], sliding_window._add

    def counted(planes: Sequence[Any], *rest: Any) -> None:
        held.append(len(planes))
        add(planes, *rest)

    monkeypatch.setattr(sliding_window, "_add", counted)
    config = PredictConfig(mode="sub_volumes", batch_windows=batch_windows)
    predict_probabilities(Local(), noise((8, 6, 30)), TrainConfig(patch=4), config, CPU)
    assert set(held) == {4}


def test_on_a_cpu_as_many_windows_go_together_as_have_few_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Wide(Local):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    def predicted() -> Tensor:
        return predict_probabilities(Wide(), noise((8, 4, 4)), settings, config, CPU)

    settings = TrainConfig(patch=4, levels=2, filters=2)
    config = PredictConfig(mode="sub_volumes", batch_windows=3)
    found = predicted()
    monkeypatch.setattr(sliding_window, "_TOGETHER_VOXELS", 2 * 64)
    assert torch.equal(predicted(), found)
    monkeypatch.setattr(sliding_window, "_TOGETHER_VOXELS", 1)
    assert torch.equal(predicted(), found)
    assert seen == [3, 2, 1, 1, 1, 1]  # three windows, at 0, 2 and 4


def test_windows_lie_inside_and_cover_everything() -> None:
    for n in range(8, 40):
        origins = covering_origins((n, 8, 8), (8, 8, 8), 0.5)
        covered = {voxel for i, _, _ in origins for voxel in range(i, i + 8)}
        assert covered == set(range(n))


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 8, 3)])
def test_one_window_over_the_whole_volume_is_the_whole_volume(tiny_run: Path, shape: tuple[int, int, int]) -> None:
    model = Model.load(tiny_run / "last.pt")
    settings, hu = model.trained_with.train, noise(shape)
    tiled = predict_probabilities(model.network, hu, settings, PredictConfig(mode="sub_volumes"), CPU)
    whole = predict_probabilities(model.network, hu, settings, PredictConfig(mode="whole_volume"), CPU)
    assert torch.allclose(tiled, whole, atol=1e-6)


def test_a_run_is_loaded_as_it_was_configured(tiny_run: Path) -> None:
    last = Predictor.load(tiny_run)
    assert (last.provenance["step"], last.checksum) == (6, sha256(tiny_run / "last.pt"))
    assert not last.models["last"].network.training
    best = Predictor.load(str(tiny_run), PredictConfig(checkpoint="best"))
    assert best.provenance["step"] in {3, 6}
    assert best.checksum == sha256(tiny_run / "best.pt")


def test_a_run_trained_to_be_used_at_its_best_is(
    tiny_store: Store, tmp_path: Path, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(iterations=2, validate_every=1)
    config = config.model_copy(update={"predict": PredictConfig(checkpoint="best")})
    train(tiny_store.path, tmp_path / "r", config)
    loaded: list[str] = []

    def watched(path: Path) -> tuple[Checkpoint, str]:
        loaded.append(path.name)
        return load_with_checksum(path)

    monkeypatch.setattr(module, "load_with_checksum", watched)
    Predictor.load(tmp_path / "r")
    assert loaded[-1] == "best.pt"


def test_what_is_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no such run"):
        Predictor.load(tmp_path / "missing")
    with pytest.raises(BadInputError, match="there is no such checkpoint"):
        Predictor.load(tmp_path)


# ------------------------------------------------------------------------------------------ the grid


def scan(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int] = (14, 12, 10)) -> Volume:
    return Volume(noise(shape), Geometry.from_spacing(shape, spacing_mm))


@pytest.mark.parametrize(
    ("spacing_mm", "resampled"),
    [
        ((2.0, 2.0, 2.5), False),
        ((2.9, 1.4, 3.7), False),  # less than 1.5 times coarser or finer along each axis
        ((3.1, 2.0, 2.5), True),
        ((2.0, 2.0, 1.6), True),
        ((0.5, 0.5, 0.5), True),
    ],
)
def test_a_scan_unlike_the_training_scans_is_resampled_and_the_user_told(
    tiny_run: Path, caplog: pytest.LogCaptureFixture, spacing_mm: tuple[float, float, float], resampled: bool
) -> None:
    predictor, model = Predictor.load(tiny_run), Model.load(tiny_run / "last.pt")
    with caplog.at_level(logging.WARNING):
        change = model.change_for(scan(spacing_mm).geometry)
    assert change.coarse.spacing_mm == pytest.approx((2.0, 2.0, 2.5) if resampled else spacing_mm)
    assert ("resampled to that instead" in caplog.text) == resampled
    assert predictor(scan(spacing_mm)).geometry.shape == (14, 12, 10)


@pytest.mark.parametrize(("grid", "spacing_mm"), [("prepared", (0.5, 0.5, 0.5)), ("spacing", (2.0, 2.0, 2.5))])
def test_the_grid_can_be_forced(
    tiny_run: Path, caplog: pytest.LogCaptureFixture, grid: str, spacing_mm: tuple[float, float, float]
) -> None:
    model = Model.load(tiny_run / "last.pt", PredictConfig.model_validate({"grid": grid}))
    assert model.change_for(scan((0.5, 0.5, 0.5)).geometry).coarse.spacing_mm == pytest.approx(spacing_mm)
    assert not caplog.text


@pytest.mark.parametrize(
    ("spacing_mm", "network_mm"),
    [
        ((0.8, 0.7, 5.0), (3.2, 2.8, 5.0)),  # as prepared: 4,4,1
        ((0.7, 0.7, 0.7), (2.8, 2.8, 0.7)),  # slices less than 1.5 times as thin as the thinnest
        ((0.7, 0.7, 0.6), (2.8, 2.8, 2.5)),  # the rest is unlike: the medians along every axis
        ((0.7, 0.7, 8.0), (2.8, 2.8, 2.5)),
        ((1.5, 1.5, 2.5), (2.8, 2.8, 2.5)),
        ((0.7, 2.5, 0.7), (2.8, 2.8, 2.5)),  # coronal slices: what is thick runs along another axis
    ],
)
def test_each_axis_is_compared_with_the_training_scans(
    tiny_run: Path, spacing_mm: tuple[float, float, float], network_mm: tuple[float, float, float]
) -> None:
    model = Model.load(tiny_run / "last.pt")
    prepare = PrepareConfig.model_validate({"downsample": "4,4,1"})
    checkpoint = replace(
        model.checkpoint,
        config=model.trained_with.model_copy(update={"prepare": prepare}),
        training_spacings_mm=((2.8, 2.8, 1.0), (3.2, 3.2, 5.0), (2.8, 2.8, 2.5)),
    )
    change = replace(model, checkpoint=checkpoint).change_for(scan(spacing_mm).geometry)
    assert change.coarse.spacing_mm == pytest.approx(network_mm)


def test_a_prediction_is_cleaned_up_on_request(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_livers_one_hollow(*_arguments: object) -> Iterator[Tensor]:
        probabilities = torch.zeros(8, 14, 12, 10)
        probabilities[3, 1:8, 1:8, 1:8] = 2
        probabilities[3, 4, 4, 4] = 0
        probabilities[3, 10:12, 4, 4] = 2
        probabilities[0] = 1
        return iter(probabilities.unbind(-1))

    monkeypatch.setattr(module, "probability_planes", two_livers_one_hollow)
    scan = Volume(noise((14, 12, 10)), Geometry.from_spacing((14, 12, 10), (2, 2, 2.5)))
    as_is = Predictor.load(tiny_run, PredictConfig(), "cpu")(scan).labels == 3
    settings = {"cleanup": {"largest_component": ["liver"], "fill_holes": ["all"]}}
    cleaned = Predictor.load(tiny_run, PredictConfig.model_validate(settings), "cpu")(scan).labels == 3
    assert (as_is.sum(), cleaned.sum()) == (7**3 - 1 + 2, 7**3)
    assert cleaned[4, 4, 4]
    assert not cleaned[10:].any()


def test_a_clean_up_of_organs_that_the_model_does_not_know_is_refused_at_once(tiny_run: Path) -> None:
    config = PredictConfig.model_validate({"cleanup": {"fill_holes": ["kidney"]}})
    with pytest.raises(BadInputError, match=r"predict\.cleanup\.fill_holes: there is no kidney"):
        Predictor.load(tiny_run, config, "cpu")
