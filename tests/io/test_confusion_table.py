"""The table of which class the voxels of each class are called."""

from pathlib import Path

import numpy as np
import pytest

from viscera.core.errors import BadInputError
from viscera.io.confusion_table import ConfusionRow, read_confusion, write_confusion

NAMES = ("background", "liver", "spleen")


def test_cells_that_are_not_0_by_case_and_the_sum_over_cases(tmp_path: Path) -> None:
    # predictions in rows: 3 voxels of the liver (column 1) are called spleen (row 2)
    first = np.array([[10, 0, 0], [0, 4, 0], [0, 3, 0]])
    rows = ConfusionRow.of_matrix("a", first, NAMES)
    assert rows == [("a", "background", "background", 10), ("a", "liver", "liver", 4), ("a", "liver", "spleen", 3)]
    write_confusion(tmp_path / "c.csv", rows + ConfusionRow.of_matrix("b", np.eye(3, dtype=int), NAMES))
    assert (tmp_path / "c.csv").read_text().splitlines()[:2] == [
        "case,class,called,voxels",
        "a,background,background,10",
    ]
    assert read_confusion(tmp_path / "c.csv", NAMES).tolist() == [[11, 0, 0], [0, 5, 3], [0, 0, 1]]


@pytest.mark.parametrize("text", ["case,class,called,voxels\na,liver,kidney,3\n", "case,class\na,liver\n", "x\n1\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(BadInputError, match=r"c\.csv: damaged"):
        read_confusion(tmp_path / "c.csv", NAMES)
