"""Several runs as one predictor: the mean of their probabilities, by whatever windows, and what cannot be averaged."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from viscera.card.mean_facts import MeanFacts
from viscera.core.anatomy import ClassTable
from viscera.core.config import Config, IntensityConfig
from viscera.core.errors import BadInputError
from viscera.engine.ensemble import MeanOfNetworks, mean_of
from viscera.engine.predictor import Predictor
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trained_model import Model
from viscera.engine.trust import OrganRange, TrainingRanges
from viscera.io.runlog import RunFolder, runs_in
from viscera.io.store import Store
from viscera.stages.calibrate import calibrate
from viscera.stages.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def seeds(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of two runs that differ in their seed."""
    folder = tmp_path_factory.mktemp("seeds")
    shutil.copytree(tiny_run, folder / "seed_0")
    train(tiny_store.path, folder / "seed_1", tiny_config(seed=1))
    return folder


def probabilities(model: Model, hu: np.ndarray) -> Tensor:
    return predict_probabilities(model.network, hu, model.trained_with.train, model.config, CPU)


def test_probabilities_are_the_mean_of_those_of_the_runs(seeds: Path) -> None:
    hu = np.random.default_rng(0).integers(-500, 500, (20, 18, 26)).astype(np.int16)
    (both,) = Predictor.load(seeds).models.values()
    each = [probabilities(one, hu) for run in runs_in(seeds) for one in Predictor.load(run).models.values()]
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    torch.testing.assert_close(probabilities(both, hu), (each[0] + each[1]) / 2, rtol=0, atol=1e-5)


def test_a_run_twice_is_that_run(tiny_run: Path, tiny_store: Store, tmp_path: Path) -> None:
    for name in "ab":
        shutil.copytree(tiny_run, tmp_path / name)
    twice, once = Predictor.load(tmp_path), Predictor.load(tiny_run)
    volume = tiny_store.volume("case_0")
    found, expected = twice.segment(volume), once.segment(volume)
    np.testing.assert_array_equal(found.label_map.labels, expected.label_map.labels)
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-6)
    checksum = once.checksum
    assert twice.checksum != checksum
    step = once.provenance["step"]
    assert twice.provenance["models"] == {name: {"step": step, "sha256": checksum} for name in "ab"}
    assert twice.training == TrainingRanges(
        once.training.organs, {organ: once.training.sure_from(organ) for organ in once.training.organs}
    )


