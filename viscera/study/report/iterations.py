"""A study trained on: scores at each number of iterations, where each arm would settle, whether that was right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from viscera.core.arms import FUSED, Arm
from viscera.study.report.settling import FEWEST_POINTS, Interval, Settling, settling, usable_points
from viscera.study.report.tables import class_percent, with_summary
from viscera.study.results import StudyResult, mean_defined

_OPEN = 0.25  # width of an interval, Dice, from which an estimate is no estimate


@dataclass(frozen=True)
class StageRow:
    """Mean Dice on the test cases of one arm or one organ of it, in per cent, at each stage; None: undefined."""

    title: str
    percents: tuple[float | None, ...]

    @property
    def change(self) -> float | None:
        """Points between the first and the last stage."""
        first, last = self.percents[0], self.percents[-1]
        return None if first is None or last is None else last - first

    @property
    def text(self) -> str:
        """`61.2 → 70.1`."""
        return " → ".join("–" if value is None else f"{value:.1f}" for value in self.percents)


@dataclass(frozen=True)
class SettlingRow:
    """Where one arm would settle, by its curve up to one stage; Dice on the training windows, texts in per cent.

    Attributes:
        title: of the arm.
        stage: iterations up to which the curve was read.
        measured: at that stage.
        limit: d∞ with its interval; or why there is none.
        later: the next stage; None after the last.
        forecast: for the next stage, with its interval; empty where there is none.
        outcome: measured at the next stage.
        verdict: whether the outcome lies in the forecast's interval; empty where there is none.
    """

    title: str
    stage: int
    measured: float | None
    limit: str
    later: int | None = None
    forecast: str = ""
    outcome: float | None = None
    verdict: str = ""


def stage_rows(study: StudyResult, grid: str) -> list[StageRow]:
    """Foreground mean of each arm, in the order of Table 1, and of the fused predictor, at each stage.

    Args:
        study: extended or not.
        grid: of the scores.
    """
    titles = {arm.name: arm.title for arm in study.arms}
    columns = [_foreground(study, grid, stage) for stage in study.record.all_stages]
    rows = [StageRow(title, tuple(column[name] for column in columns)) for name, title in titles.items()]
    if study.fused is not None:
        rows.append(StageRow("fused, best arm per organ", tuple(column.get(FUSED) for column in columns)))
    return rows


def organ_stages(study: StudyResult, grid: str) -> list[tuple[str, tuple[StageRow, ...]]]:
    """For each organ its title, and its mean Dice in each arm at each stage."""
    tables = [class_percent(at_stage(study, stage), grid) for stage in study.record.all_stages]
    return [
        (
            organ.title,
            tuple(
                StageRow(arm.title, tuple(_defined(float(table[arm.name][organ.name])) for table in tables))
                for arm in study.arms
            ),
        )
        for organ in study.classes.organs
    ]


def settling_rows(study: StudyResult) -> list[SettlingRow]:
    """For each arm and stage, where it would settle by its curve up to there, and what the next stage gave."""
    stages = study.record.all_stages
    nexts = (*stages[1:], None)
    return [
        _settling_row(study, arm, stage, later)
        for arm in study.arms
        for stage, later in zip(stages, nexts, strict=True)
    ]


def settling_sentence(rows: Sequence[SettlingRow]) -> str:
    """How many forecasts were right; empty where there was none."""
    judged = [row for row in rows if row.verdict]
    if not judged:
        return ""
    right = sum(row.verdict == "within" for row in judged)
    return (
        f"In {right} of {len(judged)} forecast{'' if len(judged) == 1 else 's'}, made from the earlier steps alone, "
        "the later Dice lies within the interval."
    )


def at_stage(study: StudyResult, stage: int) -> StudyResult:
    """The study with the scores of one stage; the last stage's are those it has."""
    if stage == study.record.all_stages[-1]:
        return study
    return replace(study, runs=tuple(replace(run, scores=run.earlier.get(stage)) for run in study.runs))


def arm_curve(study: StudyResult, arm: Arm, until: int) -> tuple[list[int], list[float]]:
    """Steps and mean foreground Dice on the training windows, 0 to 1, averaged over the seeds that came that far."""
    curves = []
    for run in study.runs_of(arm):
        means = {point.step: mean_defined(point.dice[1:]) for point in run.curve}
        if max(means, default=0) >= until:
            curves.append({step: mean for step, mean in means.items() if mean is not None and 0 < step <= until})
    if not curves:
        return [], []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return steps, [sum(curve[step] for curve in curves) / len(curves) for step in steps]


def _settling_row(study: StudyResult, arm: Arm, stage: int, later: int | None) -> SettlingRow:
    steps, values = arm_curve(study, arm, stage)
    measured = _percent(values[-1] if steps and steps[-1] == stage else None)
    row = SettlingRow(arm.title, stage, measured, _too_few(steps), later)
    found = settling(steps, values, later or stage) if steps else None
    if found is None:
        return row
    row = replace(row, limit=_interval(found.limit))
    if later is None:
        return row
    after, curve = arm_curve(study, arm, later)
    outcome = curve[-1] if after and after[-1] == later else None
    return replace(row, forecast=_interval(found.forecast), outcome=_percent(outcome), verdict=_verdict(found, outcome))


def _verdict(found: Settling, outcome: float | None) -> str:
    if outcome is None:
        return ""
    if found.forecast.holds(outcome):
        return "within"
    return "higher" if outcome > found.forecast.high else "lower"


def _too_few(steps: Sequence[int]) -> str:
    if not steps:
        return "no curve that far"
    return f"too few points ({len(usable_points(steps))} of at least {FEWEST_POINTS})"


def _interval(interval: Interval) -> str:
    low, high = 100 * interval.low, 100 * interval.high
    if interval.high - interval.low > _OPEN:
        return f"open [{low:.1f}, {high:.1f}]"
    return f"{100 * interval.value:.1f} [{low:.1f}, {high:.1f}]"


def _foreground(study: StudyResult, grid: str, stage: int) -> dict[str, float | None]:
    table = with_summary(class_percent(at_stage(study, stage), grid))
    means = {arm.name: _defined(float(table[arm.name]["FOREGROUND"])) for arm in study.arms}
    fused = study.fused
    if fused is not None:
        rows = fused.scores if stage == study.record.all_stages[-1] else fused.earlier.get(stage, ())
        dice = [row for row in rows if row.metric == "dice" and row.grid == grid]
        organs = [mean_defined(r.value for r in dice if r.organ == organ.name) for organ in study.classes.organs]
        means[FUSED] = _percent(mean_defined(organs))
    return means


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
