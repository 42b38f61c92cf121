"""Where Ray is not installed, its options say so before anything is done."""

import subprocess
import sys
from pathlib import Path

import pytest

from viscera.io.store import Store


@pytest.mark.parametrize("command", ["study", "predict", "prepare", "check"])
def test_without_ray_there_is_a_sentence(tiny_store: Store, tmp_path: Path, command: str) -> None:
    program = "import sys; sys.modules['ray'] = None; from viscera.cli import main; main()"
    store = str(tiny_store.path)
    artifacts = {"predict": [store, "scans", "s"], "check": [store, "--out", "s"]}.get(command, [store, "s"])
    done = subprocess.run(
        [sys.executable, "-c", program, command, *artifacts, "--launcher", "ray"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Ray is not installed: pip install 'viscera[ray]', on all nodes." in done.stderr
    assert not (tmp_path / "s").exists()
