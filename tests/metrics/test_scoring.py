"""All scores of a pair of label maps."""

import math
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest

from viscera.core.anatomy import CLASS_NAMES, ORGANS, ClassTable
from viscera.core.config import Metric
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.metrics.scoring import METRICS, Score, score

Labels = npt.NDArray[np.uint8]
SURFACE: tuple[Metric, ...] = ("hd95_mm", "surface_dice")
ALL: tuple[Metric, ...] = ("dice", *SURFACE, "volume_ml")


def label_map(labels: Labels, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> LabelMap:
    return LabelMap(labels, Geometry.from_spacing(labels.shape, spacing_mm))


def by_organ(scores: list[Score], metric: str) -> dict[str, float | None]:
    return {each.organ: each.value for each in scores if each.metric == metric}


def test_an_organ_missed_whole_or_made_up_is_0_and_one_absent_from_both_undefined() -> None:
    prediction, reference = np.zeros((2, 4, 1, 1), dtype=np.uint8)
    reference[0], prediction[1] = 6, 5
    rows = by_organ(score(label_map(prediction), label_map(reference)), "dice")
    assert list(rows) == list(CLASS_NAMES)
    assert rows["gallbladder"] == 0
    assert rows["stomach"] == 0
    assert rows["pancreas"] is None


def test_without_a_surface_on_one_side_the_distance_is_infinite_and_on_both_undefined() -> None:
    prediction, reference = np.zeros((2, 4, 3, 2), dtype=np.uint8)
    reference[0], prediction[1] = 6, 5
    scores = score(label_map(prediction), label_map(reference), metrics=SURFACE)
    hd95, surface_dice = by_organ(scores, "hd95_mm"), by_organ(scores, "surface_dice")
    assert list(hd95) == list(surface_dice) == [organ.name for organ in ORGANS]
    assert hd95["gallbladder"] == hd95["stomach"] == math.inf
    assert surface_dice["gallbladder"] == surface_dice["stomach"] == 0
    assert hd95["pancreas"] is None
    assert surface_dice["pancreas"] is None


def two_voxels_of_every_organ() -> tuple[LabelMap, LabelMap]:
    """A voxel of each organ, in the reference four voxels of 2 mm further along I: its surface is 6 to 8 mm away."""
    prediction, reference = np.zeros((2, 6, 14, 3), dtype=np.uint8)
    for organ in ORGANS:
        prediction[0, 2 * organ.label - 1, 1] = reference[4, 2 * organ.label - 1, 1] = organ.label
    return label_map(prediction, (2.0, 1.5, 1.0)), label_map(reference, (2.0, 1.5, 1.0))


def test_each_organ_has_its_tolerance() -> None:
    pair = two_voxels_of_every_organ()
    at = {"liver": 8.0, "spleen": 6.0, "other": 5.0}
    surface_dice = by_organ(score(*pair, metrics=SURFACE, tolerance_mm=at), "surface_dice")
    assert surface_dice["liver"] == 1
    assert surface_dice["spleen"] == pytest.approx(0.5)
    assert surface_dice["artery"] == 0
    assert set(by_organ(score(*pair, metrics=SURFACE), "hd95_mm").values()) == {8.0}
    assert set(by_organ(score(*pair, metrics=("surface_dice",), tolerance_mm=8.0), "surface_dice").values()) == {1.0}


def test_volumes_are_voxels_times_their_size() -> None:
    prediction, reference = np.zeros((2, 10, 10, 10), dtype=np.uint8)
    prediction[:5], reference[:2] = 3, 3  # 500 and 200 voxels of 2 mm x 2 mm x 2.5 mm = 0.01 mL
    spacing = (2.0, 2.0, 2.5)
    scores = score(label_map(prediction, spacing), label_map(reference, spacing), metrics=("volume_ml",))
    assert by_organ(scores, "volume_ml")["liver"] == pytest.approx(5.0)
    assert by_organ(scores, "reference_volume_ml")["liver"] == pytest.approx(2.0)
    assert by_organ(scores, "volume_ml")["spleen"] == 0
    assert "background" not in by_organ(scores, "volume_ml")


def test_only_what_is_asked_for_is_measured_metric_by_metric() -> None:
    pair = two_voxels_of_every_organ()
    everything = score(*pair, metrics=ALL)
    assert list(dict.fromkeys(each.metric for each in everything)) == [
        "dice",
        "hd95_mm",
        "surface_dice",
        "volume_ml",
        "reference_volume_ml",
    ]
    assert len(everything) == 8 + 4 * 7
    assert score(*pair, metrics=("surface_dice",)) == [each for each in everything if each.metric == "surface_dice"]


def test_other_tables_of_classes() -> None:
    table = ClassTable.of_names(["background", "left_kidney", "right_kidney"])
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:2], labels[3:] = 1, 2
    scores = score(label_map(labels), label_map(labels), metrics=ALL, classes=table)
    assert by_organ(scores, "dice") == {"background": 1, "left_kidney": 1, "right_kidney": 1}
    assert by_organ(scores, "hd95_mm") == {"left_kidney": 0, "right_kidney": 0}
    assert by_organ(scores, "volume_ml") == {"left_kidney": 0.032, "right_kidney": 0.016}


