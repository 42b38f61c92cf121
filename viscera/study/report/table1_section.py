"""Table 1: mean Dice per class and arm, summary rows, marks and footnotes; for the page, as CSV, Markdown and LaTeX."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.core.anatomy import title_of
from viscera.core.wording import counted
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.study.report.arm_spread import Spread
from viscera.study.report.comparisons import ALPHA, Comparisons, compare
from viscera.study.report.comparisons_section import (
    OrganFinding,
    organ_findings,
    primary_comparisons,
    too_few_cases,
)
from viscera.study.report.other_order import other_order
from viscera.study.report.page_section import PHANTOM, Content, Group, Report, Rows, Section, one_decimal
from viscera.study.results import StudyResult

DAGGER = "†"
NOT_APART = "≈"
_ABSENT = "absent from both reference and prediction"
_SUMMARY = ("AVG", "MAX", "MIN", "FOREGROUND")
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    DAGGER: r"\textsuperscript{\dag}",
    "–": "--",
    "±": r"$\pm$",
    NOT_APART: r"$\approx$",
}
_MARKDOWN = "\\`*_{}[]<>#|&"


class Cell(NamedTuple):
    """One printed value."""

    text: str  # the mean
    bold: bool  # whether it is the best of its row
    spread: str = ""  # as `Spread.text`; empty where there is no interval
    mark: str = ""  # ≈ where it is not significantly below the best of its row; empty elsewhere

    @property
    def markdown(self) -> str:
        """`**61.2** ±3.1 ≈`."""
        return " ".join(filter(None, (f"**{self.text}**" if self.bold else self.text, self.spread, self.mark)))

    @property
    def latex(self) -> str:
        """The same, interval and mark small."""
        text, small = _latex(self.text), _latex(self.spread + self.mark)
        return (rf"\textbf{{{text}}}" if self.bold else text) + (rf" {{\scriptsize {small}}}" if small else "")


class TableRow(NamedTuple):
    """One printed row: the class or summary (as in the CSV), its title for people, its cells."""

    name: str
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Table1:
    """Table 1 on one grid."""

    grid: str  # `original` or `prepared`
    percent: pd.DataFrame  # rows: the classes and the summary; columns: names of arms, then `fused`; NaN: undefined
    titles: tuple[str, ...]  # of the columns, for people; arms that are not finished and scored carry a dagger
    spread: Spread  # intervals of the means
    # organs and arms not significantly below the organ's best, where both have seeds enough for a verdict
    alike: frozenset[tuple[str, str]]
    footnotes: tuple[str, ...] = ()  # what ± and the marks mean, and what was left out of the means; plain text
    of_phantom: str = ""  # what the table's heading ends with, where the data are procedural

    def rows(self) -> list[TableRow]:
        """Rows as printed, one decimal as in the paper; an undefined value is a dash, the best of a row bold."""
        printed = self.percent.round(1)
        best = printed.eq(printed.max(axis=1), axis=0) & printed.gt(0)  # nothing is best at 0.0
        if lacking_organs(self.percent):
            best.loc[list(_SUMMARY)] = False  # means of different organs

        def cell(row: str, arm: str) -> Cell:
            mark = NOT_APART if (row, arm) in self.alike else ""
            return Cell(one_decimal(self.percent[arm][row]), bool(best[arm][row]), self.spread.text(row, arm), mark)

        rows = list(self.percent.index)
        titles = [row_title(row, num_organs(self.percent)) for row in rows]
        cells = [tuple(cell(row, arm) for arm in map(str, self.percent)) for row in rows]
        return list(map(TableRow, rows, titles, cells))


def num_organs(percent: pd.DataFrame) -> int:
    """How many organs any arm has a mean of, so that the summary is over them; all where none has one yet."""
    organs = percent.drop(index=["background", *_SUMMARY], errors="ignore")
    return int(organs.notna().any(axis=1).sum()) or len(organs)


def row_title(name: str, num_organs: int) -> str:
    """A row's name for people, of a table of so many organs and the background."""
    summary = {
        "AVG": f"AVG, {num_organs + 1} classes with background",
        "MAX": f"MAX, of {num_organs + 1} classes",
        "MIN": f"MIN, of {num_organs + 1} classes",
        "FOREGROUND": f"Foreground mean, {num_organs} organs without background",
    }
    return summary.get(name) or title_of(name)