class Given(nn.Module):
    """Keeps what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        self.register_buffer("x", x)
        return torch.zeros(x.shape[0], 2, *x.shape[2:])


def test_each_network_is_given_z_scores_of_its_own_training_set(seeds: Path) -> None:
    (first,), (second,) = (Predictor.load(run).models.values() for run in runs_in(seeds))
    moments = ((0.0, 100.0), (50.0, 50.0))

    def seen_with(model: Model, mean: float, sd: float) -> Model:
        intensity = IntensityConfig(scaling="z_score", mean_hu=mean, sd_hu=sd)
        settings = model.trained_with.train.model_copy(update={"intensity": intensity})
        config = model.trained_with.model_copy(update={"train": settings})
        return replace(model, network=Given(), checkpoint=replace(model.checkpoint, config=config))

    models = {str(n): seen_with(model, *moments[n]) for n, model in enumerate((first, second))}
    network: nn.Module = mean_of(models, seeds).network
    network(torch.tensor([-200.0, 100.0, 150.0]).div(100).reshape(1, 1, 1, 1, 3))
    given = [model.network.get_buffer("x").flatten().tolist() for model in models.values()]
    assert given == [[-2, 1, 1.5], [pytest.approx((hu - 50) / 50) for hu in (-200, 100, 150)]]


def test_certainty_stays_finite() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x * 0 + 1000, x * 0 - 1000], dim=1)

    logits = MeanOfNetworks([Sure(), Sure()], [(1, 0), (1, 0)])(torch.zeros(1, 1, 1, 1, 1))
    assert torch.softmax(logits, dim=1).flatten().tolist() == pytest.approx([1, 0])
    assert logits.isfinite().all()


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_networks_that_need_windows_of_training_have_them_in_a_mean_too(
    names: str, tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / names[0])
    train(tiny_store.path, tmp_path / names[1], tiny_config(iterations=1, network={"normalisation": "instance"}))
    assert Predictor.load(tmp_path).config.mode == "sub_volumes"


def test_a_run_that_is_not_finished_is_named_and_hidden_ones_are_passed_by(
    seeds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, run in {"a": "seed_0", "b": "seed_1", ".trash": "seed_0"}.items():
        shutil.copytree(seeds / run, tmp_path / name)
    assert [path.name for path in runs_in(tmp_path)] == ["a", "b"]
    Predictor.load(tmp_path)
    assert "this run is" not in caplog.text
    status = RunFolder(tmp_path / "b").read_status()
    assert status is not None
    for state, said in {"failed": "failed", "running": "running, or was killed"}.items():  # the step is written seldom
        RunFolder(tmp_path / "b").write_status(status.model_copy(update={"state": state, "step": 0}))
        for path in (tmp_path, tmp_path / "b"):
            caplog.clear()
            Predictor.load(path)
            assert f"b: this run is {said}, at step {status.step} of {status.iterations}; it predicts" in caplog.text


def test_a_run_without_weights_has_no_part_and_is_named(
    seeds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(seeds / "seed_0", tmp_path / "a")
    for name in ("b", ".hidden"):
        (tmp_path / name).mkdir()
        shutil.copy(seeds / "seed_0" / "config.yaml", tmp_path / name)
    for load in (Predictor.load, MeanFacts.read):
        caplog.clear()
        load(tmp_path)
        assert "b: this run has no weights yet, and no part in the mean of 1 run." in caplog.text
        assert ".hidden" not in caplog.text


def test_what_a_run_cannot_flag_is_said(tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    Predictor.load(run.path)
    assert "flagged" not in caplog.text
    run.training_ranges.unlink()  # as of one that was killed before its last checkpoint
    Predictor.load(run.path)
    assert "so no organ is flagged as doubtful, whatever it is like" in caplog.text


def test_a_mean_of_calibrated_and_other_runs_is_said(
    seeds: Path, tiny_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [Path(shutil.copytree(run, tmp_path / "mean" / run.name)) for run in runs_in(seeds)]
    for number, run in enumerate(runs):
        calibrate(run, tiny_store.path)
        caplog.clear()
        Predictor.load(run.parent)
        alone = f"of its 2 runs these alone are calibrated: {run.name}."
        assert (alone in caplog.text) == (number == 0)


def test_runs_that_cannot_be_averaged(
    seeds: Path, tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    shutil.copytree(seeds / "seed_0", tmp_path / "a")
    train(tiny_store.path, tmp_path / "b", tiny_config(patch=12, iterations=1))
    with pytest.raises(BadInputError, match=r"a and b cannot be one predictor: they see a scan differently, patch \d+"):
        Predictor.load(tmp_path)
    (one,) = Predictor.load(tmp_path / "a").models.values()
    other = replace(one, checkpoint=replace(one.checkpoint, classes=ClassTable.of_names(["background", "liver"])))
    with pytest.raises(BadInputError, match=r"they know background, artery.*, and background, liver\."):
        mean_of({"x": one, "y": other}, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"empty/last\.pt: there is no such checkpoint"):
        Predictor.load(tmp_path / "empty")


def test_ranges_are_all_that_any_run_saw() -> None:
    first = OrganRange(4, 1.0, 0.5, (10.0, 20.0), (30.0, 40.0), 1)
    second = OrganRange(3, 0.5, 0.0, None, (20.0, 35.0), 2)
    assert OrganRange.joined([first, second]) == OrganRange(4, 0.75, 0.25, (10.0, 20.0), (20.0, 40.0), 2)
    ranges = TrainingRanges.joined(
        [TrainingRanges({"liver": first}, 0.5), TrainingRanges({"liver": second, "spleen": second}, 0.7)]
    )
    assert ranges.organs["spleen"] == OrganRange.joined([second])
    assert ranges.sure_from("liver") == pytest.approx(0.6)
    assert ranges.sure_from("spleen") == pytest.approx(0.7)
