"""What every predictor promises, of one model or of several as one; and that each organ is judged by its own model."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import viscera
from tests.fused_folder import fused_folder
from viscera.core.config import Config, PredictConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.geometry import Geometry
from viscera.core.scan import Volume
from viscera.engine import trained_model as module
from viscera.engine.predictor import Predictor
from viscera.engine.trained_model import Model
from viscera.engine.trust import OrganRange, TrainingRanges, save_ranges
from viscera.imaging.resample import GridChange
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.files import sha256
from viscera.io.store import Store
from viscera.stages.train import train

Load = Callable[..., Predictor]
SPACING_MM = (2.0, 2.0, 2.5)


def scan(shape: tuple[int, int, int] = (14, 12, 10), spacing_mm: tuple[float, float, float] = SPACING_MM) -> Volume:
    hu = np.random.default_rng(0).integers(-500, 500, shape).astype(np.int16)
    return Volume(hu, Geometry.from_spacing(shape, spacing_mm))


@pytest.fixture(scope="module")
def coarse_run(tiny_run: Path, tiny_store: Store, tiny_config: Callable[..., Config]) -> Path:
    """A run that was trained for 4 steps, as its checkpoint says on scans of 8 mm and on small livers."""
    run = tiny_run.parent / "coarse"
    train(tiny_store.path, run, tiny_config(iterations=4, seed=1))
    save_checkpoint(run / "last.pt", replace(load_checkpoint(run / "last.pt"), training_spacings_mm=((8, 8, 8),)))
    seen = OrganRange(3, 1.0, 0.0, (1.0, 2.0), None, 1)
    save_ranges(run / "training_ranges.json", TrainingRanges({"liver": seen, "spleen": seen}, 0.25))
    return run


@pytest.fixture(scope="module")
def two(tiny_run: Path, coarse_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The liver from `coarse_run`, all else from `tiny_run`."""
    runs = {"fine": tiny_run, "coarse": coarse_run}
    return fused_folder(tmp_path_factory.mktemp("fused") / "two", runs, {"liver": "coarse"})


@pytest.fixture(scope="module")
def folders(tiny_run: Path, two: Path) -> dict[str, Path]:
    return {"one": tiny_run, "fusion": two, "fusion of one": fused_folder(two.parent / "one", {"a": tiny_run}, {})}


@pytest.fixture(params=["one", "fusion", "fusion of one"])
def folder(folders: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    found: Path = folders[request.param]
    return found


# ------------------------------------------------------------------------------------------ the contract


@pytest.mark.parametrize("restore", ["probabilities", "labels"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 2), (8, 8, 8)])
def test_scans_of_any_size_are_answered_on_their_grid(folder: Path, restore: str, shape: tuple[int, int, int]) -> None:
    predictor = viscera.Predictor.load(folder, PredictConfig.model_validate({"restore": restore}))
    volume = scan(shape)
    answer = predictor(volume)
    assert answer.labels.dtype == np.uint8
    assert answer.labels.shape == shape
    assert answer.geometry is volume.geometry
    assert answer.labels.max() < len(predictor.classes) == 8
    assert np.array_equal(predictor(volume).labels, answer.labels)


def test_it_says_how_it_predicts_and_where_it_comes_from(folder: Path) -> None:
    config = PredictConfig(overlap=0.25)
    assert Predictor.load(folder).config == PredictConfig()
    predictor = Predictor.load(str(folder), config, "cpu")
    assert predictor.config == config
    said = json.loads(json.dumps(predictor.provenance))
    assert said == predictor.provenance
    assert said["settings"]["overlap"] == 0.25
    assert said["classes"] == list(predictor.classes.names)
    assert len(said["run_sha256"]) == 64


def test_a_segmentation_is_the_answer_with_how_sure_it_is(folder: Path) -> None:
    predictor = Predictor.load(folder)
    found = predictor.segment(scan())
    assert np.array_equal(found.label_map.labels, predictor(scan()).labels)
    assert len(found.confidence) == 8
    assert all(1 / 8 <= sure <= 1 for sure in found.confidence if sure is not None)


def test_of_a_prepared_scan_come_the_same_labels_as_of_the_scan(folder: Path) -> None:
    predictor = Predictor.load(folder, PredictConfig(grid="prepared"))
    change = GridChange.by_factor(scan().geometry, (1, 1, 1))
    prepared = predictor.segment_prepared(scan().hu, change)
    whole = predictor.segment(scan())
    if folder.name != "two":  # whose other model was not trained on scans of this size
        assert prepared.unlike == whole.unlike == frozenset()
    assert np.array_equal(prepared.label_map.labels, whole.label_map.labels)
    assert prepared.confidence == whole.confidence


