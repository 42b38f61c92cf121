"""The page of the null studies, of what `benchmarks.null_studies` wrote.

python -m benchmarks.null_studies_page
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.record import RESULTS
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "null-studies.md"
ALPHA = 0.05
FEWEST_HELD = 0.93  # of intervals that are to hold the truth in 95 %
Row = Mapping[str, Any]


def write_page() -> None:
    """Write the page of the newest result."""
    PAGE.write_text(page(json.loads((RESULTS / "null_studies.json").read_text())))


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    stars, verdicts, main = found["stars"], found["verdicts"], found["stars"][0]["scenario"]
    coverage, boots, alike = found["coverage"], found["bootstraps"], found["equivalence"]
    holes = [{**row, "missing": row["missing"].replace("%", " %")} for row in found["missing"]]
    of_main = [row for row in stars if row["scenario"] == main]
    studies = stars[0]["studies"]
    enough = [row for row in stars if row["seeds"] >= SEEDS_FOR_SETTINGS]
    wrong = [row for row in enough if row["now"] > limit(ALPHA, row["studies"])]
    enough_verdicts = [row for row in verdicts if row["now"] > limit(ALPHA, row["studies"])]
    held = [
        row for row in coverage for name in ("difference", "arm")
        if row["seeds"] == SEEDS_FOR_SETTINGS and row["patients"] in {8, 37} and row[name] < FEWEST_HELD
    ]  # fmt: skip
    return f"""# Null studies: how often the report is wrong where nothing differs

Simulated studies, not trainings and not patients. What the report tests with is [decision
0007](../decisions/0007-statistics.md); what claims are settled by, [0008](../decisions/0008-claim-ledger.md). Every
score is a mean, a patient, an arm with a patient, a seed (shared by all arms), an arm with a seed (*the luck of a
training*) and a rest; organs have half of each in common. "{main}": standard deviations of 10, 4, 2, 2 and 4 points.
The other scenarios change what their name says (`benchmarks/null_luck.py`).

## In short

- False stars at five seeds and more: at most {_percent(max(row["now"] for row in enough))} of the studies of a
  scenario, {_within(wrong)}. With fewer seeds there are none, since there is no verdict about settings.
- By the former rule, ranks with seeds averaged, "{main}" had a false star in {_range(of_main, "ranks", 37)} of
  studies of 37 patients.
- False verdicts on claims: at most {_percent(max(row["now"] for row in verdicts))}, {_within(enough_verdicts)}.
- 95 % intervals, five seeds, 8 and 37 patients: {_coverage_in_short(coverage, held)}
- Where scores are missing by chance: false stars in at most {_percent(max(row["now"] for row in holes))} (former rule:
  {_percent(max(row["former_now"] for row in holes))}), intervals of a difference that hold the truth in at least
  {_percent(min(row["difference"] for row in holes))} ({_percent(min(row["former_difference"] for row in holes))}).
- Claim 5, both rates equal, 37 patients: {_alike_in_short(alike)}

## False stars

Six arms that do not differ, seven organs, {studies:,} studies each: the share with *any* significant difference among
105. With 8 patients nothing can be significant among so many.

{_stars(of_main)}

*ranks*: Wilcoxon's test over patients, seeds averaged, Holm; the rule until 2026-11-30. *trainings*: the crossed
analysis alone, by Cochran and Cox's critical value; *Satterthwaite*: the same by Satterthwaite's degrees of freedom.
*now*: what the report does.

{_stars([row for row in stars if row["scenario"] != main], scenario=True)}

## False verdicts

Six claims of 1 to 6 parts (those of claims 1 to 6) whose true differences lie on the margin;
{verdicts[0]["studies"]:,} studies each; the share with any verdict.

{_table(verdicts, ("scenario", "patients", "seeds", "ranks", "now"))}

## Coverage of the 95 % intervals

Of the difference of two arms of the same seeds (`mean_low`, `mean_high`), and of an arm's mean (± of Table 1). With
one seed the interval is over patients alone, and the report says so: it does not hold the mean over trainings.

{_table([row for row in coverage if row["scenario"] == main], _OF_COVERAGE)}

{_table([row for row in coverage if row["scenario"] != main], ("scenario", "patients", "seeds", "difference", "arm"))}

Beside bootstraps of the difference: *former*, percentiles with seeds drawn for each arm; *paired*, percentiles with
the seeds of both; *bootstrap-t*, Student's t of paired draws. Widths in points.

{_boots(boots)}

The bootstrap-t is a little narrower where its coverage is right, and fails with two seeds. The report takes the closed
form.

## Where scores are missing

"{main}", {holes[0]["studies"]:,} studies of six arms each. A score that is missing counts as what its
patient and its training add to the mean, by least squares. *now*: the share of studies with any false star;
*of a difference*, *of an arm*: of 95 % intervals that hold the truth. *former*: by the rule until 2026-12-01, by which
a missing score counted as the mean of its patient's other trainings, which loses what the training adds.

{_table(holes, _OF_MISSING)}

Here scores are missing by chance. Where they are missing because of their value, as distances to an organ that was not
found, no rule brings them back.

## What claim 5 takes

The chance that it is supported where uniform weights are equally good at both rates. *former*: ranks, the 95 %
interval within ±3, as the only claim. *alone*: ranks, and the mean over patients and seeds, within ±5 by two
one-sided tests at 5 %, as the only claim (*simulated*: sign flips, too); *of five*: where it is the hardest of five
claims to show, at 1 %; *of five, ±3*: the same with the former margin.

{_table(alike, ("patients", "seeds", "former", "simulated", "alone", "of_five", "of_five_within_3"))}

## Where it fails, and what it is not

