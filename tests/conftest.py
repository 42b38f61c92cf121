"""One thread a test process: the tests run side by side. And a tiny data set, store and run to share."""

import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings

from tests.object_store import server_and_wire, store_of_objects
from tests.warm_processes import processes_start_warm
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PrepareConfig
from viscera.core.resolve import resolve_config
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

__all__ = ["processes_start_warm", "server_and_wire", "store_of_objects"]  # fixtures
torch.set_num_threads(1)
settings.register_profile("shared_machine", deadline=None)  # a slow moment of the machine is no failure
settings.load_profile("shared_machine")
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
NOT_FOR_COVERAGE = {"journey", "oracle"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage counts what tests of single files run: a journey passes through most lines, and checks few of them."""
    for item in items:
        if item.path.parent.name in NOT_FOR_COVERAGE:
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """What was loaded so far stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def real_data() -> Path:
    """Folder of real CT beside the checkout; tests that need it are skipped, and counted, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real CT at {REAL_DATA}")
    return REAL_DATA


TINY_SHAPE = (14, 12, 10)
TINY_AFFINE = np.array([[2.0, 0, 0, -14], [0, 2.0, 0, -12], [0, 0, 2.5, -30], [0, 0, 0, 1]])  # RAS+
TINY_TRAINING: dict[str, Any] = {
    "iterations": 6,
    "patch": 8,
    "batch_size": 2,
    "filters": 2,
    "levels": 2,
    "device": "cpu",
    "checkpoint_every": 4,
    "log_every": 2,
    "validate_every": 3,
    "monitor_windows": 2,
}


def tiny_case(
    number: int, shape: tuple[int, int, int] = TINY_SHAPE
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """HU and labels of a patient: the seven organs as slabs along I, a little different in every patient."""
    labels = np.zeros(shape, dtype=np.uint8)
    thickness = shape[0] // 7
    for label in range(1, 8):
        first = (label - 1) * thickness
        labels[first : first + thickness, 1 + number % 3 : 8 + number % 4, 2 : 4 + label % 5] = label
    noise = np.random.default_rng(number).integers(-20, 20, shape)
    return (100 * labels.astype(np.int64) - 300 + noise).astype(np.int16), labels


def write_nnunet(
    folder: Path,
    cases: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    affine: npt.NDArray[np.float64] = TINY_AFFINE,
    names: dict[str, int] | None = None,
) -> Path:
    """Write cases (HU, labels) as an nnU-Net raw data set, with nibabel alone."""
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    (folder / "labelsTr").mkdir(exist_ok=True)
    names = names or {name: number for number, name in enumerate(CLASS_NAMES)}
    (folder / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz", "name": "tiny"}))
    for name, (hu, labels) in cases.items():
        nib.save(nib.Nifti1Image(hu, affine), folder / "imagesTr" / f"{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def make_nnunet() -> Callable[..., Path]:
    """`write_nnunet`."""
    return write_nnunet


@pytest.fixture(scope="session")
def make_case() -> Callable[..., tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]]:
    """`tiny_case`."""
    return tiny_case


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A fresh data set of five tiny patients, to spoil."""
    return write_nnunet(tmp_path / "raw", {f"case_{n}": tiny_case(n) for n in range(5)})


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of six tiny patients, to read only."""
    folder = tmp_path_factory.mktemp("tiny") / "raw"
    return write_nnunet(folder, {f"case_{n}": tiny_case(n) for n in range(6)})


@pytest.fixture(scope="session")
def tiny_store(tiny_raw: Path) -> Store:
    """Four training, one validation, one test case on the scans' own grid; to read only."""
    config = PrepareConfig(downsample=1, test_fraction=0.2, validation_fraction=0.2)
    return prepare(tiny_raw, tiny_raw.parent / "store", config)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """Settings under which training takes well below a second; keywords replace those of `train`."""

    def configure(**train_settings: object) -> Config:
        return resolve_config(file_values={"train": TINY_TRAINING | train_settings})

    return configure


@pytest.fixture(scope="session")
def tiny_run(tiny_store: Store, tiny_config: Callable[..., Config]) -> Path:
    """A finished Run on `tiny_store`; to read only."""
    run = tiny_store.path.parent / "run"
    train(tiny_store.path, run, tiny_config())
    return run


@pytest.fixture(scope="session")
def losses_page() -> Callable[[str], list[str]]:
    """The code blocks of `docs/howto/losses.md` in one language, in their order."""
    page = (Path(__file__).parents[1] / "docs" / "howto" / "losses.md").read_text(encoding="utf-8")
    return lambda language: re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
