from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.scores import ScoreRow, read_scores, write_scores


def test_six_decimals_and_empty_where_undefined(tmp_path: Path) -> None:
    rows = [ScoreRow("a,b", "liver", "original", "dice", 2 / 3), ScoreRow("é", "spleen", "prepared", "dice", None)]
    write_scores(tmp_path / "s.csv", rows)
    text = (tmp_path / "s.csv").read_text(encoding="utf-8")
    assert text.splitlines() == [
        "case,organ,grid,metric,value",
        '"a,b",liver,original,dice,0.666667',
        "é,spleen,prepared,dice,",
    ]
    assert read_scores(tmp_path / "s.csv") == [rows[0]._replace(value=0.666667), rows[1]]


def test_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with pytest.raises(BadInputError, match="there is no such file"):
        read_scores(path)
    header = "case,organ,grid,metric,value\n"
    for text in ("a,b\n1,2\n", f"{header}a,liver,original,dice,much\n", f"{header}a,liver,orig"):
        path.write_text(text)
        with pytest.raises(BadInputError, match="not a table of scores"):
            read_scores(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInputError, match="cannot be read"):
        read_scores(path)
