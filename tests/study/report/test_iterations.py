"""Scores side by side and forecasts, of fabricated studies with known curves."""

import dataclasses
from collections.abc import Callable

import pytest

from viscera.core.anatomy import CLASS_NAMES, ORGANS
from viscera.engine.fusion_record import FusionRecord
from viscera.io.scores import ScoreRow
from viscera.study.report.comparisons import compare
from viscera.study.report.iterations import arm_curve, organ_stages, settling_rows, settling_sentence, stage_rows
from viscera.study.report.page import PageParts, render_page
from viscera.study.report.tables import table1
from viscera.study.results import CurvePoint, FusedResult, RunResult, StudyResult

PaperRows = list[tuple[ScoreRow, ...]]
MakeStudy = Callable[..., StudyResult]
STAGES = (150, 300)


def curve(later: float | None = None, last: int = 300, offset: float = 0.0) -> tuple[CurvePoint, ...]:
    """0.8 - 8 / t for every organ, a little up and down, at every tenth step; background 0, which does not count."""

    def dice(step: int) -> float:
        return later if later and step > 150 else 0.8 - 8 / step + 0.003 * (-1) ** (step // 10)

    return tuple(
        CurvePoint(step, -0.1, (0.0, *[offset + dice(step)] * len(ORGANS)), ()) for step in range(10, last + 1, 10)
    )


@pytest.fixture
def study(make_study: MakeStudy, paper_rows: PaperRows) -> StudyResult:
    """Six arms after 300 steps with the paper's scores, after 150 with half of each."""
    plain = make_study(paper_rows)
    curves = [curve(), curve(0.3), curve(0.95), curve(last=150), curve(last=40), ()]

    def extended(run: RunResult, points: tuple[CurvePoint, ...]) -> RunResult:
        half = tuple(row._replace(value=(row.value or 0) / 2) for row in run.scores or ())
        return dataclasses.replace(run, curve=points, earlier={150: half})

    runs = tuple(extended(run, points) for run, points in zip(plain.runs, curves, strict=True))
    return StudyResult(plain.record.model_copy(update={"stages": STAGES}), runs)


def test_the_stages_stand_side_by_side(study: StudyResult) -> None:
    rows = stage_rows(study, "original")
    assert [row.title for row in rows] == [arm.title for arm in study.arms]
    assert rows[0].percents == pytest.approx((86.642857 / 2, 86.642857))
    assert rows[0].change == pytest.approx(86.642857 / 2)
    assert rows[0].text == "43.3 → 86.6"
    title, of_liver = organ_stages(study, "original")[2]
    assert title == "liver"
    assert [row.text for row in of_liver[:2]] == ["48.2 → 96.5", "36.7 → 73.4"]


def test_a_stage_without_scores_is_a_dash(study: StudyResult) -> None:
    runs = (dataclasses.replace(study.runs[0], earlier={}), *study.runs[1:])
    (row, *_) = stage_rows(dataclasses.replace(study, runs=runs), "original")
    assert row.text == "– → 86.6"
    assert row.change is None


def test_the_fused_predictor_is_the_last_row(study: StudyResult) -> None:
    rows = tuple(ScoreRow("case", name, "original", "dice", 0.8) for name in CLASS_NAMES)
    record = FusionRecord(
        version="1",
        chosen_on=("v1",),
        organs={},
        evidence="own",
        settled_by="weights",
        below=(),
        models={},
        iterations=300,
        inputs_sha256="",
    )
    half = tuple(row._replace(value=0.4) for row in rows)
    fused = dataclasses.replace(study, fused=FusedResult(record, rows, (), {150: half}))
    assert stage_rows(fused, "original")[-1].percents == pytest.approx((40.0, 80.0))
    late = dataclasses.replace(study, fused=FusedResult(record, rows, ()))
    assert stage_rows(late, "original")[-1].text == "– → 80.0"


def test_the_forecast_is_made_from_the_earlier_points_alone_and_judged(study: StudyResult) -> None:
    rows = settling_rows(study)
    assert [(row.title, row.stage) for row in rows[:2]] == [(study.arms[0].title, 150), (study.arms[0].title, 300)]
    right, _, lower, _, higher, _, stopped, *_ = rows
    assert float(right.limit.split()[0]) == pytest.approx(80, abs=1.5)
    assert right.measured == pytest.approx(100 * (0.8 - 8 / 150 - 0.003))
    assert right.forecast == lower.forecast == higher.forecast  # they differ only afterwards
    assert float(right.forecast.split()[0]) == pytest.approx(77.3, abs=1)  # 0.8 - 8 / 300
    assert (lower.verdict, higher.verdict) == ("lower", "higher")
    assert (lower.outcome, higher.outcome) == pytest.approx((30.0, 95.0))
    assert (stopped.outcome, stopped.verdict) == (None, "")
    assert stopped.limit == right.limit
    assert rows[8].limit == "no curve that far"  # the fifth arm ended at 40
    assert "In 1 of 3 forecasts, made from the earlier steps alone," in settling_sentence(rows)


def test_a_curve_that_follows_the_law_is_within_its_interval(study: StudyResult) -> None:
    (right, *_) = settling_rows(study)
    assert right.outcome == pytest.approx(100 * (0.8 - 8 / 300 + 0.003))
    assert right.verdict == "within"


def test_a_curve_in_its_steep_part_gives_no_number(study: StudyResult) -> None:
    steep = tuple(
        CurvePoint(step, -0.1, (0.0, *[step / 400 + 0.01 * (-1) ** (step // 10)] * len(ORGANS)), ())
        for step in range(10, 301, 10)
    )
    (row, *_) = settling_rows(
        dataclasses.replace(study, runs=(dataclasses.replace(study.runs[0], curve=steep), *study.runs[1:]))
    )
    assert row.limit.startswith("open [")


def test_seeds_are_averaged_where_both_measured(make_study: MakeStudy, paper_rows: PaperRows) -> None:
    plain = make_study([row for row in paper_rows for _ in range(2)], seeds=(0, 1))
    runs = tuple(
        dataclasses.replace(run, curve=curve(offset=0.1 * run.seed)[run.seed :: 2 if run.seed else 1])
        for run in plain.runs
    )
    steps, values = arm_curve(dataclasses.replace(plain, runs=runs), plain.arms[0], 100)
    assert steps == [20, 40, 60, 80, 100]
    assert values == pytest.approx([0.853 - 8 / step for step in steps])


def test_one_stage_gives_one_small_table(make_study: MakeStudy, paper_rows: PaperRows) -> None:
    plain = make_study(paper_rows)
    rows = settling_rows(plain)
    assert len(rows) == 6
    assert rows[0].limit == "too few points (3 of at least 8)"
    assert not settling_sentence(rows)
    page = render_page(PageParts(plain, [table1(plain, "original")], None, [], [], "0.1.0", compare(plain, "original")))
    assert "Where each arm would settle" in page
    assert "More iterations" not in page


def test_the_page_shows_both_stages(study: StudyResult) -> None:
    page = render_page(PageParts(study, [table1(study, "original")], None, [], [], "0.1.0", compare(study, "original")))
    assert "More iterations: mean foreground Dice on the test cases" in page
    assert "43.3</td><td>86.6</td>" in page
    assert "48.2 → 96.5" in page
    assert "no, higher" in page
    assert "In 1 of 3 forecasts" in page
