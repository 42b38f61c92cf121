"""A wheel and a source distribution of the checkout, built in a copy of it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BUILD = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"


def build(folder: Path) -> Path:
    """By the setuptools that is installed; the folder of both."""
    for name in ("viscera", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-c", _BUILD], cwd=folder, check=True, capture_output=True)
    return folder / "dist"


def built_wheel(folder: Path) -> Path:
    """The wheel alone."""
    (wheel,) = build(folder).glob("*.whl")
    return wheel
