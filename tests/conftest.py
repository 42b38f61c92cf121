"""One thread a test process: the tests run side by side."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("shared_machine", deadline=None)  # a slow moment of the machine is no failure
settings.load_profile("shared_machine")
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """Folder of real CT beside the checkout; tests that need it are skipped, and counted, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real CT at {REAL_DATA}")
    return REAL_DATA
