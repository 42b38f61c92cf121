"""What the page says in words and small tables: summary, gap, flags, best arm per organ, cost, settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from viscera.core.arms import FUSED, arm_config
from viscera.engine.trust import failures_among
from viscera.io.runlog import RunStatus
from viscera.metrics.learning import BATCH_NORM_GAP, FAILED_DICE, LoggedStep, batch_norm_remedy
from viscera.study.report.claim_rules import SEEDS_FOR_CONCLUSIONS
from viscera.study.report.curves_section import has_validation
from viscera.study.report.page_section import Report, Section
from viscera.study.report.table1_section import Table1, primary_table
from viscera.study.results import StudyResult, counted, mean_defined
from viscera.study.score_table import ScoreTable

_ROUNDING = 1e-4  # per cent: scores.csv holds six decimals
_SETTLED_BY = {
    "calibrated probabilities": "the one whose model is more probably right, as calibrated on those cases",
    "probabilities": "the more probable one",
    "weights": "the more probable one after a weight per organ",
    "weights and thresholds": "the more probable one after a weight and a threshold per organ",
}
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


class CostRow(NamedTuple):
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
        seconds = self.hours * 3600
        minutes = f"{seconds / 60:.1f} min" if seconds < 5400 else f"{self.hours:.1f} h"
        return "–" if not self.runs else f"{seconds:.0f} s" if seconds < 90 else minutes


def gap_rows(study: StudyResult, table: Table1) -> list[GapRow]:
    """One row per arm, in the order of Table 1."""
    rows = []
    for arm in study.arms:
        runs = study.runs_of(arm)
        means = (mean_defined(run.last_dice(validation=on) for run in runs) for on in (False, True))
        training, validation = (None if dice is None else 100 * dice for dice in means)
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
    costs = f"Running statistics of batch normalisation cost no arm more than {100 * BATCH_NORM_GAP:g} points of Dice."
    if lost:
        costs = (
            "Running statistics of batch normalisation lower the Dice on the training windows, against the statistics "
            f"of each batch: {'; '.join(lost)}. These models may be better than their scores. "
            f"{batch_norm_remedy('running')}"
        )
    return [costs] if lost or kept else []


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
        per_step, hardware = seconds / steps if steps else None, "; ".join(distinct(statuses, _machine))
        memory_gib = memory_mib / 1024 or None
        rows.append(CostRow(arm.title, len(statuses), steps, seconds / 3600, per_step, hardware, memory_gib))
    return rows


def headline(study: StudyResult, table: Table1) -> list[str]:
    """What came out, in a few sentences; wordings claim nothing beyond the numbers."""
    means = [(m, arm) for arm in study.arms if (m := table.foreground(arm)) is not None]
    if not means:
        return [f"None of the {len(study.arms)} arms has scores yet."]
    ranked = sorted(means, key=lambda pair: -pair[0])
    of = {arm: f"{mean:.1f}\N{NO-BREAK SPACE}%" for mean, arm in means}
    (best, arm), (_, last) = ranked[0], ranked[-1]
    cases = counted(len(study.scores.cases(table.grid)), "phantom test case" if study.phantom else "test case")
    sentences = [f"Highest mean foreground Dice: {of[arm]} with {arm.title} ({cases}, {table.grid} grid)."]
    if len(ranked) > 1:
        second, runner_up = ranked[1]
        others = f"Next comes {runner_up.title} with {of[runner_up]}, {best - second:.1f} points below"
        sentences.append(others + (f"; lowest is {last.title} with {of[last]}." if len(ranked) > 2 else "."))
    missing = len(study.arms) - len(ranked)
    if missing:
        sentences.append(f"{missing} of {len(study.arms)} arms have no scores; the notes of Table 1 say why.")
    return [*sentences, *caution(study)]


def caution(study: StudyResult) -> list[str]:
    """How far the numbers carry, by the number of seeds."""
    seeds = len(study.record.config.study.seeds)
    sentence = (
        f"Each arm was planned with {counted(seeds, 'seed')}: conclusions are about these models, not about the "
        f"weightings in general. That would take {SEEDS_FOR_CONCLUSIONS} seeds per arm or more."
    )
    return [] if seeds >= SEEDS_FOR_CONCLUSIONS else [sentence]


def distinct(statuses: Sequence[RunStatus], text: Callable[[RunStatus], str]) -> list[str]:
    """The different texts, in order of appearance, without empty ones."""
    return list(dict.fromkeys(t for status in statuses if (t := text(status))))


def _machine(status: RunStatus) -> str:
    threads = f", {counted(status.threads, 'thread')}" if status.threads else ""
    return f"{status.device}: {status.hardware}{threads}" if status.hardware else status.device


class FusionRow(NamedTuple):
    """One organ of the fused predictor; mean Dice in per cent, None where it is not known."""

    organ: str  # title
    taken_from: str  # title of the arm, with the seed where the study has several
    validation_arm: float | None  # over the validation cases, of that arm
    validation_fused: float | None
    test_arm: float | None  # over the test cases
    test_fused: float | None
    highest: str  # the arm of the highest mean on the test cases, and that mean: known only afterwards


def fusion_rows(study: StudyResult, table: Table1) -> list[FusionRow]:
    """One row per organ, with Table 1 as it has the column `fused`; none without a fused predictor."""
    fused = study.fused
    if fused is None:
        return []
    titles = {arm.name: arm.title for arm in study.arms}
    promised = ScoreTable.of([(FUSED, 0, fused.validation)], [FUSED], [0], study.classes.names)
    validation = promised.class_percent("original")[FUSED]
    several_seeds = len(study.record.config.study.seeds) > 1
    rows = []
    for organ in study.classes.organs:
        choice = fused.record.organs[organ.name]
        mean, arm = _highest(study, table, organ.name)
        rows.append(
            FusionRow(
                organ=organ.title,
                taken_from=titles.get(choice.arm, choice.arm) + f", seed {choice.seed}" * several_seeds,
                validation_arm=None if choice.validation_dice is None else 100 * choice.validation_dice,
                validation_fused=None if validation.isna()[organ.name] else float(validation[organ.name]),
                test_arm=table.value(organ.name, choice.arm),
                test_fused=table.value(organ.name, FUSED),
                highest=f"{arm}: {mean:.1f}" if arm else "–",
            )
        )
    return rows


def fusion_sentences(study: StudyResult, table: Table1) -> list[str]:
    """How it was chosen, whether it held on validation, and what it gave on test."""
    fused = study.fused
    if fused is None:
        return []
    rows = fusion_rows(study, table)
    cases = counted(len(fused.record.chosen_on), "validation case")
    winner = _SETTLED_BY.get(fused.record.settled_by, "the more probable one")
    conflicts = (
        f"Each organ comes from the arm of the highest mean Dice on {cases} (original grid); the test cases were not "
        f"used. A voxel that the models of several organs claim goes to {winner}."
    )
    promise = _against_arm("validation", [(row.organ, row.validation_fused, row.validation_arm) for row in rows])
    test = _against_arm("test", [(row.organ, row.test_fused, row.test_arm) for row in rows])
    foreground, (highest, arm) = table.value("FOREGROUND", FUSED), _highest(study, table, "FOREGROUND")
    if foreground is not None and arm:
        test = (
            f"On the test cases the foreground mean of the fused predictor is {foreground:.1f} %; the highest of a "
            f"single arm is {highest:.1f} % ({arm}). {test}"
        )
    return [conflicts, promise, test]


def _against_arm(cases: str, organs: Sequence[tuple[str, float | None, float | None]]) -> str:
    """Which organs (title, fused, its arm) are below the arm that they come from."""
    known = [(title, arm - fused) for title, fused, arm in organs if fused is not None and arm is not None]
    if not known:
        return f"No organ can be compared with its arm on the {cases} cases, for want of scores."
    below = [f"{title} by {lost:.2f} points" for title, lost in known if lost > _ROUNDING]
    if not below:
        return f"On the {cases} cases no organ is below the arm that it comes from."
    are = "is" if len(below) == 1 else "are"
    of = f"{len(below)} of {counted(len(known), 'organ')}"
    return f"On the {cases} cases {of} {are} below the arm of origin: {', '.join(below)}."


def _highest(study: StudyResult, table: Table1, row: str) -> tuple[float, str]:
    """The highest value of a row among the arms, and the arm's title; empty where there is none."""
    values = [(value, arm.title) for arm in study.arms if (value := table.value(row, arm.name)) is not None]
    return max(values, key=lambda pair: pair[0], default=(0.0, ""))


