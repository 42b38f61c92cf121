"""What was planned beside what is here: changes named, and the planned runs analysed by themselves."""

from collections.abc import Callable
from dataclasses import replace

import pytest

import viscera
from tests.fabricated_studies import words_of
from viscera.core.arms import Arm
from viscera.io.runlog import RunStatus
from viscera.study.analysis_plan import AnalysisPlan, planned_settings
from viscera.study.report.claims_section import CLAIMS_SECTION
from viscera.study.report.comparisons_section import COMPARISONS
from viscera.study.report.page_section import Report, render_page
from viscera.study.report.plan_section import PLAN, analysis_rules, as_planned, changes, outcomes
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]


def plan_of(study: StudyResult, **other: object) -> AnalysisPlan:
    """The plan that a study keeps to."""
    record = study.record
    values = {
        "written": "2026-01-02 03:04:05",
        "version": "0.0.0",
        "dataset": record.dataset,
        "classes": record.classes,
        "training_cases": 20,
        "training_sha256": "a" * 64,
        "test_cases": 12,
        "test_sha256": "b" * 64,
        "arms": tuple(arm.name for arm in study.arms),
        "iterations": record.all_stages[-1],
        "settings": planned_settings(record.config),
        "rules": analysis_rules(),
    }
    return AnalysisPlan.model_validate(values | other)


def dice(arm: Arm, seed: int, case: int, organ: str) -> float:
    """Simple lies 30 points below uniform with seed 0; with seed 1 it lies above."""
    del organ
    below = arm.weighting == "simple" and seed == 0
    return 0.5 + 0.01 * case - 0.3 * below + 0.001 * (arm.weighting == "simple")


@pytest.fixture
def study(study_of_dice: StudyMaker) -> StudyResult:
    options = {"study.weightings": ["uniform", "simple"], "study.learning_rates": [0.01], "study.seeds": (0, 1)}
    return study_of_dice(dice, **options)


def test_nothing_changed_but_the_version(study: StudyResult) -> None:
    assert [change.what for change in changes(plan_of(study), study, "b" * 64)] == ["viscera"]


def test_each_change_is_named(study: StudyResult) -> None:
    before = study.record.config.model_copy(
        update={"study": study.record.config.study.model_copy(update={"seeds": (0,), "weightings": ("uniform",)})}
    )
    settings = planned_settings(before) | {"train.patch": 99}
    rules = analysis_rules() | {"alpha": 0.01}
    plan = plan_of(study, settings=settings, arms=("uniform_lr0.01",), iterations=7, rules=rules)
    found = {change.what: change for change in changes(plan, study, "c" * 64)}
    assert list(found) == ["arms", "seeds", "iterations", "test cases", "train.patch", "analysis: alpha", "viscera"]
    assert found["arms"].now == "2; added: simple, rate 0.01"
    assert found["seeds"][1:] == ("0", "0, 1")
    assert found["train.patch"].planned == "99"
    assert found["analysis: alpha"][1:] == ("0.01", "0.05")


def test_the_planned_runs_are_analysed_by_themselves(study: StudyResult) -> None:
    """Seed 0 alone: 7 organs differ, each by 29.9 points in all 12 cases. Both seeds: by 14.9, and so in all cases."""
    config = study.record.config
    planned = config.model_copy(update={"study": config.study.model_copy(update={"seeds": (0,)})})
    plan = plan_of(study, settings=planned_settings(planned))
    only = as_planned(plan, study)
    assert {run.seed for run in only.runs} == {0}
    assert only.record.config.study.seeds == (0,)
    first, *_ = outcomes(plan, Report(study))
    assert first.planned == "0 of 7; these models: 7"  # one seed is no verdict
    percent = only.percent("original")
    assert percent["uniform_lr0.01"]["liver"] - percent["simple_lr0.01"]["liver"] == pytest.approx(29.9)


