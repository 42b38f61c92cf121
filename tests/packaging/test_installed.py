"""The wheel in an empty environment: its commands run the journey of the demo, tiny and away from the checkout."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.packaging_build import ROOT, built_wheel

pytestmark = pytest.mark.slow
TINY = ["--iterations", "4", "--patch", "16", "--filters", "2", "--batch-size", "2", "--jobs", "1"]
TINY += ["--set", "train.levels=2", "--set", "train.monitor_windows=2"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    wheel = built_wheel(folder / "source")
    install = [programs / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    done = subprocess.run(list(map(str, install)), capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution found" in done.stderr:
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr
    return programs


def test_the_journey_of_the_demo(environment: Path, tmp_path: Path) -> None:
    def viscera(*arguments: object) -> str:
        command = [str(environment / "viscera"), *map(str, arguments)]
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    viscera("phantom", "data", "--cases", 5, "--shape", 32, 24, 24)
    viscera("prepare", "data", "store", "--downsample", 1, "--test-fraction", 0.2)
    viscera("study", "store", "study", "--preset", "demo", "--learning-rates", 0.01, *TINY)
    assert "Table 1" in (tmp_path / "study" / "report" / "index.html").read_text(encoding="utf-8")
    run = "study/arms/uniform_lr0.01/seed_0"
    viscera("predict", run, "data/imagesTr", "predictions")
    viscera("evaluate", "predictions", "data")
    viscera("export", run, "exported", "--to", "slicer,monai-bundle")
    assert (tmp_path / "exported" / "monai-bundle" / "models" / "model.ts").exists()
    assert "viscera" in viscera("--version")
