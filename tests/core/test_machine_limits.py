"""By Python's own modules, and by psutil where these are not there."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from viscera.core import machine_limits
from viscera.core.machine_limits import available_memory, machine_memory, most_open_files, peak_memory

NO_STATUS = Path("no-proc")
PSUTIL = SimpleNamespace(
    virtual_memory=lambda: SimpleNamespace(total=16e9, available=9e9),
    Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1e8, peak_wset=3e8)),
)


def test_here_by_the_system() -> None:
    assert 2**28 < machine_memory() < 2**50
    assert 2**24 < peak_memory() < machine_memory()
    assert 2**24 < peak_memory(NO_STATUS) < machine_memory()
    assert most_open_files() >= 64


def test_the_peak_is_not_that_of_the_process_that_started_it() -> None:
    """As after a training of many arms, or in a suite: the parent is larger than what it starts."""
    measure = [sys.executable, "-c", "from viscera.core.machine_limits import peak_memory; print(peak_memory())"]
    held = bytearray(b"1") * 2**28
    done = subprocess.run(measure, capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < len(held)


def test_where_there_is_no_limit_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = SimpleNamespace(RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda _: (-1, -1))
    monkeypatch.setitem(sys.modules, "resource", unlimited)
    assert most_open_files() == math.inf


def test_elsewhere_by_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", PSUTIL)
    assert (machine_memory(), available_memory(), peak_memory(NO_STATUS)) == (16e9, 9e9, 3e8)
    assert most_open_files() == machine_limits._OPEN_FILES_ELSEWHERE


def test_elsewhere_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    for name in ("resource", "psutil"):
        monkeypatch.setitem(sys.modules, name, None)
    assert (machine_memory(), available_memory(), peak_memory(NO_STATUS)) == (math.inf, None, 0.0)


def test_psutil_says_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil", reason="psutil is a dependency on Windows alone")
    expected = machine_memory()
    monkeypatch.delattr(os, "sysconf")
    assert machine_memory() == pytest.approx(expected, rel=0.01)
