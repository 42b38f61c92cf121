"""What is said of the flags of predictions: by hand."""

from pathlib import Path

import pytest

from viscera.io.predictions import flags_text

HEADER = "case,organ,flag,reasons\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "a,liver,look,too small\na,spleen,,\nb,liver,look,in pieces\nc,liver,,\n",
            "2 organs in 2 of 3 scans are flagged",
        ),
        ("a,liver,look,too small\n", "1 organ in 1 of 1 scan is flagged as doubtful; the column reasons says why"),
        ("a,liver,,\nb,liver,,\n", "no organ of 2 scans is flagged as doubtful"),
    ],
)
def test_how_many_organs_of_how_many_scans_are_doubtful_and_where_that_stands(
    tmp_path: Path, rows: str, said: str
) -> None:
    (tmp_path / "measurements.csv").write_text(HEADER + rows)
    text = flags_text(tmp_path)
    assert text.startswith(f"{tmp_path / 'measurements.csv'}: ")
    assert said in text


def test_a_file_has_a_table_of_its_own_and_without_one_nothing_is_said(tmp_path: Path) -> None:
    assert flags_text(tmp_path) == ""
    (tmp_path / "x.measurements.csv").write_text(f"{HEADER}x,liver,look,too small\n")
    assert "1 organ in 1 of 1 scan" in flags_text(tmp_path / "x.nii.gz")
