"""The best model per organ: one more column of Table 1, and what validation promised against what test gave."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from viscera.core.arms import FUSED
from viscera.io.scores import ScoreRow
from viscera.study.report.tables import Table1, with_summary
from viscera.study.results import FusedResult, StudyResult, mean_defined

_ROUNDING = 1e-6  # scores.csv holds six decimals
_SETTLED_BY = {
    "probabilities": "the more probable one",
    "weights": "the more probable one after a weight an organ",
    "weights and thresholds": "the more probable one after a weight and a threshold an organ",
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


def with_fused(table: Table1, study: StudyResult) -> Table1:
    """Table 1 with the column `fused` and its note; as it is where the study has no fused predictor."""
    fused = study.fused
    if fused is None:
        return table
    rows = [row for row in fused.scores if row.grid == table.grid]
    means = _class_percent(rows, study.classes.names)
    classes = pd.DataFrame({FUSED: list(means.values())}, list(means), dtype=float)
    percent = pd.concat([table.percent, with_summary(classes)], axis=1)
    note = (
        f"fused: one predictor that takes each organ from the arm that was best at it on {_cases(fused)}. The test "
        "cases had no say. It has no interval and no mark of significance: those compare the arms."
    )
    titles = (*table.titles, "fused, best arm per organ")
    return dataclasses.replace(table, percent=percent, titles=titles, footnotes=(*table.footnotes, note))


def fusion_rows(study: StudyResult, table: Table1) -> list[FusionRow]:
    """One row an organ; none without a fused predictor.

    Args:
        study: scored.
        table: Table 1 with the column `fused`.
    """
    fused = study.fused
    if fused is None:
        return []
    titles = {arm.name: arm.title for arm in study.arms}
    validation = _class_percent(fused.validation, study.classes.names)
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
                validation_fused=validation[organ.name],
                test_arm=_percent(table, organ.name, choice.arm),
                test_fused=_percent(table, organ.name, FUSED),
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
    conflicts = (
        f"Each organ comes from the arm of the highest mean Dice on {_cases(fused)} (original grid); the test cases "
        f"had no say. A voxel that the models of several organs claim goes to {_SETTLED_BY[fused.record.settled_by]}."
    )
    below = [
        f"{row.organ} by {(row.validation_arm or 0) - (row.validation_fused or 0):.2f} points"
        for row in rows
        if not row.held
    ]
    promise = (
        f"On validation these organs are below their best single arm, and no settings were found that change that: "
        f"{', '.join(below)}."
        if below
        else "On validation no organ is below its best single arm."
    )
    foreground, highest = _percent(table, "FOREGROUND", FUSED), _highest(study, table, "FOREGROUND")
    if foreground is None or highest is None:
        return [conflicts, promise]
    gained = sum((row.test_fused or 0) >= (row.test_arm or 0) for row in rows)
    test = (
        f"On test the foreground mean of the fused predictor is {foreground:.1f} %; the highest of a single arm is "
        f"{highest[0]:.1f} % ({highest[1]}). {gained} of {len(rows)} organs are at least as good as in the arm they "
        "come from."
    )
    return [conflicts, promise, test]


def _cases(fused: FusedResult) -> str:
    number = len(fused.record.chosen_on)
    return f"{number} validation case" + ("" if number == 1 else "s")


def _class_percent(rows: Sequence[ScoreRow], names: Sequence[str]) -> dict[str, float | None]:
    """Mean Dice in per cent by class, in the order of the names."""
    means = {name: mean_defined(r.value for r in rows if r.organ == name and r.metric == "dice") for name in names}
    return {name: None if mean is None else 100 * mean for name, mean in means.items()}


def _percent(table: Table1, row: str, column: str) -> float | None:
    """One value of Table 1; None where there is none, or it is undefined."""
    value = float(table.percent[column][row]) if column in table.percent else float("nan")
    return None if math.isnan(value) else value


def _highest(study: StudyResult, table: Table1, row: str) -> tuple[float, str] | None:
    """The highest value of a row among the arms, and the arm's title."""
    values = [(value, arm.title) for arm in study.arms if (value := _percent(table, row, arm.name)) is not None]
    return max(values, key=lambda pair: pair[0], default=None)
