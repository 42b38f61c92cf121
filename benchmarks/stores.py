"""Stores that several experiments are made on: phantoms, and real organ shapes with simulated HU."""

from pathlib import Path

from viscera.core.config import PrepareConfig
from viscera.io.classes import read_class_file
from viscera.io.files import write_text
from viscera.io.store import Store
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare

SHAPES = ("artery", "liver", "spleen", "stomach", "gallbladder", "pancreas", "right_kidney", "left_kidney")


def phantom_store(
    folder: Path, cases: int, seed: int, shape: tuple[int, int, int], test: float = 0.0, validation: float = 0.0
) -> Store:
    """The store of a set of phantoms, with shares of test and validation cases; made where it is not there."""
    path = folder / "store"
    if not path.exists():
        make_phantoms(folder / "phantom", cases, seed, shape)
        prepare(folder / "phantom", path, _split(test, validation))
    return Store.open(path)


def shapes_store(folder: Path, source: Path, test: float = 0.0, validation: float = 0.0) -> Store:
    """The same of real organ shapes in nnU-Net's raw layout, and of their organs."""
    path = folder / "store"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        classes = folder / "classes.yaml"
        write_text(classes, f"classes: [{', '.join(SHAPES)}]\n")
        prepare(source, path, _split(test, validation), classes=read_class_file(classes))
    return Store.open(path)


def _split(test: float, validation: float) -> PrepareConfig:
    return PrepareConfig(downsample=1, test_fraction=test, validation_fraction=validation)
