"""The section on the best model per organ: what validation promised against what test gave."""

from collections.abc import Mapping
from dataclasses import dataclass

from viscera.core.arms import FUSED
from viscera.study.report.page_section import Report, Section
from viscera.study.report.table1_section import Table1, primary_table
from viscera.study.results import StudyResult, counted
from viscera.study.score_table import ScoreTable

_ROUNDING = 1e-6  # scores.csv holds six decimals
_SETTLED_BY = {
    "calibrated probabilities": "the one whose model is more probably right, as calibrated on those cases",
    "probabilities": "the more probable one",
    "weights": "the more probable one after a weight per organ",
    "weights and thresholds": "the more probable one after a weight and a threshold per organ",
}


@dataclass(frozen=True)
class FusionRow:
    """One organ of the fused predictor; Dice in per cent, None where it is not known.

    Attributes:
        organ: title.
        taken_from: title of the arm, with the seed where the study has several.
        validation_arm, validation_fused: mean over the validation cases, of that arm and of the fused predictor.
        test_arm, test_fused: mean over the test cases.
        highest: the arm of the highest mean on the test cases, and that mean: known only afterwards.
    """

    organ: str
    taken_from: str
    validation_arm: float | None
    validation_fused: float | None
    test_arm: float | None
    test_fused: float | None
    highest: str

    @property
    def held(self) -> bool:
        """Whether it is at least as good as its best arm on validation, up to the rounding of the scores."""
        return (self.validation_fused or 0.0) >= (self.validation_arm or 0.0) - 100 * _ROUNDING


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
    conflicts = (
        f"Each organ comes from the arm of the highest mean Dice on {cases} (original grid); the test cases "
        f"had no say. A voxel that the models of several organs claim goes to {_SETTLED_BY[fused.record.settled_by]}."
    )
    below = [
        f"{row.organ} by {(row.validation_arm or 0) - (row.validation_fused or 0):.2f} points"
        for row in rows
        if not row.held
    ]
    promise = (
        f"On validation these organs are below their best single arm: {', '.join(below)}."
        if below
        else "On validation no organ is below its best single arm."
    )
    foreground, highest = table.value("FOREGROUND", FUSED), _highest(study, table, "FOREGROUND")
    if foreground is None or highest is None:
        return [conflicts, promise]
    gained = sum((row.test_fused or 0) >= (row.test_arm or 0) for row in rows)
    test = (
        f"On test the foreground mean of the fused predictor is {foreground:.1f} %; the highest of a single arm is "
        f"{highest[0]:.1f} % ({highest[1]}). {gained} of {len(rows)} organs are at least as good as in the arm they "
        "come from."
    )
    return [conflicts, promise, test]


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
