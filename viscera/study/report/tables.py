"""Table 1: mean Dice per class and arm, its summary rows, its marks and its footnotes, as printed cells."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.core.anatomy import ClassTable, title_of
from viscera.core.arms import Arm
from viscera.study.report.comparisons import ALPHA, Comparisons, compare
from viscera.study.report.spread import DRAWS, Spread, spread_of
from viscera.study.results import StudyResult, counted, mean_defined

DAGGER = "†"
NOT_APART = "≈"
_ABSENT = "absent from both truth and prediction"
_SUMMARY = ("AVG", "MAX", "MIN", "FOREGROUND")


class Cell(NamedTuple):
    """One printed value.

    Attributes:
        text: the mean.
        bold: whether it is the best of its row.
        spread: `±3.1`; empty where there is no interval.
        mark: ≈ where it is not significantly below the best of its row; empty elsewhere.
    """

    text: str
    bold: bool
    spread: str = ""
    mark: str = ""


class TableRow(NamedTuple):
    """One printed row: the class or summary (as in the CSV), its title for people, its cells."""

    name: str
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Table1:
    """Table 1 on one grid.

    Attributes:
        grid: `original` or `prepared`.
        percent: (L + 4, arms) rows: the classes, AVG, MAX, MIN, FOREGROUND; columns: names of arms; NaN: undefined.
        titles: of the columns, for people; arms that are not finished and scored carry a dagger.
        spread: bootstrap intervals of the means.
        not_apart: (L - 1, arms) per organ, whether an arm is not significantly below the best.
        footnotes: what ± and the marks mean, and what was left out of the means; plain text.
    """

    grid: str
    percent: pd.DataFrame
    titles: tuple[str, ...]
    spread: Spread
    not_apart: pd.DataFrame
    footnotes: tuple[str, ...] = ()

    def rows(self) -> list[TableRow]:
        """Rows as printed, one decimal as in the paper; an undefined value is a dash, the best of a row bold."""
        best = best_of_rows(self.percent).to_numpy()
        index, columns = self.percent.index, self.percent.columns
        half = self.spread.half_width().reindex(index=index, columns=columns).to_numpy()
        even = self.not_apart.reindex(index=index, columns=columns, fill_value=False).to_numpy()
        printed = zip(self.percent.index, self.percent.to_numpy(), best, half, even, strict=True)
        return [
            TableRow(
                name,
                row_title(name, len(self.percent) - len(_SUMMARY)),
                tuple(map(_cell, *(part.tolist() for part in of_row))),
            )
            for name, *of_row in printed
        ]


def row_title(name: str, num_classes: int) -> str:
    """A row's name for people, of a table of L classes."""
    summary = {
        "AVG": f"AVG, {num_classes} classes with background",
        "MAX": f"MAX, of {num_classes} classes",
        "MIN": f"MIN, of {num_classes} classes",
        "FOREGROUND": f"Foreground mean, {num_classes - 1} organs without background",
    }
    return summary.get(name) or title_of(name)


def table1(study: StudyResult, grid: str, compared: Comparisons | None = None) -> Table1:
    """Table 1 of a study on one grid, every arm of the plan in it.

    Args:
        study: finished or not.
        grid: `original` or `prepared`; an empty one where nothing is scored.
        compared: the tests behind the marks, of this grid; made here where None.
    """
    compared = compare(study, grid, ("dice",)) if compared is None else compared
    unfinished = [
        f"{DAGGER} {run.arm.title}, seed {run.seed}: {standing}" for run in study.runs if (standing := run.standing())
    ]
    marked = {run.arm for run in study.runs if run.standing()}
    titles = tuple(arm.title + (f" {DAGGER}" if arm in marked else "") for arm in study.arms)
    percent, spread = with_summary(class_percent(study, grid)), spread_of(study, grid)
    not_apart = not_apart_from_best(percent, compared, study.classes)
    legend = (*_spread_note(spread), *_mark_note(not_apart, compared))
    footnotes = (*unfinished, *legend, *_unequal_cases(study, grid), *_absent_organs(study, grid))
    return Table1(grid, percent, titles, spread, not_apart, footnotes)


def class_percent(study: StudyResult, grid: str) -> pd.DataFrame:
    """(L, arms) Dice in per cent: mean over seeds first, then over the cases where it is defined."""
    columns: dict[str, list[float]] = {}
    names = study.classes.names
    for arm in study.arms:
        dice = study.case_dice(arm, grid)
        means = (mean_defined(v for (_, organ), v in dice.items() if organ == name) for name in names)
        columns[arm.name] = [float("nan") if mean is None else 100 * mean for mean in means]
    return pd.DataFrame(columns, index=pd.Index(names, name="class"), dtype=float)