class TrustRow(NamedTuple):
    """One arm, over its seeds, test cases and organs: how many are (un)flagged, and how many of those fail."""

    title: str
    unflagged: int
    unflagged_failed: int
    flagged: int
    flagged_failed: int


def trust_rows(study: StudyResult, grid: str) -> list[TrustRow]:
    """The arms whose predictions were measured, in the order of Table 1; an organ counts where its Dice is defined."""
    found = []
    for arm in study.arms:
        scored = [(run, row) for run in study.runs_of(arm) for row in run.scores or () if row.metric == "dice"]
        of_grid = [(run.reasons.get((row.case, row.organ)), row.value) for run, row in scored if row.grid == grid]
        known = [(dice, bool(why)) for why, dice in of_grid if dice is not None and why is not None]
        if known:
            failed, trusted, failed_flagged, distrusted = failures_among(*map(list, zip(*known, strict=True)))
            found.append(TrustRow(arm.title, trusted, failed, distrusted, failed_flagged))
    return found


def trust_sentence(rows: list[TrustRow]) -> str:
    """Over all arms, in one sentence."""
    unflagged, flagged = sum(row.unflagged for row in rows), sum(row.flagged for row in rows)
    failed, failed_flagged = sum(row.unflagged_failed for row in rows), sum(row.flagged_failed for row in rows)

    def percent(part: int, whole: int) -> str:
        return f"{100 * part / whole:.0f} %" if whole else "none"

    return (
        f"Among {unflagged:,} unflagged organs of the test cases {percent(failed, unflagged)} have a Dice below "
        f"{FAILED_DICE:g}; among {flagged:,} flagged ones {percent(failed_flagged, flagged)}."
    )


