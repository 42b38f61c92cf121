"""What the page says in words and small tables: the summary, the gap between training and test, cost, settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from viscera.core.arms import arm_config
from viscera.io.runlog import RunStatus
from viscera.metrics.learning import BATCH_NORM_GAP, LoggedStep, batch_norm_remedy
from viscera.study.report.claim_rules import SEEDS_FOR_CONCLUSIONS
from viscera.study.report.curves_section import has_validation
from viscera.study.report.fusion_section import fused_sentences
from viscera.study.report.page_section import Report, Section
from viscera.study.report.table1_section import Table1, primary_table
from viscera.study.results import StudyResult, counted, mean_defined

_OTHER_CLASSES = (
    "The paper's claims and its Table 1 are left out: they are about its eight classes, and this study has others."
)


class GapRow(NamedTuple):
    """Mean foreground Dice of one arm in per cent, averaged over its seeds; None where it is not known."""

    title: str
    training: float | None
    validation: float | None
    test: float | None
    gap: float | None  # training minus test, in points


@dataclass(frozen=True)
class CostRow:
    """What one arm cost."""

    title: str
    runs: int  # runs, steps: runs with a run.json, and their steps altogether
    steps: int
    hours: float  # training time, altogether
    seconds_per_step: float | None  # over all steps; None before the first
    hardware: str  # of every run, distinct ones
    peak_memory_gib: float | None  # the largest of the runs; None where it was not measured

    @property
    def time(self) -> str:
        """For people: hours, minutes or seconds, whichever fits."""
        if not self.runs:
            return "–"
        seconds = self.hours * 3600
        if seconds < 90:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{self.hours:.1f} h"


def gap_rows(study: StudyResult, table: Table1) -> list[GapRow]:
    """One row per arm, in the order of Table 1."""
    rows = []
    for arm in study.arms:
        training = _percent(mean_defined(run.last_dice() for run in study.runs_of(arm)))
        validation = _percent(mean_defined(run.last_dice(validation=True) for run in study.runs_of(arm)))
        test = table.foreground(arm)
        gap = None if training is None or test is None else training - test
        rows.append(GapRow(arm.title, training, validation, test, gap))
    return rows


def batch_norm_losses(study: StudyResult) -> list[str]:
    """What running statistics of batch normalisation cost each arm that has them; nothing where it was not logged.

    Dice on the training windows at the last logged step, mean over organs and seeds, as the network is applied and by
    the statistics of each batch of windows.
    """
    lost, kept = list[str](), list[str]()
    for arm in study.arms:
        if arm_config(study.record.config, arm, 0).train.batch_norm == "running":
            logged = [point.logged for run in study.runs_of(arm) for point in run.curve[-1:]]
            pairs = [_both_statistics(step, study) for step in logged if step.dice_batch_statistics]
            own, batch = (mean_defined(side) for side in zip(*pairs, strict=True)) if pairs else (None, None)
            if own is not None and batch is not None:
                worse = f"{arm.title} by {100 * (batch - own):.0f} points (Dice {own:.2f} instead of {batch:.2f})"
                (lost if batch - own > BATCH_NORM_GAP else kept).append(worse)
    if not lost and not kept:
        return []
    if not lost:
        return [
            f"Running statistics of batch normalisation cost no arm more than {100 * BATCH_NORM_GAP:g} points of Dice."
        ]
    sentence = (
        "Running statistics of batch normalisation lower the Dice on the training windows, against the statistics of "
        f"each batch: {'; '.join(lost)}. These models may be better than their scores. {batch_norm_remedy('running')}"
    )
    return [sentence]


def _both_statistics(step: LoggedStep, study: StudyResult) -> tuple[float | None, float | None]:
    """Mean over the organs as the network is applied, and by the statistics of each batch."""
    names = [organ.name for organ in study.classes.organs if step.dice_batch_statistics.get(organ.name) is not None]
    return mean_defined(map(step.dice.get, names)), mean_defined(map(step.dice_batch_statistics.get, names))


def cost_rows(study: StudyResult) -> list[CostRow]:
    """One row per arm, in the order of Table 1."""
    rows = []
    for arm in study.arms:
        statuses = [run.status for run in study.runs_of(arm) if run.status is not None]
        steps, seconds = sum(s.step for s in statuses), sum(s.wall_seconds for s in statuses)
        memory_mib = max((s.peak_memory_mib for s in statuses), default=0.0)
        rows.append(
            CostRow(
                title=arm.title,
                runs=len(statuses),
                steps=steps,
                hours=seconds / 3600,
                seconds_per_step=seconds / steps if steps else None,
                hardware="; ".join(distinct(statuses, _machine)),
                peak_memory_gib=memory_mib / 1024 or None,
            )
        )
    return rows


def headline(study: StudyResult, table: Table1) -> list[str]:
    """What came out, in a few sentences; wordings claim nothing beyond the numbers."""
    means = [(m, arm) for arm in study.arms if (m := table.foreground(arm)) is not None]
    if not means:
        return [f"None of the {len(study.arms)} arms has scores yet."]
    ranked = sorted(means, key=lambda pair: -pair[0])
    best, arm = ranked[0]
    cases = len(study.scores.cases(table.grid))
    on = f"{counted(cases, 'phantom test case' if study.phantom else 'test case')}, {table.grid} grid"
    sentences = [f"Highest mean foreground Dice: {_points(best)} with {arm.title} ({on})."]
    if len(ranked) > 1:
        second, runner_up = ranked[1]
        lowest, last = ranked[-1]
        others = f"Next comes {runner_up.title} with {_points(second)}, {best - second:.1f} points below"
        lowest_of = f"; lowest is {last.title} with {_points(lowest)}." if len(ranked) > 2 else "."
        sentences.append(others + lowest_of)
    missing = len(study.arms) - len(ranked)
    if missing:
        sentences.append(f"{missing} of {len(study.arms)} arms have no scores; the notes of Table 1 say why.")
    return [*sentences, *caution(study)]


def caution(study: StudyResult) -> list[str]:
    """How far the numbers carry, by the number of seeds."""
    seeds = len(study.record.config.study.seeds)
    if seeds >= SEEDS_FOR_CONCLUSIONS:
        return []
    sentence = (
        f"Each arm was planned with {counted(seeds, 'seed')}: conclusions are about these models, not about the "
        f"weightings in general. That would take {SEEDS_FOR_CONCLUSIONS} seeds per arm or more."
    )
    return [sentence]


def distinct(statuses: Sequence[RunStatus], text: Callable[[RunStatus], str]) -> list[str]:
    """The different texts, in order of appearance, without empty ones."""
    return list(dict.fromkeys(t for status in statuses if (t := text(status))))


def _machine(status: RunStatus) -> str:
    threads = f", {counted(status.threads, 'thread')}" if status.threads else ""
    return f"{status.device}: {status.hardware}{threads}" if status.hardware else status.device


def _versions(status: RunStatus) -> str:
    return ", ".join(f"{name} {version}" for name, version in status.versions.items())


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _points(percent: float) -> str:
    return f"{percent:.1f}\N{NO-BREAK SPACE}%"


def _summary_values(report: Report) -> Mapping[str, object]:
    problems = [*report.problems, *[_OTHER_CLASSES] * (not report.study.has_papers_classes)]
    sentences = report.once(fused_sentences)[-1:]
    return {
        "headline": [*headline(report.study, primary_table(report)), *batch_norm_losses(report.study)],
        "fused": sentences,
        "problems": problems,
    }


def _gap_values(report: Report) -> Mapping[str, object]:
    return {
        "gaps": gap_rows(report.study, primary_table(report)),
        "batch_norm": batch_norm_losses(report.study),
        "has_validation": has_validation(report.study),
    }


def _settings_values(report: Report) -> Mapping[str, object]:
    statuses = [run.status for run in report.study.runs if run.status is not None]
    return {
        "cases_scored": len(report.study.scores.cases()),
        "hardware": distinct(statuses, _machine),
        "versions": distinct(statuses, _versions),
    }


SUMMARY = Section("summary", "Summary", _summary_values)
GAP = Section("gap", "Training and test", _gap_values)
COST = Section("cost", "Cost", lambda report: {"costs": cost_rows(report.study)})
SETTINGS = Section("settings", "How it was made", _settings_values)
