"""What is loaded before there is work: `import viscera`, `viscera --help` and the help of a command are to be quick."""

import subprocess
import sys

import pytest

# a tenth of a second and more each, or what they bring along
SLOW = ["matplotlib", "monai", "nibabel", "numpy", "pandas", "pydicom", "rich", "scipy", "torch"]


def loaded_by(program: str) -> list[str]:
    """The slow packages that a program of its own has loaded when it ends."""
    program = f"import sys\n{program}\nprint([each for each in {SLOW} if each in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = done.stderr.strip().splitlines()[-1]
    return found.strip("[]").replace("'", "").split(", ") if found != "[]" else []


def test_importing_the_library_loads_nothing_slow_nor_the_configuration() -> None:
    assert loaded_by("import viscera; assert 'pydantic' not in sys.modules") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["study", "--help"]])
def test_help_and_version_load_nothing_slow(arguments: list[str]) -> None:
    program = f"""
from viscera.cli import main
sys.argv = ["viscera", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert loaded_by(program) == []


def test_the_settings_are_checked_when_there_are_some_and_not_before() -> None:
    # what checks them takes as long to build as all else that --help needs of the configuration
    program = "import viscera.cli.app\nfrom viscera.core.config import Config\nassert not Config.__pydantic_complete__"
    assert loaded_by(program) == []
