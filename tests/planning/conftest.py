"""A store whose scans are large enough for several sizes of window, on a grid twice as coarse as theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.config import PrepareConfig
from viscera.io.store import Store
from viscera.stages.prepare import prepare

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def roomy_raw(tmp_path_factory: pytest.TempPathFactory, make_nnunet: Make, make_case: Callable[..., object]) -> Path:
    """Four patients of 42×40×40 voxels of 2×2×2.5 mm."""
    cases = {f"c{n}": make_case(n, (42, 40, 40)) for n in range(4)}
    return make_nnunet(tmp_path_factory.mktemp("roomy") / "raw", cases)


@pytest.fixture(scope="session")
def roomy_store(roomy_raw: Path) -> Store:
    """Three training cases and one for validation, as they are; to read only."""
    config = PrepareConfig(downsample=1, test_fraction=0, validation_fraction=0.25)
    return prepare(roomy_raw, roomy_raw.parent / "store", config)
