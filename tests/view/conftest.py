"""One gallery of predictions with their references, one server, and one browser for all tests of the viewer."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import arms_of
from viscera.core.config import EvaluateConfig, PrepareConfig
from viscera.core.resolve import resolve_config
from viscera.core.scan import LabelMap
from viscera.io.nifti import read_labels, read_volume, write_nifti
from viscera.io.predictions import Measured, PredictionFiles
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.metrics.organ_facts import organ_facts
from viscera.stages.evaluate import evaluate
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

SCREENSHOTS = os.environ.get("VISCERA_SCREENSHOTS")  # folder for those of the documentation: of larger scans
SHAPE = (192, 160, 128) if SCREENSHOTS else (48, 40, 32)
WINDOW = (1440, 900) if SCREENSHOTS else (720, 480)  # CSS pixels: without a graphics card each costs time
WITHOUT = "needs starlette and uvicorn: pip install 'viscera[view]'"
NAMES = ("phantom_000", "phantom_001")


def _mistaken(path: Path, out: Path, number: int) -> None:
    """A prediction with mistakes that are known: the liver lies one voxel aside, there is no gallbladder."""
    truth = read_labels(path)
    labels = truth.labels.copy()
    aside = np.roll(truth.labels == 3, 1, axis=0)
    labels[labels == 3] = 0
    labels[aside & (labels == 0)] = 3
    labels[labels == 6] = 0
    files = PredictionFiles.of(out, path.name.removesuffix(".nii.gz"), ["nifti"])
    write_nifti(files.main, LabelMap(labels, truth.geometry))
    scan = read_volume(path.parents[1] / "imagesTr" / f"{path.name.removesuffix('.nii.gz')}_0000.nii.gz")
    facts = organ_facts(scan, LabelMap(labels, truth.geometry), confidence_L=[0.9] * len(CLASS_NAMES))
    reasons = {"gallbladder": ("not found",)} if number == 0 else {}
    measured = {name: Measured(each, reasons.get(name, ())) for name, each in facts.items()}
    provenance = {"run_sha256": "0" * 64, "classes": list(CLASS_NAMES), "input": "x", "input_sha256": "1" * 64}
    files.write({files.main: files.main.read_bytes()}, provenance, measured)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms in nnU-Net's raw layout."""
    folder = tmp_path_factory.mktemp("view") / "data"
    make_phantoms(folder, 2, shape=SHAPE)
    return folder


@pytest.fixture(scope="session")
def predicted(phantoms: Path) -> Path:
    """Their predictions; the gallbladder of the first is flagged."""
    out = phantoms.parent / "predictions"
    for number, name in enumerate(reversed(NAMES)):  # the flagged one is not the first by name
        _mistaken(phantoms / "labelsTr" / f"{name}.nii.gz", out, number)
    return out


@pytest.fixture(scope="session")
def study(phantoms: Path, predicted: Path) -> Path:
    """A study of three arms with the test case's predictions, each with other mistakes, and their scores."""
    store = prepare(phantoms, phantoms.parent / "store", PrepareConfig(downsample=1, test_fraction=0.5))
    (name,) = store.names("test")
    folder = StudyFolder(phantoms.parent / "study")
    config = resolve_config(file_values={"study": {"learning_rates": [0.001], "seeds": [0]}})
    folder.path.mkdir()
    folder.write_record(StudyRecord(version="1", store=str(store.path), dataset="phantom", config=config))
    for arm, lost in zip(arms_of(config.study), ((), (4,), (3, 5)), strict=True):
        run = folder.run(arm, 0)
        run.predictions.mkdir(parents=True)
        found = read_labels(predicted / f"{name}.nii.gz")
        labels = np.where(np.isin(found.labels, lost), 0, found.labels).astype(np.uint8)
        write_nifti(run.predictions / f"{name}.nii.gz", LabelMap(labels, found.geometry))
        evaluate(run.predictions, store.path, run.scores, EvaluateConfig(metrics=("dice",), grid="original"))
    return folder.path


@pytest.fixture(scope="session")
def server(phantoms: Path, predicted: Path) -> Iterator[Any]:
    """Predictions and references, served: a `ViewServer`."""
    module = pytest.importorskip("viscera.view.view_server", reason=WITHOUT)
    with module.ViewServer(open_gallery(predicted, Beside(references=phantoms))).running() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser, `tests.chromium.Browser`; tests that need it are skipped, and counted, where it is missing."""
    module = pytest.importorskip("tests.chromium", reason="needs websockets: make install")
    if module.CHROMIUM is None:
        pytest.skip("needs Debian's `chromium` on PATH: apt-get install chromium")
    with module.browser(tmp_path_factory.mktemp("chromium") / "profile") as started:
        yield started


@pytest.fixture(scope="session")
def window() -> tuple[int, int]:
    """Width and height of the browser's window."""
    return WINDOW


@pytest.fixture(scope="session")
def page(chromium: Any, server: Any) -> Iterator[Any]:
    """The viewer's page with the first case on it."""
    with chromium.page() as opened:
        opened.size(*WINDOW)
        opened.open(server.url, "window.viewer && viewer.state.ready")
        yield opened


@pytest.fixture(scope="session")
def keep_screenshot() -> Callable[[Any, str], None]:
    """Writes what a page shows for the documentation, where that is asked for."""

    def keep(shown: Any, name: str) -> None:
        if SCREENSHOTS:
            (Path(SCREENSHOTS) / f"{name}.png").write_bytes(shown.screenshot())

    return keep


@pytest.fixture
def save_scan() -> Callable[[Path, np.ndarray, np.ndarray], Path]:
    """Writes a NIfTI file with nibabel alone."""

    def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    return save
