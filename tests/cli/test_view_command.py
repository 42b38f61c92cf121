"""`viscera view` from the command line: its address, its end, and what it needs."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import refused


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), path)
    return path


def test_it_prints_an_address_serves_it_and_ends_with_ctrl_c(scan: Path) -> None:
    pytest.importorskip("starlette", reason="needs starlette: pip install 'viscera[view]'")
    command = [sys.executable, "-m", "viscera", "view", str(scan), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(url + "api/cases/0/scan", timeout=30) as answer:  # noqa: S310 - of our own
                assert len(answer.read()) == 352 + 2 * 4 * 5 * 6
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)


def test_without_the_extra_it_says_what_to_install(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("starlette", "viscera.view"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert refused(3, "view", scan, "--no-browser").endswith("pip install 'viscera[view]'.")


def test_what_is_not_there_and_what_does_not_go_together(tmp_path: Path, scan: Path) -> None:
    pytest.importorskip("starlette", reason="needs starlette: pip install 'viscera[view]'")
    assert "there is no such file or folder" in refused(3, "view", tmp_path / "missing", "--no-browser")
    assert "it goes with label maps" in refused(2, "view", scan, "--scans", scan, "--no-browser")
