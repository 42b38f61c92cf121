"""Runs whose network is an exact function of HU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.oriented_scans import exact_run


@pytest.fixture
def make_run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """As `oriented_scans.exact_run`, in the test's own folder."""
    return partial(exact_run, tiny_run, tmp_path / "run", monkeypatch)
