"""Table 1: mean Dice per class and arm, its summary rows and its footnotes; as CSV, Markdown, LaTeX and cells."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.core.anatomy import CLASS_NAMES, CLASSES
from viscera.report.study import StudyResult, arm_title, mean_defined

SUMMARY_TITLES = {
    "AVG": "AVG, 8 classes with background",
    "MAX": "MAX, of 8 classes",
    "MIN": "MIN, of 8 classes",
    "FOREGROUND": "Foreground mean, 7 organs without background",
}
ROW_TITLES = {**{c.name: c.title for c in CLASSES}, **SUMMARY_TITLES}
DAGGER = "†"
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    DAGGER: r"\textsuperscript{\dag}",
    "–": "--",
}
_MARKDOWN = "\\`*_{}[]<>#|&"


class Cell(NamedTuple):
    """One printed value: its text, and whether it is the best of its row."""

    text: str
    bold: bool


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
        percent: (12, arms) rows: the eight classes, AVG, MAX, MIN, FOREGROUND; columns: names of arms; NaN: undefined.
        titles: of the columns, for people; arms that are not finished and scored carry a dagger.
        footnotes: what the dagger means for each such arm, and what was left out of the means; plain text.
    """

    grid: str
    percent: pd.DataFrame
    titles: tuple[str, ...]
    footnotes: tuple[str, ...] = ()

    def rows(self) -> list[TableRow]:
        """Rows as printed, one decimal as in the paper; an undefined value is a dash, the best of a row bold."""
        best = best_of_rows(self.percent).to_numpy()
        return [
            TableRow(name, ROW_TITLES[name], tuple(Cell(_printed(v), bool(b)) for v, b in zip(row, bold, strict=True)))
            for name, row, bold in zip(self.percent.index, self.percent.to_numpy(), best, strict=True)
        ]


def table1(study: StudyResult, grid: str) -> Table1:
    """Table 1 of a study on one grid, every arm of the plan in it."""
    unfinished = [
        f"{DAGGER} {arm_title(run.arm)}, seed {run.seed}: {standing}"
        for run in study.runs
        if (standing := run.standing())
    ]
    marked = {run.arm for run in study.runs if run.standing()}
    titles = tuple(arm_title(arm) + (f" {DAGGER}" if arm in marked else "") for arm in study.arms)
    footnotes = (*unfinished, *_unequal_cases(study, grid), *_absent_organs(study, grid))
    return Table1(grid, with_summary(class_percent(study, grid)), titles, footnotes)


def class_percent(study: StudyResult, grid: str) -> pd.DataFrame:
    """(8, arms) Dice in per cent: mean over seeds first, then over the cases where it is defined."""
    columns: dict[str, list[float]] = {}
    for arm in study.arms:
        dice = study.case_dice(arm, grid)
        means = (mean_defined(v for (_, organ), v in dice.items() if organ == name) for name in CLASS_NAMES)
        columns[arm.name] = [float("nan") if mean is None else 100 * mean for mean in means]
    return pd.DataFrame(columns, index=pd.Index(CLASS_NAMES, name="class"), dtype=float)


def with_summary(classes: pd.DataFrame) -> pd.DataFrame:
    """Append AVG, MAX, MIN over the eight classes and FOREGROUND, the mean over the organs, of what is defined.

    Args:
        classes: (8, arms) per cent, rows in the order of `core.anatomy`.
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


def to_csv(table: Table1) -> str:
    """`class` and one column an arm, per cent with four decimals, empty where undefined."""
    return table.percent.to_csv(float_format="%.4f", lineterminator="\n")


def to_markdown(table: Table1) -> str:
    """A pipe table and its footnotes; names are escaped."""
    frame = pd.DataFrame(
        [[_markdown(row.title), *(f"**{c.text}**" if c.bold else c.text for c in row.cells)] for row in table.rows()],
        columns=["Dice, per cent", *map(_markdown, table.titles)],
    )
    grid = frame.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * len(table.titles))
    notes = "".join(f"- {_markdown(note)}\n" for note in table.footnotes)
    return f"{grid}\n\n{notes}" if notes else f"{grid}\n"


def to_latex(table: Table1) -> str:
    r"""A `tabular` with `\hline` (no package needed) and its footnotes below; names are escaped."""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(table.titles)}}}",
        r"\hline",
        " & ".join(["Dice (\\%)", *map(_latex, table.titles)]) + r" \\",
        r"\hline",
    ]
    for row in table.rows():
        cells = (rf"\textbf{{{_latex(c.text)}}}" if c.bold else _latex(c.text) for c in row.cells)
        lines += [r"\hline"] if row.name == "AVG" else []
        lines.append(" & ".join([_latex(row.title), *cells]) + r" \\")
    lines += [r"\hline", r"\end{tabular}", *(rf"\par\noindent {_latex(note)}" for note in table.footnotes)]
    return "\n".join(lines) + "\n"


def _printed(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1f}"


def _markdown(text: str) -> str:
    return "".join("\\" + c if c in _MARKDOWN else c for c in " ".join(text.split()))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def _unequal_cases(study: StudyResult, grid: str) -> list[str]:
    """A note where the arms were scored on different cases, which makes their columns incomparable."""
    counts = {arm_title(arm): len({row.case for row in study.dice_rows(arm, grid)}) for arm in study.arms}
    scored = {title: count for title, count in counts.items() if count}
    if len(set(scored.values())) < 2:
        return []
    listed = ", ".join(f"{title} {count}" for title, count in scored.items())
    return [f"The arms were scored on different numbers of cases, so their columns are not comparable: {listed}."]


def _absent_organs(study: StudyResult, grid: str) -> list[str]:
    """How often each class was left out of a mean: absent from both truth and prediction."""
    notes: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    unit = "scored scans (cases times seeds)" if len(study.record.config.study.seeds) > 1 else "cases"
    for arm in study.arms:
        rows = study.dice_rows(arm, grid)
        total = Counter(row.organ for row in rows)
        undefined = Counter(row.organ for row in rows if row.value is None)
        for c in CLASSES:
            if undefined[c.name]:
                notes[c.title, undefined[c.name], total[c.name]].append(arm_title(arm))
    scored = sum(bool(study.dice_rows(arm, grid)) for arm in study.arms)
    return [
        f"{title}: absent from both truth and prediction in {undefined} of {total} {unit}, which are left out of its "
        f"mean, for {'every scored arm' if len(arms) == scored > 1 else '; '.join(arms)}."
        for (title, undefined, total), arms in sorted(notes.items())
    ]
