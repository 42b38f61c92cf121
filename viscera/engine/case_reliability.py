"""How far the probabilities of one case can be believed: its probability map against the truth, plane by plane."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from viscera.core.anatomy import IGNORED, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.files import sha256
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.predictions import read_record
from viscera.io.probability_maps import LEVELS, probabilities_beside, stored_planes
from viscera.io.reliability_table import ReliabilityRow
from viscera.metrics.calibration import BINS, Reliability

_PROBABILITIES = np.arange(LEVELS + 1, dtype=np.float32) / np.float32(LEVELS)


class ClassReliability(NamedTuple):
    """One class of one case; None where the case does not label it, or it is background and another one is not."""

    name: str
    found: Reliability | None

    def rows(self, case: str) -> list[ReliabilityRow]:
        """One per bin with voxels."""
        if self.found is None:
            return []
        bins = zip(self.found.voxels.tolist(), self.found.correct.tolist(), self.found.total.tolist(), strict=True)
        return [
            ReliabilityRow(case, self.name, round(at / BINS, 4), round((at + 1) / BINS, 4), n, correct, total / n)
            for at, (n, correct, total) in enumerate(bins)
            if n
        ]


def probability_map_of(prediction: Path) -> Path | None:
    """The probabilities beside a label map; None where there are none.

    Raises BadInputError where they were changed, or were made by another model than the label map.
    """
    name = case_name(prediction)
    path = probabilities_beside(prediction, name)
    if not path.exists():
        return None
    record = read_record(prediction.with_name(f"{name}.json"))
    if record and record.get("outputs_sha256", {}).get(path.name) != sha256(path):
        raise BadInputError(
            f"{path}: not what was written with {prediction.name}: made by another model, or changed since. Predict "
            "again with --format nifti,probabilities."
        )
    return path


def case_reliability(
    path: Path, prediction: LabelMap, truth: LabelMap, classes: ClassTable, unlabelled: Collection[str]
) -> list[ClassReliability]:
    """Each class of a case, over all voxels of the scan that are labelled; raises BadInputError as `stored_planes`.

    `prediction` is the label map beside the probabilities, which lie on its grid; the truth may run another way.
    """
    labels = truth.in_order_of(prediction.geometry).labels
    number = len(classes)
    voxels, correct = np.zeros((2, number, LEVELS + 1), dtype=np.int64)
    for label, k, plane in stored_planes(path, prediction.geometry, number):
        voxels[label] += np.bincount(plane[labels[:, :, k] != IGNORED], minlength=LEVELS + 1)
        correct[label] += np.bincount(plane[labels[:, :, k] == label], minlength=LEVELS + 1)
    unknown = {classes.names[0], *unlabelled} if unlabelled else set()
    found = []
    for label, name in enumerate(classes.names):
        reliability = Reliability()
        reliability.add(_PROBABILITIES, voxels[label], correct[label])
        found.append(ClassReliability(name, None if name in unknown else reliability))
    return found
