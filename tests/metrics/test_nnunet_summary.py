"""nnU-Net's summary.json, worked by hand and against its definitions on masks."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from viscera.metrics.nnunet_summary import CountedCase, nnunet_summary
from viscera.metrics.overlap import confusion_matrix

Labels = npt.NDArray[np.uint8]


def counted(prediction: Labels, reference: Labels, name: str = "x") -> CountedCase:
    return CountedCase(f"p/{name}.nii.gz", f"r/{name}.nii.gz", confusion_matrix(prediction, reference, 3))


def test_two_cases_by_hand() -> None:
    # of ten voxels, label 1 has four and four in case a, two of them shared, and two and two in case b, both shared;
    # label 2 is in neither label map of case a, and made up by the prediction of case b
    a, b = np.zeros((2, 2, 10), dtype=np.uint8)
    a[0, 0:4], a[1, 2:6] = 1, 1
    b[0, 0:2], b[1, 0:2], b[0, 5:8] = 1, 1, 2
    summary = nnunet_summary([counted(a[0], a[1], "a"), counted(b[0], b[1], "b")])
    assert set(summary) == {"foreground_mean", "mean", "metric_per_case"}
    first, second = summary["metric_per_case"]
    assert first["prediction_file"] == "p/a.nii.gz"
    assert first["reference_file"] == "r/a.nii.gz"
    of_a = {"Dice": 0.5, "IoU": 2 / 6, "TP": 2, "FP": 2, "FN": 2, "TN": 4, "n_pred": 4, "n_ref": 4}
    assert first["metrics"]["1"] == pytest.approx(of_a)
    absent = first["metrics"]["2"]
    assert math.isnan(absent["Dice"])
    assert math.isnan(absent["IoU"])
    assert (absent["TP"], absent["TN"], absent["n_pred"]) == (0, 10, 0)
    assert second["metrics"]["2"] == {
        "Dice": 0, "IoU": 0, "TP": 0, "FP": 3, "FN": 0, "TN": 7, "n_pred": 3, "n_ref": 0
    }  # fmt: skip
    assert summary["mean"]["1"]["Dice"] == pytest.approx(0.75)
    assert summary["mean"]["1"]["n_pred"] == 3
    assert summary["mean"]["2"]["Dice"] == 0  # of the one case that defines it
    assert summary["mean"]["2"]["TN"] == 8.5
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.375)


def test_a_label_that_no_case_has_leaves_the_mean_undefined_as_in_nnunet() -> None:
    labels = np.array([0, 1, 1], dtype=np.uint8)
    summary = nnunet_summary([counted(labels, labels)])
    assert math.isnan(summary["mean"]["2"]["Dice"])
    assert math.isnan(summary["foreground_mean"]["Dice"])
    assert summary["foreground_mean"]["TP"] == 1


def expected(prediction: Labels, reference: Labels, label: int) -> dict[str, float]:
    """The definitions, on masks."""
    p, r = prediction == label, reference == label
    tp, fp, fn, tn = (int(np.sum(mask)) for mask in (p & r, p & ~r, ~p & r, ~p & ~r))
    return {
        "Dice": 2 * tp / (2 * tp + fp + fn),
        "IoU": tp / (tp + fp + fn),
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "TN": tn,
        "n_pred": int(p.sum()),
        "n_ref": int(r.sum()),
    }


def test_random_label_maps_against_the_definitions_on_masks() -> None:
    random = np.random.default_rng(0)
    pairs = [random.integers(0, 3, (2, 6, 5, 4)).astype(np.uint8) for _ in range(4)]
    summary: dict[str, Any] = nnunet_summary([counted(prediction, reference) for prediction, reference in pairs])
    for label in (1, 2):
        wanted = [expected(prediction, reference, label) for prediction, reference in pairs]
        for case, of_case in zip(summary["metric_per_case"], wanted, strict=True):
            assert case["metrics"][str(label)] == pytest.approx(of_case)
        for key in wanted[0]:
            mean = np.mean([case[key] for case in wanted])
            assert summary["mean"][str(label)][key] == pytest.approx(mean)
    for key, value in summary["foreground_mean"].items():
        assert value == pytest.approx((summary["mean"]["1"][key] + summary["mean"]["2"][key]) / 2)
