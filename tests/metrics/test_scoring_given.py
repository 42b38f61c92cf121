"""What programs give to `score`: label maps of other classes, on other grids, and arguments that are none."""

import math
from typing import Any

import numpy as np
import pytest

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.metrics.scoring import Pair, score

SHAPE = (4, 5, 6)
LABELS = (np.arange(120, dtype=np.uint8) % 3).reshape(SHAPE)
KIDNEYS = ClassTable.of_names(["background", "kidney_left", "kidney_right"])
GRID = Geometry.from_spacing(SHAPE, (1, 1, 2))


def label_map(classes: ClassTable | None = None, grid: Geometry = GRID) -> LabelMap:
    return LabelMap(LABELS, grid, classes)


def moved(affine: Any) -> Geometry:
    return Geometry(SHAPE, GRID.affine @ affine)


@pytest.mark.parametrize(
    ("prediction", "reference", "given", "who"),
    [
        (KIDNEYS, ABDOMEN, None, "prediction: its labels stand for kidney_left, kidney_right; .* artery, portal_vein"),
        (ABDOMEN, KIDNEYS, None, "prediction: its labels stand for artery"),
        (None, KIDNEYS, ABDOMEN, "reference: its labels stand for kidney_left"),
        (KIDNEYS, None, ABDOMEN, "prediction: its labels stand for kidney_left"),
        (ClassTable.of_names(["background", "kidney_right", "kidney_left"]), KIDNEYS, None, "read_labels"),
    ],
)
def test_labels_that_stand_for_other_organs_are_not_compared_by_number(
    prediction: ClassTable | None, reference: ClassTable | None, given: ClassTable | None, who: str
) -> None:
    with pytest.raises(BadInputError, match=who):
        score(label_map(prediction), label_map(reference), classes=given)
    with pytest.raises(BadInputError, match=who):  # nor by `viscera evaluate`
        Pair.of(label_map(prediction), label_map(reference), given or reference or ABDOMEN)


@pytest.mark.parametrize("prediction", [None, ABDOMEN])
def test_a_table_that_is_given_stands_for_the_one_that_files_are_read_with(prediction: ClassTable | None) -> None:
    rows = score(label_map(prediction), label_map(ABDOMEN), classes=KIDNEYS)
    assert [(row.organ, row.value) for row in rows] == [(name, 1.0) for name in KIDNEYS.names]


@pytest.mark.parametrize(("prediction", "reference"), [(KIDNEYS, KIDNEYS), (KIDNEYS, None), (None, KIDNEYS)])
def test_the_table_of_either_says_what_the_labels_of_both_are(
    prediction: ClassTable | None, reference: ClassTable | None
) -> None:
    rows = score(label_map(prediction), label_map(reference))
    assert [(row.organ, row.value) for row in rows] == [(name, 1.0) for name in KIDNEYS.names]


def test_names_decide_and_not_colours() -> None:
    other = ClassTable.of_names(["background", "spleen", "kidney_left", "kidney_right"])
    same = ClassTable(tuple(each for each in KIDNEYS.classes))
    assert other.classes[2].colour == KIDNEYS.classes[1].colour
    assert score(label_map(same), label_map(KIDNEYS))[1].value == 1


@pytest.mark.parametrize(
    ("tolerance", "kind", "found"),
    [
        (math.nan, BadInputError, "tolerance_mm=nan"),
        (math.inf, BadInputError, "tolerance_mm=inf"),
        (-1.0, BadInputError, "tolerance_mm=-1.0: a finite number of at least 0"),
        ("2", BadTypeError, "tolerance_mm='2': a number"),
        ([2.0], BadTypeError, r"tolerance_mm=\[2.0\]"),
        (True, BadTypeError, "tolerance_mm=True"),
        ({"liver": math.nan}, BadInputError, r"tolerance_mm\['liver'\]=nan"),
        ({"other": -2}, BadInputError, r"tolerance_mm\['other'\]=-2"),
        ({"liver": "3 mm"}, BadTypeError, r"tolerance_mm\['liver'\]='3 mm'"),
        ({3: 1.0}, BadInputError, "tolerance_mm: there is no 3"),
    ],
)
def test_a_tolerance_is_a_length(tolerance: Any, kind: type[Exception], found: str) -> None:
    with pytest.raises(kind, match=found):
        score(label_map(), label_map(), metrics=("surface_dice",), tolerance_mm=tolerance)
    of_numpy: Any = np.float32(0)
    assert score(label_map(), label_map(), metrics=("surface_dice",), tolerance_mm=of_numpy)[0].value == 1


@pytest.mark.parametrize(
    ("affine", "found"),
    [
        # K is 6 voxels of 2 mm: with 2.5 mm the last of them, 5 steps away, lies 2.5 mm off
        (np.diag([1, 1, 1.25, 1]), "voxels lie up to 2.5 mm apart: spacings 1×1×2.5 and 1×1×2 mm"),
        # 5 mm along I, and 12 mm, 6 voxels, along K: 13 mm
        (
            np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 6], [0, 0, 0, 1]]),
            r"voxels lie up to 13 mm apart: first .* apart .at .3\.5, -2\.0, 7\.0. and .-1\.5, -2\.0, -5\.0. mm,",
        ),
    ],
)
def test_two_grids_of_one_shape_are_told_apart(affine: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=f"prediction and reference do not lie on one grid: {found}"):
        score(label_map(grid=moved(affine)), label_map())


def test_a_turned_grid_is_told_by_its_angle() -> None:
    cosine, sine = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    turned = Geometry(
        SHAPE, np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ GRID.affine
    )
    with pytest.raises(BadInputError, match=r"axes up to 10° apart \(RAS and RAS\)"):
        score(label_map(grid=turned), label_map())


def test_two_shapes_are_told_as_such() -> None:
    other = LabelMap(LABELS[1:], Geometry((3, 5, 6), GRID.affine))
    with pytest.raises(BadInputError, match="one grid: 3×5×6 and 4×5×6 voxels"):
        score(other, label_map())
    assert GRID.difference(Geometry(SHAPE, GRID.affine)) == ""


@pytest.mark.parametrize(
    ("arguments", "kind", "found"),
    [
        ({"classes": ["background", "liver"]}, BadTypeError, r"classes: list, and a ClassTable .*of_names"),
        ({"classes": "liver"}, BadTypeError, "classes: str, and a ClassTable"),
        ({"metrics": ["ece"]}, BadInputError, r"no ece; .* ece and ace need probabilities: `viscera evaluate"),
        ({"metrics": None}, BadInputError, "metrics: NoneType instead of a list"),
        ({"metrics": 3}, BadInputError, "metrics: int instead of a list"),
        ({"unlabelled": None}, BadInputError, "unlabelled: NoneType instead of a list"),
    ],
)
def test_arguments_of_another_kind_are_told(arguments: dict[str, Any], kind: type[Exception], found: str) -> None:
    with pytest.raises(kind, match=found):
        score(label_map(), label_map(), **arguments)


def test_names_may_come_from_any_iterable() -> None:
    """A generator is empty once it was looked at."""
    names: Any = iter(["dice"])
    unlabelled: Any = (name for name in ("artery",))
    rows = score(label_map(), label_map(), metrics=names, unlabelled=unlabelled)
    assert [row.value for row in rows][:3] == [1, None, 1]
    assert score(label_map(), label_map(), unlabelled=frozenset({"artery", "liver"}))[1].value is None
    assert score(label_map(), label_map(), unlabelled=[])[1].value == 1
