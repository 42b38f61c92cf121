"""One gallery of predictions with their references, one server, and one browser for all tests of the viewer."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from viscera.core.anatomy import ABDOMEN, CLASS_NAMES
from viscera.core.scan import OrganFacts
from viscera.io.nifti import read_labels, write_nifti
from viscera.io.predictions import Measured, PredictionFiles
from viscera.stages.phantom import make_phantoms
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

SCREENSHOTS = os.environ.get("VISCERA_SCREENSHOTS")  # folder for those of the documentation: of larger scans
SHAPE = (192, 160, 128) if SCREENSHOTS else (48, 40, 32)
WINDOW = (1440, 900) if SCREENSHOTS else (960, 640)  # CSS pixels: without a graphics card each costs time
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
    write_nifti(files.main, type(truth)(labels, truth.geometry))
    facts = {organ.name: OrganFacts(10.0 * organ.label, 50.0, False, 1, confidence=0.9) for organ in ABDOMEN.organs}
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