def with_summary(classes: pd.DataFrame) -> pd.DataFrame:
    """Append AVG, MAX, MIN over the classes and FOREGROUND, the mean over the organs, of what is defined.

    Args:
        classes: (L, arms) per cent, rows in label order.
    """
    summary = pd.DataFrame(
        {
            "AVG": classes.mean(axis=0),
            "MAX": classes.max(axis=0),
            "MIN": classes.min(axis=0),
            "FOREGROUND": classes.iloc[1:].mean(axis=0),
        }
    ).T
    table = pd.concat([classes, summary])
    table.index.name = "class"
    return table


def best_of_rows(percent: pd.DataFrame) -> pd.DataFrame:
    """Whether a value is the highest of its row at one decimal, as printed; equal ones share it."""
    printed = percent.round(1)
    return printed.eq(printed.max(axis=1), axis=0)


def foreground_percent(table: Table1, arm: Arm) -> float | None:
    """The FOREGROUND row of one arm; None where undefined."""
    value = float(table.percent[arm.name]["FOREGROUND"])
    return None if np.isnan(value) else value


def not_apart_from_best(percent: pd.DataFrame, compared: Comparisons, classes: ClassTable) -> pd.DataFrame:
    """(L - 1, arms) whether an arm was tested against its organ's highest mean, and no significant difference found."""
    tests = compared.dice()
    marks = pd.DataFrame(False, index=[organ.name for organ in classes.organs], columns=percent.columns)
    for organ in marks.index:
        means = percent.loc[organ].to_numpy()
        best = percent.columns[int(np.argmax(np.nan_to_num(means, nan=-1)))]
        found = (tests.get((organ, best, arm)) for arm in percent.columns)
        marks.loc[organ] = [t is not None and t.p_holm is not None and not t.significant for t in found]
    return marks


def _cell(value: float, bold: bool, half_width: float, not_apart: bool) -> Cell:
    spread = "" if np.isnan(half_width) else f"±{half_width:.1f}"
    return Cell("–" if np.isnan(value) else f"{value:.1f}", bold, spread, NOT_APART if not_apart else "")


def _spread_note(spread: Spread) -> list[str]:
    """What ± means; nothing where nothing carries it."""
    if spread.low.isna().to_numpy().all():
        return []
    over = "cases and seeds" if spread.seeds > 1 else "cases; what another seed would give is not in it"
    note = (
        f"±: half the width of the mean's 95 % bootstrap interval ({DRAWS:,} resamples) over {over}. With few cases "
        "such intervals are rather too narrow."
    )
    return [note]


def _mark_note(not_apart: pd.DataFrame, compared: Comparisons) -> list[str]:
    """What the mark means, or why there is none."""
    family = next((family for family in compared.families if family.metric == "dice"), None)
    if family is None:
        return []
    cases = counted(family.cases, "case")
    if not family.tests:
        return [f"No value carries a mark of significance: with {cases} there is no test."]
    if not not_apart.to_numpy().any():
        return []
    cannot = "" if family.can_show else f" With {cases} none could be significant, so it is no sign of equality."
    note = (
        f"{NOT_APART}: not significantly different from the highest mean of its organ (paired Wilcoxon test over "
        f"cases, p of {ALPHA} or more after Holm's correction over {counted(family.tests, 'test')}).{cannot}"
    )
    return [note]


def _unequal_cases(study: StudyResult, grid: str) -> list[str]:
    """A note where the arms were scored on different cases, which makes their columns incomparable."""
    counts = {arm.title: len({row.case for row in study.dice_rows(arm, grid)}) for arm in study.arms}
    scored = {title: count for title, count in counts.items() if count}
    if len(set(scored.values())) < 2:
        return []
    listed = ", ".join(f"{title} {count}" for title, count in scored.items())
    return [f"The arms were scored on different numbers of cases, so their columns are not comparable: {listed}."]


def _absent_organs(study: StudyResult, grid: str) -> list[str]:
    """How often each class was left out of a mean: absent from both truth and prediction, or not labelled."""
    notes: dict[tuple[str, str, int, int], list[str]] = defaultdict(list)
    not_labelled = study.record.unlabelled
    unit = "scored scans (cases times seeds)" if len(study.record.config.study.seeds) > 1 else "cases"
    for arm in study.arms:
        rows = study.dice_rows(arm, grid)
        total = Counter(row.organ for row in rows)
        undefined = Counter(
            (row.organ, "not labelled" if row.organ in not_labelled.get(row.case, ()) else _ABSENT)
            for row in rows
            if row.value is None
        )
        for (organ, why), number in undefined.items():
            notes[title_of(organ), why, number, total[organ]].append(arm.title)
    scored = sum(bool(study.dice_rows(arm, grid)) for arm in study.arms)
    return [
        f"{title}: {why} in {undefined} of {total} {unit}, which are left out of its mean, for "
        f"{'every scored arm' if len(arms) == scored > 1 else '; '.join(arms)}."
        for (title, why, undefined, total), arms in sorted(notes.items())
    ]
