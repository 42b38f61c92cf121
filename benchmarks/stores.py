"""Stores that several experiments are made on: phantoms, and real organ shapes with simulated HU."""

from collections.abc import Iterable
from pathlib import Path

from viscera.core.config import PrepareConfig
from viscera.io.classes import ClassFile, read_class_file
from viscera.io.files import write_text
from viscera.io.layouts.dataset_tables import scan_case_name
from viscera.io.records import write_json
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
        prepare(source, path, _split(test, validation), classes=_classes(folder, SHAPES))
    return Store.open(path)


def single_scan_store(folder: Path, source: Path, case: str, organs: Iterable[str], grid: PrepareConfig) -> Store:
    """The store of a data set in nnU-Net's raw layout whose one training case this is, with the organs that it has."""
    path, split = folder / "store", folder / "split.json"
    if not path.exists():
        others = {scan_case_name(each) for each in (source / "imagesTr").glob("*_0000.nii.gz")} - {case}
        write_json(split, {"train": [case], "validation": [], "test": sorted(others)})
        prepare(source, path, grid, classes=_classes(folder, organs), split_file=split)
    return Store.open(path)


def _classes(folder: Path, organs: Iterable[str]) -> ClassFile:
    path = folder / "classes.yaml"
    write_text(path, f"classes: [{', '.join(organs)}]\n")
    return read_class_file(path)


def _split(test: float, validation: float) -> PrepareConfig:
    return PrepareConfig(downsample=1, test_fraction=test, validation_fraction=validation)