{_failures(stars, coverage)}
- *Rare large losses*: where one patient in twelve loses many points and the others gain a little, with equal means,
  ranks see a gain in {_range([row for row in stars if row["scenario"].startswith("rare")], "ranks", 37)} of studies of
  37 patients; the mean does not, {_range([row for row in stars if row["scenario"].startswith("rare")], "now", 37)}.
  A study in which no such patient was drawn knows nothing of them.
- It is careful: where a difference varies by patient *and* seed (the rest) more than by either, the share of false
  stars is far below 5 %, and so is the power. That is the price of the far tail at five seeds.
- Five seeds are a convention. The test itself is near its level from two or three seeds on, with intervals that are too
  wide to be of use.
- Scenarios are ours. A way of failing that is none of them may do worse.

Made by `python -m benchmarks.null_studies` ({found["date"]}, numpy {found["versions"]["numpy"]}, scipy
{found["versions"]["scipy"]}); the numbers are in benchmarks/results/null_studies.json. A share of 5 % has a standard
error of {100 * error(ALPHA, studies):.1f} points in {studies:,} studies.
"""


def error(share: float, studies: int) -> float:
    """Standard error of a simulated share."""
    return float((share * (1 - share) / studies) ** 0.5)


def limit(share: float, studies: int) -> float:
    """What a simulated share may reach by chance: three standard errors above."""
    return share + 3 * error(share, studies)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _within(wrong: Sequence[Row]) -> str:
    if not wrong:
        return "within the error of the simulation everywhere"
    where = "; ".join(f"{row['scenario']}, {row['patients']} patients, {row['seeds']} seeds" for row in wrong)
    return f"above 5 % by more than the error of the simulation in: {where}"


def _range(rows: Iterable[Row], name: str, patients: int) -> str:
    shares = [row[name] for row in rows if row["patients"] == patients]
    return f"{_percent(min(shares))} to {_percent(max(shares))}"


def _coverage_in_short(coverage: Sequence[Row], low: Sequence[Row]) -> str:
    shares = [
        row[name] for row in coverage for name in ("difference", "arm")
        if row["seeds"] == SEEDS_FOR_SETTINGS and row["patients"] in {8, 37}
    ]  # fmt: skip
    said = f"{_percent(min(shares))} to {_percent(max(shares))}"
    names = dict.fromkeys(f"{row['scenario']}, {row['patients']} patients" for row in low)
    return f"{said}; below 93 %: {'; '.join(names)}." if names else f"{said}, nowhere below 93 %."


def _alike_in_short(alike: Sequence[Row]) -> str:
    rows = [row for row in alike if row["patients"] == 37]
    by_seeds = ", ".join(f"{_percent(row['simulated'])} with {row['seeds']} seeds" for row in rows)
    return f"supported in {by_seeds}; by the former rule in {_percent(rows[0]['former'])} with {rows[0]['seeds']}."


def _failures(stars: Sequence[Row], coverage: Sequence[Row]) -> str:
    """Scenarios in which the report is wrong more often than it says, with five seeds or more."""
    lines = [
        f"- *{row['scenario'].capitalize()}*, {row['patients']} patients, {row['seeds']} seeds: false stars in "
        f"{_percent(row['now'])} of the studies. Five seeds cannot tell such luck from a difference of the arms."
        for row in stars
        if row["seeds"] >= SEEDS_FOR_SETTINGS and row["now"] > limit(ALPHA, row["studies"])
    ]
    lines += [
        f"- *{row['scenario'].capitalize()}*, {row['patients']} patients, {row['seeds']} seeds: the 95 % interval of "
        f"{what} holds the truth in {_percent(row[name])}, as what is rare is often missing among the seeds."
        for row in coverage
        for name, what in (("difference", "a difference"), ("arm", "an arm's mean"))
        if row["seeds"] >= SEEDS_FOR_SETTINGS and row[name] < FEWEST_HELD
    ]
    return "\n".join(lines)


_OF_COVERAGE = ("patients", "seeds", "difference", "difference_width", "arm", "arm_width")
_OF_MISSING = (
    "missing", "patients", "seeds", "former_now", "now", "former_difference", "difference", "arm",
)  # fmt: skip
_INTERVALS = {"report": "difference", "former": "former", "paired": "paired", "bootstrap-t": "bootstrap_t"}
_TITLES = {
    "of_five_within_3": "of five, ±3",
    "of_five": "of five",
    "satterthwaite": "Satterthwaite",
    "arm": "of an arm",
    "difference": "of a difference",
    "difference_width": "its width",
    "arm_width": "width",
    "former_now": "former: stars",
    "former_difference": "former: of a difference",
}


def _stars(rows: Sequence[Row], *, scenario: bool = False) -> str:
    shown = [{**row, "now": row["now"] if row["seeds"] >= SEEDS_FOR_SETTINGS else "none given"} for row in rows]
    names = ("patients", "seeds", "ranks", "trainings", "satterthwaite", "now")
    return _table(shown, ("scenario", *names) if scenario else names)


def _boots(rows: Sequence[Row]) -> str:
    shown = [
        {
            **{name: row[name] for name in ("scenario", "patients", "seeds")},
            **{title: f"{_percent(row[name])}, {row[f'{name}_width']:.1f}" for title, name in _INTERVALS.items()},
        }
        for row in rows
    ]
    return _table(shown, tuple(shown[0]))


def _table(rows: Sequence[Row], names: Sequence[str]) -> str:
    def cell(name: str, value: object) -> str:
        if not isinstance(value, float):
            return "" if value is None else str(value)
        return f"{value:.1f}" if name.endswith("width") else _percent(value)

    cells = [[cell(name, row[name]) for name in names] for row in rows]
    return tabulate(cells, [_TITLES.get(name, name) for name in names], tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    write_page()