def table1(study: StudyResult, grid: str, compared: Comparisons | None = None) -> Table1:
    """Table 1 of a study, finished or not, on one grid, every arm of the plan in it; `compared` is behind the marks."""
    compared = compare(study, grid, ("dice",)) if compared is None else compared
    standing = {(run.arm, run.seed): run.standing() for run in study.runs}
    unfinished = [f"{DAGGER} {arm.title}, seed {seed}: {why}" for (arm, seed), why in standing.items() if why]
    if len(unfinished) == len(standing) > 1 and len(set(standing.values())) == 1:
        unfinished = [f"{DAGGER} All {counted(len(standing), 'run')}: {next(iter(standing.values()))}"]
    if study.left_out:
        left_out = f"{DAGGER} Not trained to the end, or not scored, and so in no mean, test or claim of this report: "
        unfinished.insert(0, f"{left_out}{study.left_out}.")
    marked = {arm for (arm, _), why in standing.items() if why}
    titles = [arm.title + (f" {DAGGER}" if arm in marked else "") for arm in study.arms]
    percent, spread = compared.percent, compared.spread
    family = compared.family("dice")
    findings = organ_findings(compared) if family is not None and family.of_enough else []
    alike = frozenset(
        (found.organ, arm) for found in findings for arm in found.alike if arm not in found.with_few_seeds
    )
    legend = (
        _spread_note(study, spread),
        _mark_note(compared, {organ for organ, _ in alike}),
        other_order(compared),
        _few_seeds_note(study, findings),
        _unequal_cases(study, grid),
        _unequal_organs(study, percent),
    )
    footnotes = [*unfinished, *filter(None, legend), *_absent_organs(study, grid)]
    if study.fused is not None:
        titles.append("fused, best arm per organ")
        footnotes.append(
            f"fused: one predictor that takes each organ from the arm that was best at it on "
            f"{counted(study.fused.record.validation_cases, 'validation case')}. The test cases were not used. It has "
            "no interval and no mark of significance: those compare the arms."
        )
    return Table1(grid, percent, tuple(titles), spread, alike, tuple(footnotes), PHANTOM * study.phantom)


def to_csv(table: Table1) -> str:
    """`class` and one column per arm, per cent with four decimals, empty where undefined."""
    return table.percent.to_csv(float_format="%.4f", lineterminator="\n")


def to_markdown(table: Table1) -> str:
    """A pipe table and its footnotes; names are escaped."""
    frame = pd.DataFrame(
        [[_markdown(row.title), *(cell.markdown for cell in row.cells)] for row in table.rows()],
        columns=[_markdown(f"Dice, per cent{table.of_phantom}"), *map(_markdown, table.titles)],
    )
    grid = frame.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * len(table.titles))
    notes = "".join(f"- {_markdown(note)}\n" for note in table.footnotes)
    return f"{grid}\n\n{notes}" if notes else f"{grid}\n"


def to_latex(table: Table1) -> str:
    r"""A `tabular` with `\hline` (no package needed) and its footnotes below; names are escaped."""
    rows = [" & ".join([f"Dice (\\%){_latex(table.of_phantom)}", *map(_latex, table.titles)]) + r" \\", r"\hline"]
    for row in table.rows():
        rows += [r"\hline"] if row.name == "AVG" else []
        rows.append(" & ".join([_latex(row.title), *(cell.latex for cell in row.cells)]) + r" \\")
    begin = rf"\begin{{tabular}}{{l{'r' * len(table.titles)}}}"
    notes = (rf"\par\noindent {_latex(note)}" for note in table.footnotes)
    lines = [begin, r"\hline", *rows, r"\hline", r"\end{tabular}", *notes]
    return "\n".join(lines) + "\n"


