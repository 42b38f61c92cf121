"""Reliability of each arm: cases and seeds together, by hand; and no section where nothing was measured."""

from dataclasses import replace

import pytest

from tests.fabricated_studies import StudyMaker, draw_nothing, words_of
from viscera.io.reliability_table import ReliabilityRow
from viscera.study.report.calibration_section import CALIBRATION, arm_calibrations
from viscera.study.report.page_section import Report, Rows
from viscera.study.results import StudyResult

ROWS = (  # the liver: 30 voxels at 0.93, of which 24 are; 70 at 0.01, of which none is
    ReliabilityRow("a", "liver", 0.9, 0.95, 10, 9, 0.92),
    ReliabilityRow("a", "liver", 0.0, 0.05, 70, 0, 0.01),
    ReliabilityRow("b", "liver", 0.9, 0.95, 20, 15, 0.935),
)


@pytest.fixture
def study(make_study: StudyMaker, paper_rows: list[object]) -> StudyResult:
    plain = make_study(paper_rows)
    first, *others = plain.runs
    return replace(plain, runs=(replace(first, reliability=ROWS), *others))


def test_cases_are_taken_together(study: StudyResult) -> None:
    first, second, *_ = arm_calibrations(study)
    assert second.classes == {}
    ((expected, average),) = first.errors(["liver"])
    assert expected == pytest.approx(100 * (30 * (0.93 - 0.8) + 70 * 0.01) / 100)
    assert average == pytest.approx(100 * (0.13 + 0.01) / 2)
    assert first.errors(["spleen"]) == [(None, None)]


def test_the_section_shows_the_arms_that_were_measured(study: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    words = words_of(study, CALIBRATION)
    assert "liver 4.60 / 7.0" in words.lower()
    assert "spleen – / –" in words.lower()
    table = CALIBRATION.files(Report(study))["reliability.csv"]
    assert isinstance(table, Rows)
    arm = study.arms[0].name
    assert [tuple(row) for row in table.rows] == [
        (arm, "liver", "0.00", "0.05", "70", "0", "0.010000", "0.000000"),
        (arm, "liver", "0.90", "0.95", "30", "24", "0.930000", "0.800000"),
    ]


def test_without_probabilities_there_is_no_section(make_study: StudyMaker, paper_rows: list[object]) -> None:
    report = Report(make_study(paper_rows))
    assert CALIBRATION.values(report) is None
    assert CALIBRATION.files(report) == {}
