"""The section on the best model per organ: what validation promised against what test gave."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from viscera.core.arms import FUSED
from viscera.study.report.page_section import Report, Section
from viscera.study.report.table1_section import Table1, primary_table
from viscera.study.results import StudyResult, counted
from viscera.study.score_table import ScoreTable

_ROUNDING = 1e-4  # per cent: scores.csv holds six decimals
_SETTLED_BY = {
    "calibrated probabilities": "the one whose model is more probably right, as calibrated on those cases",
    "probabilities": "the more probable one",
    "weights": "the more probable one after a weight per organ",
    "weights and thresholds": "the more probable one after a weight and a threshold per organ",
}


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
    """One row per organ; none without a fused predictor.

    Args:
        study: scored.
        table: Table 1 with the column `fused`.
    """
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
        highest = _highest(study, table, organ.name)
        rows.append(
            FusionRow(
                organ=organ.title,
                taken_from=titles.get(choice.arm, choice.arm) + f", seed {choice.seed}" * several_seeds,
                validation_arm=None if choice.validation_dice is None else 100 * choice.validation_dice,
                validation_fused=None if validation.isna()[organ.name] else float(validation[organ.name]),
                test_arm=table.value(organ.name, choice.arm),
                test_fused=table.value(organ.name, FUSED),
                highest=f"{highest[1]}: {highest[0]:.1f}" if highest else "–",
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
    foreground, highest = table.value("FOREGROUND", FUSED), _highest(study, table, "FOREGROUND")
    if foreground is not None and highest is not None:
        test = (
            f"On the test cases the foreground mean of the fused predictor is {foreground:.1f} %; the highest of a "
            f"single arm is {highest[0]:.1f} % ({highest[1]}). {test}"
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


def _highest(study: StudyResult, table: Table1, row: str) -> tuple[float, str] | None:
    """The highest value of a row among the arms, and the arm's title."""
    values = [(value, arm.title) for arm in study.arms if (value := table.value(row, arm.name)) is not None]
    return max(values, key=lambda pair: pair[0], default=None)


def fused_sentences(report: Report) -> list[str]:
    """How it was chosen, whether it held on validation, and what it gave on test; empty without a fused predictor."""
    return fusion_sentences(report.study, primary_table(report))


def _values(report: Report) -> Mapping[str, object] | None:
    rows = fusion_rows(report.study, primary_table(report))
    return {"fusion": rows, "fusion_sentences": report.once(fused_sentences)} if rows else None


FUSED_SECTION = Section("fused", "Best arm per organ", _values)
