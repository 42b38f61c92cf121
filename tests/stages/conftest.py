"""Runs whose network is an exact function of HU, and predictions that are nearly the truth."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.layout_examples import save_labels
from tests.oriented_scans import exact_run
from viscera.core.config import PrepareConfig
from viscera.io.store import Store
from viscera.stages.prepare import prepare


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


@pytest.fixture(scope="session")
def halved_store(tiny_raw: Path) -> Store:
    """The cases of `tiny_raw` at half their size; to read only."""
    return prepare(tiny_raw, tiny_raw.parent / "halved", PrepareConfig(downsample=2))
