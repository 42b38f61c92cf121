"""Label maps as they lie in a folder, read without viscera; and an axial series of given HU."""

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom

from tests.ct_series import ct_series, save


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def rows_of(table: Path) -> dict[tuple[str, str], dict[str, str]]:
    with table.open(newline="") as file:
        return {(row["case"], row["organ"]): row for row in csv.DictReader(file)}


def axial_series(hu: np.ndarray, **tags: Any) -> list[pydicom.Dataset]:
    """HU (I, J, K), I to the right, J to the front, as an axial series: to the left and to the back."""
    stored = (hu[::-1, ::-1].transpose(2, 1, 0) + 1024).astype(np.uint16)
    return ct_series(stored, PixelSpacing=[2.1, 2], **tags)


def save_axial(folder: Path, hu: np.ndarray, **tags: Any) -> Path:
    return save(folder, axial_series(hu, **tags))