def test_running_out_of_memory_says_what_to_lower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "probability_planes", greedy)
    with pytest.raises(RunFailedError, match=r"out of memory .*predict\.batch_windows 1 takes least"):
        Predictor.load(folder)(scan())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_no_background(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def broken(*_args: object) -> Iterator[Tensor]:
        return iter(torch.full((8, 6, 5, 4), value).unbind(-1))

    monkeypatch.setattr(module, "probability_planes", broken)
    with pytest.raises(RunFailedError, match="not finite"):
        Predictor.load(folder, PredictConfig(grid="prepared"))(scan((6, 5, 4)))


def test_it_is_cleaned_up_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_livers(*_arguments: object) -> Iterator[Tensor]:
        probabilities = torch.zeros(8, 6, 5, 4)
        probabilities[0] = 0.4
        probabilities[3, 0:2, 0, 0] = probabilities[3, 5, 4, 3] = 0.6
        return iter(probabilities.unbind(-1))

    monkeypatch.setattr(module, "probability_planes", two_livers)
    config = PredictConfig.model_validate({"cleanup": {"largest_component": ["all"]}, "grid": "prepared"})
    found = Predictor.load(folder, config, "cpu")(scan((6, 5, 4))).labels
    assert np.argwhere(found).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_a_missing_or_changed_file_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with pytest.raises(BadInputError, match="there is no such checkpoint"):
        Predictor.load(copy)
    with pytest.raises(BadInputError, match=r"predict\.cleanup\.fill_holes: there is no kidney"):
        Predictor.load(folder, PredictConfig.model_validate({"cleanup": {"fill_holes": ["kidney"]}}))


# ------------------------------------------------------------------------------------------ each organ by its own model


def test_a_fusion_of_one_model_is_that_model(folders: dict[str, Path]) -> None:
    assert np.array_equal(
        Predictor.load(folders["fusion of one"])(scan()).labels, Predictor.load(folders["one"])(scan()).labels
    )


def test_what_is_unlike_is_said_of_the_organs_whose_model_finds_it_so(two: Path) -> None:
    predictor = Predictor.load(two)
    like_the_first, like_none = scan().geometry, scan(spacing_mm=(3.5, 3.5, 3.5)).geometry
    assert predictor.is_unlike(like_the_first)  # although the first organ's model does not find it so
    assert predictor.segment(scan()).unlike == {"liver"}
    assert predictor.is_unlike(like_none)
    assert predictor.segment(scan(spacing_mm=(3.5, 3.5, 3.5))).unlike == set(predictor.classes.names[1:])


def test_each_model_sees_the_scan_on_its_own_grid(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    Predictor.load(two)(scan())
    assert [record.getMessage() for record in caplog.records] == [
        "The scan would come out at 2×2×2.5 mm, the model was trained at 8×8×8 mm: resampled to that instead."
    ]


def test_confidence_is_that_of_each_organs_own_model(two: Path, tiny_run: Path, coarse_run: Path) -> None:
    config = PredictConfig(grid="prepared")
    fused = Predictor.load(two, config).segment(scan()).confidence
    fine, coarse = (Predictor.load(run, config).segment(scan()).confidence for run in (tiny_run, coarse_run))
    liver = 3
    assert fused == tuple(coarse[label] if label == liver else fine[label] for label in range(8))


def test_the_ranges_are_those_of_each_organs_own_model(two: Path, tiny_run: Path) -> None:
    training, fine = Predictor.load(two).training, Predictor.load(tiny_run).training
    assert training.organs["liver"].volume_ml == (1.0, 2.0)
    assert training.sure_from("liver") == 0.25
    assert training.organs["spleen"] == fine.organs["spleen"]
    assert training.sure_from("spleen") == fine.sure_from("spleen")


def test_every_models_steps_and_checksum_are_recorded(two: Path, tiny_run: Path, coarse_run: Path) -> None:
    said = Predictor.load(two).provenance
    assert said["models"] == {
        "fine": {"step": 6, "sha256": sha256(tiny_run / "last.pt")},
        "coarse": {"step": 4, "sha256": sha256(coarse_run / "last.pt")},
    }
    assert said["step"] is None  # there is no one answer
    assert "models" not in Predictor.load(tiny_run).provenance


def test_the_models_are_in_evaluation_mode(two: Path) -> None:
    assert [model.network.training for model in Predictor.load(two).models.values()] == [False, False]
    assert isinstance(Predictor.load(two).models["coarse"], Model)