def _spread_note(study: StudyResult, spread: Spread) -> str:
    """What ± means; nothing where nothing carries it."""
    numbers = {arm.title: spread.seeds[arm.name] for arm in study.arms if arm.name in spread.seeds}
    several = {title: number for title, number in numbers.items() if number > 1}
    over = "cases and seeds, both as drawn from many" if several else "cases"
    without = "" if several else "; the variation between seeds is not in it"
    note = f"±: half the width of the mean's 95 % interval (Student's t) over {over}{without}."
    if several and len(several) < len(numbers):
        alone = "; ".join(title for title in numbers if title not in several)
        note += f" Over cases alone, without the variation between seeds, of arms with one seed: {alone}."
    if spread.is_cut.to_numpy().any():
        note += " [from, to]: the interval itself, cut off at 0 or 100, where it would reach beyond."
    if off := [arm.title for arm in study.arms if arm.name in spread.off_centre and spread.off_centre[arm.name].any()]:
        note += " [from, to] also where seeds lack scores that others have: there a missing score counts as what its "
        note += "case and its seed add, so that the mean of the scores that there are is not the middle, and may lie "
        note += f"outside ({'; '.join(off)})."
    if few := {title: number for title, number in several.items() if number < SEEDS_FOR_SETTINGS}:
        which = "" if len(few) == len(numbers) else f" ({'; '.join(f'{title}: {n}' for title, n in few.items())})"
        note += f" It is wide with fewer than {SEEDS_FOR_SETTINGS} seeds{which}, which say little about the luck of "
        note += "training."
    return "" if spread.low.isna().to_numpy().all() else note


def _mark_note(compared: Comparisons, marked: Collection[str]) -> str:
    """What the mark means, of the organs that have it, or why there is none."""
    family = compared.family("dice")
    if family is None:
        return ""
    cases = counted(family.cases, "case")
    if not family.cases:
        return "No value carries a mark of significance: no two arms have a value for the same case."
    if not family.tests:
        return f"No value carries a mark of significance: with {cases} there is no test."
    if not family.of_enough:
        are = "is" if family.fewer_seeds == "1" else "are"
        return (
            "No value carries a mark of significance: a verdict about weightings and rates takes "
            f"{SEEDS_FOR_SETTINGS} seeds that both arms share, and there {are} {family.fewer_seeds}. How these models "
            "differ: see Comparisons."
        )
    cannot = f" With {cases} no difference could be significant, so the mark does not mean that they are equal."
    note = (
        f"{NOT_APART}: not significantly different from the highest mean of its organ (ranks and mean over cases, and "
        f"the mean over cases and seeds, must agree; p of {ALPHA} or more after Holm's correction over "
        f"{counted(family.tests, 'test')})."
    )
    if few := {organ: number for organ, number in too_few_cases(compared).items() if organ in marked}:
        listed = ", ".join(f"{title_of(organ)} {number}" for organ, number in few.items())
        few_cannot = f" So few cases have a value of some organs that no difference could be significant ({listed}): "
        few_cannot += "there the mark does not mean that they are equal."
        note += few_cannot if family.can_show else ""
    return note + ("" if family.can_show else cannot) if marked else ""


def _few_seeds_note(study: StudyResult, findings: Sequence[OrganFinding]) -> str:
    """Where a mark is missing for want of seeds; nothing where all arms have enough."""
    organs = {arm: [f.organ for f in findings if arm.name in f.with_few_seeds] for arm in study.arms}
    named = [
        arm.title + ("" if len(of) == len(findings) else f" ({', '.join(map(title_of, of))})")
        for arm, of in organs.items()
        if of
    ]
    return (
        f"No mark of significance, as they share fewer than {SEEDS_FOR_SETTINGS} seeds with the highest mean of the "
        f"organ: {'; '.join(named)}."
        if named
        else ""
    )


def lacking_organs(percent: pd.DataFrame) -> dict[str, list[str]]:
    """By name of arm, the organs that it has no mean of and some arm has; arms without any mean are left out."""
    organs = percent.drop(index=["background", *_SUMMARY], errors="ignore")
    scored = organs.loc[organs.notna().any(axis=1), organs.notna().any(axis=0)]
    missing = {str(arm): [str(organ) for organ in scored.index[scored[arm].isna()]] for arm in scored}
    return {arm: of for arm, of in missing.items() if of}


