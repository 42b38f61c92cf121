"""Scores where nobody labelled some voxels: worked by hand, laws, and the same as of masked label maps."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscera.core.anatomy import ABDOMEN, IGNORED
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.metrics.nnunet_summary import CountedCase, nnunet_summary
from viscera.metrics.organ_facts import organ_facts
from viscera.metrics.overlap import confusion_matrix
from viscera.metrics.scoring import METRICS, Pair, Score, score

Labels = npt.NDArray[np.uint8]
LIVER, SPLEEN = 3, 4


def label_map(labels: Labels) -> LabelMap:
    return LabelMap(labels, Geometry.from_spacing(labels.shape, (1.0, 1.0, 2.0)))


def scores(prediction: Labels, reference: Labels, **options: object) -> dict[tuple[str, str], float | None]:
    rows: list[Score] = score(label_map(prediction), label_map(reference), metrics=list(METRICS), **options)  # type: ignore[arg-type]
    return {(row.organ, row.metric): row.value for row in rows}


def pair() -> tuple[Labels, Labels]:
    """Ten voxels along I: the reference has liver at 0 to 3 and does not say what 4 to 6 are.

    The prediction has liver at 2 to 5, which makes 2 of 4 and 2 of its own 4 right, and nothing wrong; and spleen at 6.
    """
    prediction, reference = np.zeros((2, 10, 1, 1), dtype=np.uint8)
    reference[0:4], reference[4:7] = LIVER, IGNORED
    prediction[2:6], prediction[6] = LIVER, SPLEEN
    return prediction, reference


def test_dice_and_volumes_by_hand() -> None:
    found = scores(*pair())
    assert found["liver", "dice"] == pytest.approx(2 * 2 / (2 + 4))  # of the prediction, 2 and 3 are labelled
    assert found["background", "dice"] == pytest.approx(2 * 3 / (3 + 5))  # 7 to 9; the prediction's 0 and 1 beside them
    assert found["spleen", "dice"] is None  # where it was found nobody knows
    assert found["liver", "volume_ml"] == pytest.approx(2 * 0.002)
    assert found["liver", "reference_volume_ml"] == pytest.approx(4 * 0.002)
    assert found["spleen", "volume_ml"] == 0
    assert scores(*pair(), absent="one")["spleen", "dice"] == 1


def test_nnunets_counts_by_hand() -> None:
    prediction, reference = pair()
    confusion = Pair.of(label_map(prediction), label_map(reference)).confusion
    assert np.array_equal(confusion, confusion_matrix(prediction, reference))
    of_liver = nnunet_summary([CountedCase("p", "r", confusion)])["metric_per_case"][0]["metrics"][str(LIVER)]
    assert of_liver == pytest.approx(
        {"Dice": 2 / 3, "IoU": 0.5, "TP": 2, "FP": 0, "FN": 2, "TN": 3, "n_pred": 2, "n_ref": 4}
    )


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_what_is_predicted_there_changes_nothing_and_surfaces_are_those_of_masked_maps(seed: int) -> None:
    random = np.random.default_rng(seed)
    prediction, other, reference = random.integers(0, 3, (3, 9, 8, 7)).astype(np.uint8)
    unknown = random.random(reference.shape) < random.choice([0.05, 0.5, 1.0])
    other[~unknown] = prediction[~unknown]
    masked = [np.where(unknown, 0, each).astype(np.uint8) for each in (prediction, reference)]
    reference[unknown] = IGNORED
    found = scores(prediction, reference)
    assert found == scores(other, reference)
    plain = scores(*masked)
    assert all(plain[key] == value for key, value in found.items() if key[0] != "background")


def test_a_reference_beside_itself_and_one_that_says_nothing() -> None:
    _, reference = pair()
    assert scores(reference, reference)["liver", "dice"] == 1
    nothing = scores(pair()[0], np.full((10, 1, 1), IGNORED, dtype=np.uint8), absent="one")
    assert {value for (_, metric), value in nothing.items() if metric == "dice"} == {None}


def test_a_prediction_labels_every_voxel() -> None:
    prediction, reference = pair()
    with pytest.raises(BadInputError, match="prediction: 3 voxels without a class that the reference labels"):
        score(label_map(reference), label_map(prediction))


@pytest.mark.parametrize("voxels", [64, 1 << 18])
def test_counts_leave_out_what_is_ignored_in_blocks_of_any_size(voxels: int) -> None:
    random = np.random.default_rng(voxels)
    prediction, reference = random.integers(0, 8, (2, voxels, 1, 1)).astype(np.uint8)
    reference[random.random(reference.shape) < 0.3] = IGNORED
    known = reference != IGNORED
    expected = np.zeros((8, 8), dtype=np.int64)
    np.add.at(expected, (prediction[known], reference[known]), 1)
    assert np.array_equal(confusion_matrix(prediction, reference), expected)


def test_measurements_of_a_label_map_leave_them_out_and_say_what_may_go_on_in_them() -> None:
    _, reference = pair()
    volume = Volume(np.arange(10, dtype=np.int16).reshape(10, 1, 1) * 10, label_map(reference).geometry)
    facts = organ_facts(volume, label_map(reference), ABDOMEN)
    assert (facts["liver"].voxels, facts["liver"].mean_hu, facts["liver"].beside_ignored) == (4, 15.0, True)
    assert not facts["spleen"].beside_ignored
    reference[4] = 0
    assert not organ_facts(volume, label_map(reference), ABDOMEN)["liver"].beside_ignored
