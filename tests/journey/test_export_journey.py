"""A model that leaves home: exported, it finds in phantoms and real scans what `viscera predict` finds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.io.nifti import read_labels

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
MOST_DIFFERING = 1e-3  # share of the voxels


@pytest.fixture(scope="module")
def trained(viscera: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantoms, and a run that knows large organs of them."""
    folder = tmp_path_factory.mktemp("trained")
    viscera("phantom", folder / "raw", "--cases", 4, "--shape", 64, 56, 48)
    viscera("prepare", folder / "raw", folder / "store", "--downsample", 2, "--test-fraction", 0)
    settings = ("--preset", "demo", "--patch", 16, "--iterations", 60, "--learning-rate", 0.01)
    viscera("train", folder / "store", folder / "run", *settings, "--set", "train.precision=float32")
    viscera("export", folder / "run", folder / "out", "--to", "onnx")
    return folder


def assert_alike(viscera: Callable[..., str], trained: Path, scan: Path, work: Path) -> None:
    viscera("predict", trained / "run", scan, work / "theirs.nii.gz", "--device", "cpu")
    command = [sys.executable, trained / "out" / "segment.py", scan, work / "ours.nii.gz", "--threads", "1"]
    subprocess.run(list(map(str, command)), check=True)
    theirs, ours = (read_labels(work / f"{each}.nii.gz") for each in ("theirs", "ours"))
    assert ours.geometry.same_grid(theirs.geometry)
    assert (ours.labels != theirs.labels).mean() <= MOST_DIFFERING
    assert len(np.unique(theirs.labels)) > 2


def test_on_a_phantom(viscera: Callable[..., str], trained: Path, tmp_path: Path) -> None:
    assert_alike(viscera, trained, trained / "raw" / "imagesTr" / "phantom_000_0000.nii.gz", tmp_path)


@pytest.mark.parametrize("name", ["ts_example", "lidc0001", "ts_slab", "lidc_full"])
def test_on_real_scans(viscera: Callable[..., str], trained: Path, real_data: Path, tmp_path: Path, name: str) -> None:
    """Its labels mean nothing there, as it saw phantoms alone; they are the same."""
    scan = real_data / "nnunet_real" / "imagesTr" / f"{name}_0000.nii.gz"
    assert_alike(viscera, trained, scan if scan.exists() else real_data / name / "ct.nii.gz", tmp_path)
