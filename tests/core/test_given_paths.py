"""What programs give as a path, a table of classes or a device: what is clear is taken, the rest told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import viscera
from viscera.core.anatomy import ABDOMEN, AnatomicalClass, ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Volume
from viscera.engine.hardware import choose_device

GRID = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
LABELS = LabelMap(np.zeros((2, 2, 2), np.uint8), GRID)
TAKING_PATHS: tuple[Callable[..., object], ...] = (
    *(viscera.read_volume, viscera.read_labels, viscera.Store.open, viscera.Predictor.load, viscera.Run, viscera.Study),
    LABELS.save,
)


@pytest.mark.parametrize("take", TAKING_PATHS)
@pytest.mark.parametrize("given", [None, b"ct.nii", 3, np.zeros(3), ["ct.nii"]])
def test_what_is_no_path_is_told(take: Callable[..., object], given: Any) -> None:
    with pytest.raises(BadTypeError, match=f"{type(given).__name__}, and a path was expected"):
        take(given)


@pytest.mark.parametrize("take", TAKING_PATHS)
def test_an_empty_text_is_not_the_working_directory(take: Callable[..., object]) -> None:
    """It is a variable that was not set."""
    with pytest.raises(BadInputError, match="an empty text, and a path was expected"):
        take("")


def test_a_predictor_takes_the_run_itself(tiny_run: Path) -> None:
    assert viscera.Predictor.load(viscera.Run(tiny_run)).checksum == viscera.Predictor.load(str(tiny_run)).checksum


@pytest.mark.parametrize(
    ("names", "kind", "found"),
    [
        ("background", BadTypeError, "classes: 'background'; a list of names"),
        ({"background": 0, "liver": 1}, BadTypeError, "classes: .*in label order"),
        (None, BadTypeError, "classes: None"),
        ([0, 1], BadTypeError, r"classes: \[0, 1\]; names were expected"),
        ([], BadInputError, "classes: none"),
    ],
)
def test_names_of_classes_are_a_list_of_texts(names: Any, kind: type[Exception], found: str) -> None:
    with pytest.raises(kind, match=found):
        ClassTable.of_names(names)
    of_generator: Any = (name for name in ("background", "liver"))
    assert ClassTable.of_names(of_generator).names == ("background", "liver")


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("background", "liver"), r"ClassTable\.of_names"),
        (["background", "liver"], r"ClassTable\.of_names"),
        (ABDOMEN.classes[1:], r"numbered \[1, 2, 3, 4, 5, 6, 7\]"),
        ((AnatomicalClass(0, "background", "#000000"), AnatomicalClass(0, "liver", "#ffffff")), r"numbered \[0, 0\]"),
    ],
)
def test_a_table_is_numbered_from_0_on(classes: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        ClassTable(classes)


def test_a_device_may_be_pytorchs_or_a_number() -> None:
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    missing = torch.cuda.device_count()
    for given in (missing, torch.device("cuda", missing)):
        with pytest.raises(BadInputError, match=f"device 'cuda:{missing}' is not available here"):
            choose_device(given)


def test_a_case_is_of_a_scan_and_labels() -> None:
    volume = Volume(np.zeros((2, 2, 2), np.int16), GRID)
    with pytest.raises(BadTypeError, match="volume: ndarray, and a Volume was expected"):
        Case("x", volume.hu, LABELS)  # type: ignore[arg-type]
    with pytest.raises(BadTypeError, match="label_map: Volume, and a LabelMap was expected"):
        Case("x", volume, volume)  # type: ignore[arg-type]
    with pytest.raises(BadTypeError, match="geometry: Volume, and a Geometry was expected"):
        LABELS.in_order_of(volume)  # type: ignore[arg-type]
