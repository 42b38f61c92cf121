"""What nnU-Net v2 writes to `summary.json` about a set of predictions, from the same voxel counts.

Keys, means and undefined values (NaN) are those of `nnunetv2.evaluation.evaluate_predictions`: per label TP, FP, FN and
TN in voxels, their Dice and IoU, and the sizes of prediction and reference; means over the cases that define a value,
then over the labels without background.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt


class CountedCase(NamedTuple):
    """One case."""

    prediction_file: str  # where it was read from
    reference_file: str  # where it was read from
    confusion: npt.NDArray[np.int64]  # (L, L) voxels by class in the prediction and class in the reference


class CaseMetrics(TypedDict):
    """One case of a summary."""

    metrics: dict[str, dict[str, int | float]]  # by label and name
    prediction_file: str
    reference_file: str


def nnunet_summary(cases: Sequence[CountedCase]) -> dict[str, Any]:
    """The content of `summary.json`: `foreground_mean`, `mean` by label, `metric_per_case`; of one case or more."""
    labels = range(1, len(cases[0].confusion))
    return with_means(
        [
            {
                "metrics": {str(label): _metrics(case.confusion, label) for label in labels},
                "prediction_file": case.prediction_file,
                "reference_file": case.reference_file,
            }
            for case in cases
        ]
    )


def with_means(per_case: Sequence[CaseMetrics]) -> dict[str, Any]:
    """A summary of its `metric_per_case`, one or more, which name the same labels."""
    labels = list(per_case[0]["metrics"])
    names = list(per_case[0]["metrics"][labels[0]])
    values = np.array([[[case["metrics"][label][name] for name in names] for label in labels] for case in per_case])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means = np.nanmean(values, axis=0)
    by_label = zip(labels, means.tolist(), strict=True)
    return {
        "foreground_mean": dict(zip(names, means.mean(axis=0).tolist(), strict=True)),
        "mean": {label: dict(zip(names, of_label, strict=True)) for label, of_label in by_label},
        "metric_per_case": list(per_case),
    }


def _metrics(confusion_LL: npt.NDArray[np.int64], label: int) -> dict[str, int | float]:
    tp = int(confusion_LL[label, label])
    fp = int(confusion_LL[label].sum()) - tp
    fn = int(confusion_LL[:, label].sum()) - tp
    union = tp + fp + fn
    return {
        "Dice": 2 * tp / (union + tp) if union else float("nan"),
        "FN": fn,
        "FP": fp,
        "IoU": tp / union if union else float("nan"),
        "TN": int(confusion_LL.sum()) - union,
        "TP": tp,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }
