"""What earlier releases wrote is read, for ever: their artifacts lie in `tests/fixtures_*`, with what they computed.

How a release adds its own: docs/decisions/0048-artifacts-of-releases.md.
"""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.command_line import run as call
from tests.same_checkpoints import same_state
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import describe_hardware
from viscera.io.checkpoint import load_checkpoint
from viscera.io.nifti import read_labels
from viscera.io.records import read_yaml
from viscera.io.runlog import RunFolder
from viscera.io.scores import read_scores
from viscera.stages.predict import predict
from viscera.stages.train import train
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

RELEASES = sorted(Path(__file__).parents[1].glob("fixtures_*/artifacts.tar.xz"))
MOST_BYTES = 300_000
VERIFIED = ("store", "run", "interrupted", "predictions", "study", "scores.csv")
Artifacts = Callable[[], Path]


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.parent.name.removeprefix("fixtures_"))
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts of a release; to read only."""
    folder = tmp_path_factory.mktemp("release")
    assert request.param.stat().st_size <= MOST_BYTES
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


def computed_here(run: Path) -> bool:
    """Whether a run was trained on a processor, and by a PyTorch, that compute to the same bits as these."""
    status = json.loads((run / "run.json").read_text(encoding="utf-8"))
    here = describe_hardware(torch.device("cpu")), torch.__version__
    return (status["hardware"], status["versions"]["torch"]) == here


def test_the_first_release_is_among_them() -> None:
    assert [path.parent.name for path in RELEASES][:1] == ["fixtures_0_1"]


def test_every_artifact_is_sound(release: Path) -> None:
    for name in VERIFIED:
        result = call("verify", release / name)
        assert result.exit_code == 0, result.output
        assert f"{name}: sound" in result.output


def test_an_interrupted_training_goes_on_to_what_the_release_came_to(release: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(release / "interrupted", tmp_path / "run"))
    begun, whole = load_checkpoint(run.last).step, RunFolder(release / "run")
    config = resolve_config(file_values=read_yaml(release / "settings.yaml"))
    train(release / "store", run.path, config, resume=True)
    found, expected = load_checkpoint(run.last), load_checkpoint(whole.last)
    assert begun < found.step == expected.step
    for name, tensor in expected.average.items():
        torch.testing.assert_close(found.average[name], tensor, rtol=0.01, atol=0.001)
    if computed_here(whole.path):
        assert same_state(run.last, whole.last)
        assert same_state(run.best, whole.best)
        assert [line["loss"] for line in run.read_curve()] == [line["loss"] for line in whole.read_curve()]


def test_its_model_predicts_what_the_release_predicted(release: Path, tmp_path: Path) -> None:
    made = predict(release / "run", release / "data" / "imagesTr", tmp_path)
    assert {path.name for path in made} == {path.name for path in (release / "predictions").glob("*.nii.gz")}
    for path in made:
        found, expected = read_labels(path), read_labels(release / "predictions" / path.name)
        assert found.geometry.same_grid(expected.geometry)
        assert np.mean(found.labels != expected.labels) < (1e-9 if computed_here(release / "run") else 1e-3)
    assert any(np.any(read_labels(path).labels == 3) for path in made)  # it has learnt where the liver is


def test_its_predictions_have_the_scores_that_the_release_gave_them(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    assert call("evaluate", release / "predictions", release / "data" / "labelsTr", "--out", out).exit_code == 0
    assert read_scores(out) == read_scores(release / "scores.csv")


def test_its_study_is_reported_and_shown(release: Path, tmp_path: Path) -> None:
    study = shutil.copytree(release / "study", tmp_path / "study")
    assert call("report", study).exit_code == 0
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    assert "uniform" in page
    assert "square" in page
    shown = {name: open_gallery(release / name) for name in ("store", "predictions", "data")}
    shown["study"] = open_gallery(study, Beside(scans=release / "store"))
    assert {name: gallery.kind for name, gallery in shown.items()} == {
        "store": "store",
        "predictions": "predictions",
        "data": "data set",
        "study": "study",
    }
    for name, gallery in shown.items():
        assert all(layer.read().labels.size for case in gallery.cases for layer in case.layers), name
