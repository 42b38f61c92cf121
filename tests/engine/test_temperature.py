"""Temperature scaling: by hand, as a law, and what a predictor makes of it."""

import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from viscera.core.config import PredictConfig
from viscera.engine.ensemble import MeanOfNetworks
from viscera.engine.predictor import Predictor
from viscera.engine.temperature import Calibration, Sample, may_be, nll, write_calibration
from viscera.imaging.most_probable import OnPlane
from viscera.imaging.probabilities import tempered
from viscera.io.runlog import RunFolder
from viscera.io.store import Store


def test_what_a_voxel_may_be_and_how_likely_that_is_by_hand() -> None:
    # classes 0, 1, 2, of which the case does not label 2: background may be 0 or 2
    truth = may_be(np.array([[0, 1]], dtype=np.uint8), np.array([True, True, False]))
    assert truth[:, 0].T.tolist() == [[True, False, True], [False, True, False]]
    ignored = may_be(np.array([[255]], dtype=np.uint8), np.array([True, True, False]))
    sample = Sample(1.0)
    sample.add(torch.full((3, 1, 1), 1 / 3), ignored)
    assert not ignored.any()
    assert len(sample) == 0
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]))
    expected = [-math.log(0.7), -math.log(0.3)]
    assert nll(logits, truth[:, 0].T).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_network_that_is_too_sure_by_a_factor_gets_that_factor(temperature: float) -> None:
    """Labels drawn from softmax(z); a network that says softmax(T z) is calibrated by the temperature T."""
    random = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4, 200, 200, generator=random)
    honest = torch.softmax(logits, dim=0)
    labels = torch.multinomial(honest.flatten(1).T, 1, generator=random).reshape(200, 200).numpy().astype(np.uint8)
    said, truth = torch.softmax(temperature * logits, dim=0), may_be(labels, np.ones(4, dtype=np.bool_))
    sample = Sample(share=0.5)
    sample.add(said, truth)
    assert 18_000 < len(sample) < 22_000
    found = sample.temperature()
    assert found == pytest.approx(temperature, rel=0.03)
    before, after = sample.fit(1.0), sample.fit(found)
    assert after.ece < 0.015
    assert after.nll <= before.nll
    assert before.ece > 0.05 or temperature == 1
    of_all = nll(torch.log(said.flatten(1).T), truth.flatten(1).T).mean()
    assert before.nll == pytest.approx(float(of_all), rel=0.02)


def calibrate_by_hand(run: Path, temperature: float, sha256: str) -> None:
    known = {"nll_before": 1, "nll_after": 1, "ece_before": 0, "ece_after": 0, "voxels": 1, "fitted_on": 1}
    of = {"cases": 1, "store_fingerprint": "", "predict": PredictConfig(), "viscera": "1"}
    levels = {"least_confidence": 0.25, "most_entropy": {"liver": 0.5}}
    calibration = Calibration.model_validate({"sha256": sha256, "temperature": temperature, **known, **of, **levels})
    write_calibration(RunFolder(run), "last", calibration)


@pytest.mark.parametrize("restore", ["probabilities", "labels"])
def test_label_maps_stay_and_probabilities_are_those_at_the_temperature(
    tiny_run: Path, tiny_store: Store, tmp_path: Path, restore: str
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = PredictConfig.model_validate({"restore": restore, "grid": "spacing"})
    before = Predictor.load(run, config)
    calibrate_by_hand(run, 3.0, before.checksum)
    after, volume = Predictor.load(run, config), tiny_store.volume("case_0")
    maps, given = [], []
    for predictor in (before, after):
        planes = list[torch.Tensor]()
        keep: OnPlane = lambda plane, _, to=planes: to.append(plane)  # type: ignore[misc] # noqa: E731
        maps.append(predictor.segment_view(predictor.view(volume), keep))
        given.append(planes)
    np.testing.assert_array_equal(maps[0].label_map.labels, maps[1].label_map.labels)
    for plain, calibrated in zip(*given, strict=True):
        torch.testing.assert_close(calibrated, tempered(plain, 3.0))
    plain_sure, plain_entropy, sure, undecided = (
        np.array(each, dtype=float) for found in maps for each in (found.confidence, found.entropy)
    )
    organs = ~np.isnan(plain_sure)
    assert organs.any()
    assert (sure < plain_sure)[organs].all()
    assert (undecided > plain_entropy)[organs].all()
    assert (after.training.least_confidence, after.training.most_entropy) == (0.25, {"liver": 0.5})
    assert after.training.organs == before.training.organs
    assert (before.provenance["temperature"], after.provenance["temperature"]) == (None, 3.0)


def test_that_of_an_earlier_state_is_not_used(tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    calibrate_by_hand(run, 3.0, "0" * 64)
    with caplog.at_level(logging.WARNING):
        predictor = Predictor.load(run)
    assert "made for an earlier state of last.pt, and not used" in caplog.text
    assert predictor.provenance["temperature"] is None


def test_other_settings_than_those_it_was_fitted_with_are_said(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    calibrate_by_hand(run, 3.0, Predictor.load(run).checksum)
    without_part = PredictConfig.model_validate({"batch_windows": 1, "cleanup": {"largest_component": ["all"]}})
    with caplog.at_level(logging.WARNING, logger="viscera.engine.temperature"):
        assert Predictor.load(run, without_part).provenance["temperature"] == 3
        assert caplog.text == ""
        assert Predictor.load(run, PredictConfig(mirror_axes=("R",))).provenance["temperature"] == 3
    assert "fitted to predictions with other settings, predict.mirror_axes none (now R)" in caplog.text


def test_each_model_of_a_mean_has_its_own_temperature(tiny_run: Path, tmp_path: Path) -> None:
    x = torch.randn(1, 2, 3, 3, 3)
    mean = MeanOfNetworks([torch.nn.Identity(), torch.nn.Identity()], [(1, 0), (2, 0)], [1.0, 4.0])
    expected = (torch.softmax(x, dim=1) + torch.softmax(2 * x / 4, dim=1)) / 2
    torch.testing.assert_close(torch.softmax(mean(x), dim=1), expected)
    for name in "ab":
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
    calibrate_by_hand(tmp_path / "runs" / "b", 2.0, Predictor.load(tiny_run).checksum)
    both = Predictor.load(tmp_path / "runs")
    (model,) = both.models.values()
    assert isinstance(model.network, MeanOfNetworks)
    assert model.network.temperatures == (1.0, 2.0)
    assert model.temperature == 1
    assert [each.get("temperature") for each in both.provenance["models"].values()] == [None, 2.0]
