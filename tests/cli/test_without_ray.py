"""Where Ray is not installed, its options say so before anything is done."""

import subprocess
import sys
from pathlib import Path

import pytest

from viscera.io.store import Store


@pytest.mark.parametrize("command", ["study", "predict", "prepare"])
def test_without_ray_there_is_a_sentence(tiny_store: Store, tmp_path: Path, command: str) -> None:
    program = "import sys; sys.modules['ray'] = None; from viscera.cli import main; main()"
    artifacts = [str(tiny_store.path), "s"] if command != "predict" else [str(tiny_store.path), "scans", "s"]
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
