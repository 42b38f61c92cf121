"""The column `fused`, and what validation promised against what test gave; numbers from the paper's Table 1."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.fabricated_studies import words_of
from viscera.core.anatomy import CLASS_NAMES, ORGANS
from viscera.engine.fusion import FusionRecord, OrganChoice
from viscera.io.scores import ScoreRow
from viscera.study.report.page_section import Report, render_page
from viscera.study.report.summary_section import FUSED_SECTION, SUMMARY, fusion_table
from viscera.study.report.table1_section import TABLE1, table1, to_csv, to_latex, to_markdown
from viscera.study.results import FusedResult, StudyResult

PaperRows = list[tuple[ScoreRow, ...]]
MakeStudy = Callable[..., StudyResult]


def fused(validation: float = 0.7, settled_by: str = "weights") -> FusedResult:
    """All organs from `simple_lr0.01`, promised 0.7; on test 0.9 in one case, 0.8 in the other; the liver undefined."""
    choice = OrganChoice(model="m", arm="simple_lr0.01", seed=0, validation_dice=0.7, weight=2.0)
    record = FusionRecord(
        version="1",
        chosen_on=("v1", "v2"),
        organs={organ.name: choice for organ in ORGANS},
        evidence="own",
        settled_by=settled_by,
        below=(),
        models={},
        iterations=300,
        inputs_sha256="",
    )
    scores = [
        ScoreRow(case, name, "original", "dice", None if name == "liver" else value)
        for case, value in (("case", 0.9), ("other", 0.8))
        for name in CLASS_NAMES
    ]
    promised = [ScoreRow("v1", name, "original", "dice", validation) for name in CLASS_NAMES]
    return FusedResult(record, tuple(scores), tuple(promised))


@pytest.fixture
def study(make_study: MakeStudy, paper_rows: PaperRows) -> StudyResult:
    plain = make_study(paper_rows)
    return StudyResult(plain.record, plain.runs, plain.split, fused())


def test_it_is_one_more_column_of_the_table(study: StudyResult) -> None:
    plain = table1(dataclasses.replace(study, fused=None), "original")
    table = table1(study, "original")
    assert list(table.percent.columns) == [*plain.percent.columns, "fused"]
    assert table.percent["fused"][["artery", "AVG", "MAX", "MIN", "FOREGROUND"]].tolist() == pytest.approx([85.0] * 5)
    assert table.percent[plain.percent.columns].equals(plain.percent)
    assert to_csv(table).splitlines()[0].endswith(",fused")
    assert to_csv(table).splitlines()[4].endswith(",")  # the liver is undefined
    note = "each organ from the arm that was best at it on 2 validation cases. The test cases were not used."
    assert note in to_markdown(table)
    assert note in to_latex(table)
    cells = table.rows()[1].cells
    assert len(cells) == 7  # nothing is lost for want of an interval
    assert (cells[-1].text, cells[-1].spread, cells[-1].mark) == ("85.0", "", "")


def test_without_a_fusion_nothing_is_added(make_study: MakeStudy, paper_rows: PaperRows) -> None:
    plain = make_study(paper_rows)
    table = table1(plain, "original")
    assert "fused" not in table.percent
    assert fusion_table(plain, "original").empty
    assert FUSED_SECTION.values(Report(plain)) is None


def test_promise_and_outcome_stand_side_by_side(study: StudyResult) -> None:
    rows = fusion_table(study, "original")
    assert rows.loc["artery"].to_dict() == pytest.approx(
        {"validation_arm": 70.0, "validation_fused": 70.0, "test_arm": 89.2, "test_fused": 85.0}
    )
    assert np.isnan(rows["test_fused"]["liver"])
    said = words_of(study, FUSED_SECTION)
    assert "artery simple, rate 0.01 70.0 70.0 89.2 85.0 simple, rate 0.01: 89.2 " in said
    assert "liver simple, rate 0.01 70.0 70.0 96.3 – uniform, rate 0.001: 96.5 " in said
    assert "on 2 validation cases" in said
    assert "On the validation cases no organ is below the arm that it comes from." in said
    # 88.6 is the mean of the paper's seven organs for simple at 0.01; 85 is above 79.3, 80.8 and 84.7; no liver
    assert "the fused predictor is 85.0 %; the highest of a single arm is 88.6 % (simple, rate 0.01)" in said
    assert "3 of 6 organs are below the arm of origin: artery by 4.20 points, spleen by 8.90 points, stomach by" in said


def test_a_promise_that_does_not_hold_is_said(study: StudyResult) -> None:
    low = StudyResult(study.record, study.runs, study.split, fused(validation=0.65, settled_by="probabilities"))
    promise = words_of(low, FUSED_SECTION)
    assert "On the validation cases 7 of 7 organs are below the arm of origin: artery by 5.00 points" in promise
    rounded = StudyResult(study.record, study.runs, study.split, fused(validation=0.6999995))
    assert "On the validation cases no organ is below" in words_of(rounded, FUSED_SECTION)


def test_without_scores_nothing_is_said_to_hold(study: StudyResult) -> None:
    unscored = dataclasses.replace(fused(), scores=(), validation=())
    without = dataclasses.replace(study, fused=unscored)
    said = words_of(without, FUSED_SECTION)
    assert "No organ can be compared with its arm on the validation cases: there are no scores." in said
    assert "No organ can be compared with its arm on the test cases: there are no scores." in said


def test_the_page_has_the_section_only_with_a_fusion(study: StudyResult) -> None:
    def page(of: StudyResult) -> str:
        return render_page(Report(of), [SUMMARY, TABLE1, FUSED_SECTION])

    assert 'id="fused"' in page(study)
    assert "viscera predict STUDY/fused" in page(study)
    assert "fused" not in page(StudyResult(study.record, study.runs))