def flagged_organs(reasons: Mapping[tuple[str, str], tuple[str, ...]], case: str) -> tuple[str, ...]:
    """Names of the flagged organs of a case."""
    return tuple(organ for (of, organ), why in reasons.items() if of == case and why)


def _summary_values(report: Report) -> Mapping[str, object]:
    problems = [*report.problems, *[_OTHER_CLASSES] * (not report.study.has_papers_classes)]
    said = [*headline(report.study, primary_table(report)), *batch_norm_losses(report.study)]
    return {"headline": said, "fused": report.once(_fused_values)["fusion_sentences"][-1:], "problems": problems}


def _fused_values(report: Report) -> dict[str, list[Any]]:
    study, table = report.study, primary_table(report)
    return {"fusion": fusion_rows(study, table), "fusion_sentences": fusion_sentences(study, table)}


def _trust_values(report: Report) -> Mapping[str, object] | None:
    rows = trust_rows(report.study, report.grid)
    return {"trust": rows, "trust_sentence": trust_sentence(rows)} if rows else None


def _gap_values(report: Report) -> Mapping[str, object]:
    rows, losses = gap_rows(report.study, primary_table(report)), batch_norm_losses(report.study)
    return {"gaps": rows, "batch_norm": losses, "has_validation": has_validation(report.study)}


def _settings_values(report: Report) -> Mapping[str, object]:
    statuses = [run.status for run in report.study.runs if run.status is not None]
    return {
        "cases_scored": len(report.study.scores.cases()),
        "hardware": distinct(statuses, _machine),
        "versions": distinct(statuses, lambda status: ", ".join(map(" ".join, status.versions.items()))),
    }


SUMMARY = Section("summary", "Summary", _summary_values)
GAP = Section("gap", "Training and test", _gap_values)
TRUST = Section("trust", "When not to trust", _trust_values)
FUSED_SECTION = Section("fused", "Best arm per organ", lambda of: of.once(_fused_values) if of.study.fused else None)
COST = Section("cost", "Cost", lambda report: {"costs": cost_rows(report.study)})
SETTINGS = Section("settings", "How it was made", _settings_values)
