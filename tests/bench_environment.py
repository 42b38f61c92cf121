"""Scripts in `.venv-bench`, where nnU-Net and MONAI are (make install-bench)."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = Path(os.environ.get("VISCERA_BENCH", ROOT / ".venv-bench")) / "bin"
PYTHON = BENCH / "python"

needs_nnunet = pytest.mark.skipif(not PYTHON.exists(), reason=f"no nnU-Net at {PYTHON}: make install-bench")


def lines_of(script: str, *arguments: object, **variables: str) -> list[str]:
    """What a script of that Python prints, with our package beside theirs; `variables` of the environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [str(PYTHON), "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()