def test_other_classes_than_the_papers() -> None:
    table = ClassTable.of_names(["background", "liver", "kidney"])
    prediction, reference = np.zeros((2, 4, 1, 1), dtype=np.uint8)
    prediction[:2], reference[1:3] = 2, 2  # 2 * 1 / (2 + 2)
    values = [(each.organ, each.value) for each in score(label_map(prediction), label_map(reference), classes=table)]
    assert values == [("background", 0.5), ("liver", None), ("kidney", 0.5)]


def test_a_label_that_stands_for_nothing_is_refused() -> None:
    labels = np.full((2, 2, 2), 9, dtype=np.uint8)
    with pytest.raises(BadInputError, match="label 9: the classes are 0 to 7"):
        score(label_map(labels), label_map(labels))


@pytest.mark.parametrize("absent", ["undefined", "one"])
def test_an_organ_that_is_not_labelled_is_undefined_and_background(absent: Literal["undefined", "one"]) -> None:
    prediction, reference = np.zeros((2, 6, 1, 1), dtype=np.uint8)
    prediction[:2], prediction[2:4], reference[2:4] = 3, 4, 4  # livers that the reference cannot know of; a spleen
    found = score(
        label_map(prediction), label_map(reference), metrics=ALL, absent=absent, unlabelled=("liver", "pancreas")
    )
    rows = by_organ(found, "dice")
    assert rows["spleen"] == 1
    assert rows["background"] == 1  # four voxels, two of them called liver: none of the labelled classes
    assert rows["liver"] is None
    assert rows["pancreas"] is None  # in neither map, whatever `absent` says
    assert rows["stomach"] == (1 if absent == "one" else None)
    assert all(each.value is None for each in found if each.organ in {"liver", "pancreas"})
    assert by_organ(found, "hd95_mm")["spleen"] == 0


def test_two_grids_cannot_be_compared() -> None:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    with pytest.raises(BadInputError, match="do not lie on one grid"):
        score(label_map(labels), label_map(labels, (1.5, 1.5, 1.5)))


def test_an_organ_in_neither_is_undefined_or_one() -> None:
    labels = np.zeros((2, 2, 2), dtype=np.uint8)
    labels[0] = 3
    pair = label_map(labels), label_map(labels)
    assert [each.value for each in score(*pair)] == [1, None, None, 1, None, None, None, None]
    assert [each.value for each in score(*pair, absent="one")] == [1] * 8


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"metrics": ["hd95"]}, "metrics: no hd95"),
        ({"metrics": ["Dice", "hd95_mm"]}, "metrics: no Dice"),
        ({"metrics": "dice"}, "metrics: a text instead of a list"),
        ({"metrics": []}, "metrics: an empty list"),
        ({"metrics": ["dice", "dice"]}, "metrics: dice twice"),
        ({"metrics": [["dice"]]}, "metrics: no "),
        ({"absent": "zero"}, "absent: no zero"),
        ({"unlabelled": ["livr"]}, "unlabelled: no livr"),
        ({"unlabelled": "liver"}, "unlabelled: a text"),
        ({"metrics": ["surface_dice"], "tolerance_mm": {"livr": 3.0}}, "tolerance_mm: there is no livr"),
    ],
)
def test_names_that_there_are_not_are_an_error_that_lists_those_that_there_are(
    arguments: dict[str, Any], found: str
) -> None:
    labels = np.zeros((2, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=found) as error:
        score(label_map(labels), label_map(labels), **arguments)
    known = {"metrics": ", ".join(METRICS), "absent": "undefined, one"}.get(
        found.split(":", maxsplit=1)[0], "artery, portal_vein"
    )
    assert known in str(error.value)


def test_every_metric_of_the_configuration_is_measured() -> None:
    assert tuple(METRICS) == get_args(Metric)
