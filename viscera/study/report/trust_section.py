"""What the flags of `measurements.csv` were worth: Dice on the test cases with and without one."""

from collections.abc import Mapping
from dataclasses import dataclass

from viscera.core.arms import Arm
from viscera.engine.trust import failures_among
from viscera.metrics.learning import FAILED_DICE
from viscera.study.report.page_section import Report, Section
from viscera.study.results import StudyResult


@dataclass(frozen=True)
class TrustRow:
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
        dice, flagged = _scored(study, arm, grid)
        if dice:
            failed, trusted, failed_flagged, distrusted = failures_among(dice, flagged)
            found.append(TrustRow(arm.title, trusted, failed, distrusted, failed_flagged))
    return found


def trust_sentence(rows: list[TrustRow]) -> str:
    """Over all arms, in one sentence."""
    unflagged, flagged = sum(row.unflagged for row in rows), sum(row.flagged for row in rows)
    failed, failed_flagged = sum(row.unflagged_failed for row in rows), sum(row.flagged_failed for row in rows)
    return (
        f"Among {unflagged:,} unflagged organs of the test cases {_percent(failed, unflagged)} have a Dice below "
        f"{FAILED_DICE:g}; among {flagged:,} flagged ones {_percent(failed_flagged, flagged)}."
    )


def flagged_organs(reasons: Mapping[tuple[str, str], tuple[str, ...]], case: str) -> tuple[str, ...]:
    """Names of the flagged organs of a case."""
    return tuple(organ for (of, organ), why in reasons.items() if of == case and why)


def _scored(study: StudyResult, arm: Arm, grid: str) -> tuple[list[float], list[bool]]:
    dice, flagged = [], []
    for run in study.runs_of(arm):
        for row in run.scores or ():
            reasons = run.reasons.get((row.case, row.organ))
            if row.metric == "dice" and row.grid == grid and row.value is not None and reasons is not None:
                dice.append(row.value)
                flagged.append(bool(reasons))
    return dice, flagged


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"


def _values(report: Report) -> Mapping[str, object] | None:
    rows = trust_rows(report.study, report.grid)
    return {"trust": rows, "trust_sentence": trust_sentence(rows)} if rows else None


TRUST = Section("trust", "When not to trust", _values)