def unequal_organs(study: StudyResult, percent: pd.DataFrame) -> str:
    """Which arms' means are of fewer organs: `simple, rate 0.01 without gallbladder`; empty where none is."""
    lacking = lacking_organs(percent)
    titles = {arm.name: arm.title for arm in study.arms}
    return "; ".join(f"{titles.get(arm, arm)} without {', '.join(map(title_of, of))}" for arm, of in lacking.items())


def _unequal_organs(study: StudyResult, percent: pd.DataFrame) -> str:
    named = unequal_organs(study, percent)
    return named and (
        f"AVG, MAX, MIN and the foreground mean are of different organs, so that none of them is bold: {named}."
    )


def unequal_cases(study: StudyResult, grid: str) -> str:
    """On how many cases each column was scored: `simple, rate 0.01: 3`; empty where they are the same cases."""
    sample = study.scores.sample(grid, arms=study.scores.columns)
    scored = {arm: of for arm, of in zip(sample.arms, sample.scored, strict=True) if of.any()}
    titles = {arm.name: arm.title for arm in study.arms}
    listed = "; ".join(f"{titles.get(arm, arm)}: {of.sum()}" for arm, of in scored.items())
    return "" if all(of.all() for of in scored.values()) else listed


def _unequal_cases(study: StudyResult, grid: str) -> str:
    """A note where the arms were scored on different cases, which makes their columns incomparable."""
    listed = unequal_cases(study, grid)
    return listed and f"Not all were scored on the same cases, so the columns are not comparable. Cases: {listed}."


def _absent_organs(study: StudyResult, grid: str) -> list[str]:
    """How often each class was left out of a mean: absent from both reference and prediction, or not labelled."""
    unit = "scored scans (cases times seeds)" if study.seeds_of_arms[1] > 1 else "cases"
    rows = study.scores.of_arms("dice", grid)
    scored, total = rows["arm"].nunique(), rows.groupby(["organ", "arm"]).size().to_dict()
    empty = rows[rows["value"].isna()]
    missing = study.record.unlabelled
    labelled = [o not in missing.get(c, ()) for c, o in zip(empty["case"], empty["organ"], strict=True)]
    notes = []
    for (organ, why), found in empty.groupby(["organ", np.where(labelled, _ABSENT, "not labelled")]):
        title, numbers = title_of(str(organ)), defaultdict[str, list[str]](list)
        counts = found["arm"].value_counts()
        for arm in (arm for arm in study.arms if arm.name in counts):
            numbers[f"in {counts[arm.name]} of {total[organ, arm.name]} {unit}"].append(arm.title)
        where = [
            f"{number} for {'every scored arm' if len(arms) == scored > 1 else ' and '.join(arms)}"
            for number, arms in sorted(numbers.items())
        ]
        notes.append(f"{title}: {why}, and so left out of its mean, {'; '.join(where)}.")
    return notes


def _markdown(text: str) -> str:
    return "".join("\\" + c if c in _MARKDOWN else c for c in " ".join(text.split()))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def tables_of(report: Report) -> list[Table1]:
    """Table 1 on each scored grid, the primary one first; on an empty grid where nothing is scored."""
    primary = table1(report.study, report.grid, report.once(primary_comparisons))
    return [primary, *(table1(report.study, grid) for grid in report.study.grids[1:])]


def _files(report: Report) -> Mapping[str, Content]:
    files: dict[str, Content] = {}
    for number, table in enumerate(report.once(tables_of)):
        stem = f"table1_{table.grid}" if number else "table1"
        files |= {f"{stem}.csv": to_csv(table), f"{stem}.md": to_markdown(table), f"{stem}.tex": to_latex(table)}
        low, high = table.spread.low, table.spread.high
        percent = table.percent.loc[low.index, low.columns]
        files[f"{stem}_intervals.csv"] = Rows.of_tables(percent=percent, ci_low=low, ci_high=high)
    return files


TABLE1 = Section(
    "table1",
    "Table 1",
    lambda of: {"tables": of.once(tables_of)},
    _files,
    owns=("table1_prepared*",),
    group=Group.GLANCE,
    heading="Table 1: mean Dice on the test cases, per cent",
)
