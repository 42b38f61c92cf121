"""Both ways back to the scan's grid that `bench_restore` compares run, and come to the same labels."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_restore import Size, make_input, measure_predict, organs
from viscera.io.nifti import read_labels

SCAN = (40, 40, 48)


@pytest.mark.parametrize(("factor", "restore"), [(1, "probabilities"), (2, "probabilities"), (2, "labels")])
def test_now_and_before_are_the_same_labels(factor: int, restore: str, tmp_path: Path) -> None:
    make_input(tmp_path, Size(SCAN, SCAN, (factor,), 1))
    labels = []
    for version in ("now", "before"):
        measure_predict(tmp_path, factor, restore, version)
        labels.append(read_labels(tmp_path / f"{version}_{factor}_{restore}.nii.gz").labels)
    now, before = labels
    assert np.array_equal(now, before)
    assert np.array_equal(now, organs(SCAN)) == (factor == 1)
