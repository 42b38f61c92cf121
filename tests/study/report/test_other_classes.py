"""A study of other classes than the paper's: its rows and titles are its own."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from viscera.core.anatomy import ClassTable
from viscera.core.arms import arms_of
from viscera.core.config import Config
from viscera.io.runlog import RunStatus, StudyRecord
from viscera.io.scores import ScoreRow
from viscera.study.report.comparisons import compare
from viscera.study.report.comparisons_section import organ_findings
from viscera.study.report.table1_section import table1
from viscera.study.results import CurvePoint, RunResult, StudyResult

TABLE = ClassTable.of_names(["background", "liver", "kidney_left"])


def study(config: Config) -> StudyResult:
    """Liver 0.6 and kidney 0.8 of two cases in every arm."""
    record = StudyRecord(version="1", store="/s", dataset="CT", config=config, classes=TABLE.names)
    rows = tuple(
        ScoreRow(case, organ, "original", "dice", value)
        for case in ("a", "b")
        for organ, value in zip(TABLE.names, (1.0, 0.6, 0.8), strict=True)
    )
    return StudyResult(
        record,
        tuple(
            RunResult(arm, 0, RunStatus(state="finished", step=300, iterations=300), scores=rows)
            for arm in arms_of(config.study)
        ),
    )


def test_table_1_has_its_rows(tiny_config: Callable[..., Config]) -> None:
    table = table1(study(tiny_config()), "original")
    assert [row.title for row in table.rows()] == [
        "background",
        "liver",
        "kidney left",
        "AVG, 3 classes with background",
        "MAX, of 3 classes",
        "MIN, of 3 classes",
        "Foreground mean, 2 organs without background",
    ]
    # (100 + 60 + 80) / 3 = 80, and (60 + 80) / 2 = 70
    assert table.percent.iloc[:, 0].tolist() == pytest.approx([100, 60, 80, 80, 100, 60, 70])
    assert list(table.spread.low.index) == [*TABLE.names, "AVG", "FOREGROUND"]


def test_comparisons_are_of_its_organs(tiny_config: Callable[..., Config]) -> None:
    found = compare(study(tiny_config()), "original")
    assert {row.organ for row in found.rows} == {"liver", "kidney_left"}
    assert [finding.organ for finding in organ_findings(found)] == ["liver", "kidney_left"]


def test_curves_are_read_by_its_names() -> None:
    point = CurvePoint.from_line({"step": 5, "loss": -0.5, "dice": {"background": 1.0, "kidney_left": 0.5}}, TABLE)
    assert point.dice == (1.0, None, 0.5)


def test_the_papers_claims_need_the_papers_classes(tiny_config: Callable[..., Config]) -> None:
    assert not study(tiny_config()).has_papers_classes


def test_organs_that_cases_do_not_label_have_a_note_of_their_own(tiny_config: Callable[..., Config]) -> None:
    whole = study(tiny_config())
    record = whole.record.model_copy(update={"unlabelled": {"a": ("liver",)}})
    runs = [
        replace(run, scores=tuple(r._replace(value=None) if r[:2] in UNDEFINED else r for r in run.scores or ()))
        for run in whole.runs
    ]
    notes = table1(replace(whole, record=record, runs=tuple(runs)), "original").footnotes
    assert any(
        n.startswith("liver: not labelled, and so left out of its mean, in 1 of 2 cases for every scored arm")
        for n in notes
    )
    assert any(
        n.startswith(
            "kidney left: absent from both reference and prediction, and so left out of its mean, in 1 of 2 cases"
        )
        for n in notes
    )


UNDEFINED = {("a", "liver"), ("b", "kidney_left")}