def test_the_page_says_whether_the_hash_holds(study: StudyResult) -> None:
    plan = plan_of(study)
    page = render_page(Report(study, plan=plan, plan_unchanged=True), [PLAN])
    assert plan.sha256 in page
    assert "does not have the SHA-256 or" in render_page(Report(study, plan=plan), [PLAN])
    assert "no plan from before its first run" in render_page(Report(study), [PLAN])


def test_a_fused_predictor_of_more_arms_is_none_of_the_plan(study: StudyResult) -> None:
    settings = planned_settings(study.record.config) | {"study.weightings": ["uniform"]}
    plan = plan_of(study, settings=settings, arms=("uniform_lr0.01",))
    with_fused = replace(study, fused=object())  # type: ignore[arg-type] # it is only passed on
    assert as_planned(plan, with_fused).fused is None
    assert as_planned(plan_of(study), with_fused).fused is not None


def test_planned_runs_that_failed_or_are_missing_are_not_as_planned(study: StudyResult) -> None:
    """Four runs were planned: one diverged and was scored, one has no scores, one was never trained."""
    failed = RunStatus(state="failed", step=131, iterations=300, message="the loss is nan")
    first, *_ = study.runs
    runs = (
        first,
        replace(study.runs[1], status=failed),
        replace(study.runs[2], scores=None),
        replace(study.runs[3], status=None, scores=None),
    )
    lacking = replace(study, runs=runs)
    found = {change.what: change for change in changes(plan_of(study, version=viscera.__version__), lacking)}
    assert list(found) == ["runs"]
    assert found["runs"].planned == "4"
    assert found["runs"].now == (
        "1 finished and scored; uniform, rate 0.01, seed 1 (failed, step 131); simple, rate 0.01, seed 0 (not scored); "
        "simple, rate 0.01, seed 1 (not trained)"
    )
    report = Report(lacking, plan=plan_of(study, version=viscera.__version__), plan_unchanged=True)
    said = words_of(report, PLAN)
    assert "are as planned" not in said
    assert "1 of 4 planned runs finished and scored" in said
    all_there = Report(study, plan=plan_of(study, version=viscera.__version__), plan_unchanged=True)
    assert "and every planned run is finished and scored" in words_of(all_there, PLAN)


def test_planned_runs_count_where_the_study_is_trained_on(study: StudyResult) -> None:
    """Planned to 300 steps, extended to 600, killed at 400: the planned runs are finished, the extended are not."""
    later = RunStatus(state="running", step=400, iterations=600)
    runs = tuple(replace(run, status=later, scores=None, earlier={300: run.scores or ()}) for run in study.runs)
    extended = replace(study, runs=runs, record=study.record.model_copy(update={"stages": (300, 600)}))
    assert [change.what for change in changes(plan_of(study), extended)] == ["iterations", "viscera"]
    assert as_planned(plan_of(study), extended).percent("original").equals(study.percent("original"))


def test_a_variant_of_other_settings_is_not_as_planned(study: StudyResult) -> None:
    planned = planned_settings(study.record.config) | {"study.variants": {"": {}, "big": {"train.batch_size": 4}}}
    grid = study.record.config.study.model_copy(update={"variants": {"": {}, "big": {"train.batch_size": 8}}})
    config = study.record.config.model_copy(update={"study": grid})
    other = replace(study, record=study.record.model_copy(update={"config": config}))
    found = changes(plan_of(study, version=viscera.__version__, settings=planned), other)
    assert ("variant big", "{train.batch_size: 4}", "{train.batch_size: 8}") in found


def test_verdicts_of_added_runs_lead_to_those_of_the_planned_ones(study: StudyResult) -> None:
    config = study.record.config
    planned = config.model_copy(update={"study": config.study.model_copy(update={"seeds": (0,)})})
    said = "Not all of these runs were planned before the first one: what the planned runs alone say ."
    for section in (COMPARISONS, CLAIMS_SECTION):
        assert said in words_of(Report(study, plan=plan_of(study, settings=planned_settings(planned))), section)
        assert said not in words_of(Report(study, plan=plan_of(study)), section)
        assert said not in words_of(Report(study), section)
