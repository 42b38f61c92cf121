import math
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.scores import MeanScore, ScoreRow, mean_scores, read_scores, scores_table, write_scores


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


def rows_of(organ: str, metric: str, *values: float | None) -> list[ScoreRow]:
    return [ScoreRow(f"c{n}", organ, "original", metric, value) for n, value in enumerate(values)]


def test_means_say_what_they_leave_out() -> None:
    rows = [*rows_of("liver", "dice", 0.5, None, 1.0), *rows_of("liver", "hd95_mm", 3.0, None, math.inf)]
    assert mean_scores(rows) == [
        MeanScore("liver", "original", "dice", 0.75, 2, 1, 0),
        MeanScore("liver", "original", "hd95_mm", 3.0, 1, 1, 1),
    ]
    assert mean_scores(rows_of("liver", "dice", None))[0].mean is None


def test_the_table_of_all_metrics_fits_100_columns_and_groups_what_its_means_leave_out() -> None:
    metrics = ("dice", "hd95_mm", "surface_dice", "volume_ml", "reference_volume_ml", "ece", "ace")
    organs = ("gallbladder", "portal_vein", "liver")
    rows = [row for organ in organs for metric in metrics for row in rows_of(organ, metric, 1234.5, None, math.inf)]
    text = scores_table(rows)
    assert max(map(len, text.splitlines())) <= 100
    assert "portal vein" in text
    assert "portal_vein" not in text
    assert text.split().count("infinite") == 1
    assert "infinite in 1 case: gallbladder, portal vein, liver" in " ".join(text.split())
    assert "undefined in 1 case" in text
    assert "Not included" not in scores_table(rows_of("liver", "dice", 0.5))
