"""The notebooks of examples/notebooks are run, cell by cell, in IPython; the cell of parameters with smaller ones."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
SMALL = {
    "study_in_ten_minutes": 'CASES, STEPS, SHAPE, WEIGHTINGS, RATES = 6, 4, "32 24 24", "uniform", "0.01"',
    "loss_in_your_own_loop": "STEPS = 12",
}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def shown(shell: Any, name: str) -> list[str]:
    """What each cell of code shows, as HTML where there is some, else as text."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # committed without
            code = "".join(cell["source"])
            is_parameters = "parameters" in cell["metadata"].get("tags", ())
            done = shell.run_cell(f"{code}\n{SMALL[name]}" if is_parameters else code)
            done.raise_error()
            assert shell.user_ns.get("_exit_code", 0) == 0, code
            data, _ = shell.display_formatter.format(done.result)
            found.append(data.get("text/html", data.get("text/plain", "")))
    return found


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


def test_the_study_in_ten_minutes(shell: Any) -> None:
    cells = shown(shell, "study_in_ten_minutes")
    assert "training voxels" in cells[1]
    assert "CT scan, 32×24×24 voxels" in cells[2]
    assert "1 of 1 model finished and scored" in cells[4]
    assert "step 4 of 4" in cells[5]
    assert "Label map" in cells[6]
    assert "'liver'" in cells[7]
    assert Path("ten-minutes/study/report/index.html").exists()


def test_the_loss_in_your_own_loop(shell: Any) -> None:
    shown(shell, "loss_in_your_own_loop")
    for _, losses in shell.user_ns["found"].values():
        assert losses[-1] < losses[0] - 0.1
