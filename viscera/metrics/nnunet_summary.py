"""What nnU-Net v2 writes to `summary.json` about a set of predictions, from the same voxel counts.

Keys, means and undefined values (NaN) are those of `nnunetv2.evaluation.evaluate_predictions`: per label TP, FP, FN and
TN in voxels, their Dice and IoU, and the sizes of prediction and reference; means over the cases that define a value,
then over the labels without background.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class CountedCase(NamedTuple):
    """One case."""

    prediction_file: str  # where it was read from
    reference_file: str  # where it was read from
    confusion: npt.NDArray[np.int64]  # (L, L) voxels by class in the prediction and class in the reference


def nnunet_summary(cases: Sequence[CountedCase]) -> dict[str, Any]:
    """The content of `summary.json`: `foreground_mean`, `mean` by label, `metric_per_case`; of one case or more."""
    labels = range(1, len(cases[0].confusion))
    per_case = [[_metrics(case.confusion, label) for label in labels] for case in cases]
    names = list(per_case[0][0])
    values = np.array([[[metrics[name] for name in names] for metrics in case] for case in per_case])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means = np.nanmean(values, axis=0)
    by_label = zip(labels, means.tolist(), strict=True)
    return {
        "foreground_mean": dict(zip(names, means.mean(axis=0).tolist(), strict=True)),
        "mean": {str(label): dict(zip(names, of_label, strict=True)) for label, of_label in by_label},
        "metric_per_case": [
            {
                "metrics": {str(label): of for label, of in zip(labels, metrics, strict=True)},
                "prediction_file": case.prediction_file,
                "reference_file": case.reference_file,
            }
            for case, metrics in zip(cases, per_case, strict=True)
        ],
    }


def _metrics(confusion_LL: npt.NDArray[np.int64], label: int) -> dict[str, float]:
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
