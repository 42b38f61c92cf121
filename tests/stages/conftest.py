"""Runs whose network is an exact function of HU, and predictions that are nearly the truth; scans to predict."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.label_maps import save_axial
from tests.layout_examples import save_labels
from tests.oriented_scans import exact_run
from viscera.core.config import Config, PrepareConfig
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train


@pytest.fixture
def make_run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """As `oriented_scans.exact_run`, in the test's own folder."""
    return partial(exact_run, tiny_run, tmp_path / "run", monkeypatch)


@pytest.fixture
def answers(tiny_store: Store, tmp_path: Path) -> Path:
    """The truth as predictions of the test cases, with one organ taken out."""
    for name in tiny_store.names("test"):
        truth = tiny_store.original_labels(name)
        save_labels(
            tmp_path / "p" / f"{name}.nii.gz", np.where(truth.labels == 4, 0, truth.labels), truth.geometry.affine
        )
    return tmp_path / "p"


@pytest.fixture
def predictions(tiny_store: Store, tmp_path: Path) -> Path:
    """The truth of the training cases as predictions, one of them damaged."""
    folder = tmp_path / "p"
    folder.mkdir()
    names = tiny_store.names("train")
    for name in names:
        shutil.copy(tiny_store.original_labels_path(name), folder / f"{name}.nii.gz")
    damaged = folder / f"{names[1]}.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    return folder


@pytest.fixture(scope="session")
def halved_store(tiny_raw: Path) -> Store:
    """The cases of `tiny_raw` at half their size; to read only."""
    return prepare(tiny_raw, tiny_raw.parent / "halved", PrepareConfig(downsample=2))


@pytest.fixture
def scans(raw: Path) -> Path:
    """A folder of five scans, to spoil."""
    return raw / "imagesTr"


@pytest.fixture(scope="session")
def half_store(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny patients on a grid twice as coarse."""
    return prepare(tiny_raw, tmp_path_factory.mktemp("half") / "store", PrepareConfig(downsample=2, test_fraction=0.4))


@pytest.fixture(scope="session")
def half_run(half_store: Store, tiny_config: Callable[..., Config]) -> Path:
    """Trained on them long enough to tell the organs apart a little."""
    run = half_store.path.parent / "run"
    train(half_store.path, run, tiny_config(iterations=80, learning_rate=0.02, filters=4, batch_norm="recomputed"))
    return run


@pytest.fixture
def patient(tmp_path: Path, make_case: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Path:
    """A folder with one series of 15×11×9 voxels, in a folder of its own."""
    return save_axial(tmp_path / "patient_7" / "S1", make_case(3, (15, 11, 9))[0]).parent
