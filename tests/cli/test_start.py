"""What is loaded before there is work: `import viscera`, `viscera --help` and the help of a command are to be quick."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# a tenth of a second and more each, or what they bring along
SLOW = ["matplotlib", "monai", "nibabel", "numpy", "pandas", "pydicom", "rich", "scipy", "torch"]


CALL = """
from viscera.cli import main
sys.argv = ["viscera", *{}]
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def loaded_by(program: str, packages: Sequence[str] = SLOW) -> list[str]:
    """Which of these packages a program of its own has loaded when it ends."""
    program = f"import sys\n{program}\nprint([each for each in {packages} if each in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = done.stderr.strip().splitlines()[-1]
    return found.strip("[]").replace("'", "").split(", ") if found != "[]" else []


def test_importing_the_library_loads_nothing_slow_nor_the_configuration() -> None:
    assert loaded_by("import viscera; assert 'pydantic' not in sys.modules") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["study", "--help"]])
def test_help_and_version_load_nothing_slow(arguments: list[str]) -> None:
    assert loaded_by(CALL.format(arguments)) == []


def test_the_list_of_commands_needs_no_configuration() -> None:
    # what checks the settings takes longer to load than all else that --help needs
    assert loaded_by(f"{CALL.format(['--help'])}\nassert 'pydantic' not in sys.modules") == []


def test_preparing_and_scoring_on_the_grid_as_it_is_need_no_pytorch(tiny_raw: Path, tmp_path: Path) -> None:
    labels, store = str(tiny_raw / "labelsTr"), str(tmp_path / "store")
    prepare = ["prepare", str(tiny_raw), store, "--downsample", "1", "--test-fraction", "0"]
    evaluate = ["evaluate", labels, labels, "--out", str(tmp_path / "scores.csv")]
    assert loaded_by(CALL.format(prepare) + CALL.format(evaluate), ["torch"]) == []


def test_training_and_prediction_load_no_statistics_nor_optimisation() -> None:
    """Of 40 and 70 MiB, which count in the memory of every process that trains or predicts."""
    packages = ["matplotlib", "pandas", "scipy.optimize", "scipy.stats", "sympy"]
    assert loaded_by("import viscera.stages.train, viscera.stages.predict", packages) == []
