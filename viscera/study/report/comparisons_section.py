"""The section "Comparisons": a sentence per metric, the best arm of each organ, the standing of each arm."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import NamedTuple

from viscera.io.scores import metric_title
from viscera.metrics.statistics import pairs_needed, smallest_p
from viscera.study.report.comparisons import ALPHA, DRAWS, Comparison, Comparisons, Family
from viscera.study.report.page_section import Content, Report, Rows, Section
from viscera.study.report.table1_section import Table1, primary_comparisons, primary_table
from viscera.study.results import StudyResult, counted, signed

_NAMED = 3  # arms that a cell names before it counts the rest


class OrganFinding(NamedTuple):
    """The arm of highest mean Dice on one organ against the others."""

    organ: str  # title
    best: str  # title of that arm
    percent: float  # its mean
    next_best: str  # title of the arm whose mean comes next; empty where there is none
    lead: str  # Hodges-Lehmann difference of the two in points with its interval, as text
    not_apart: str  # arms that are not significantly different from the best, as text
    below: int  # how many arms are significantly below it
    tested: int  # how many arms it was tested against


class ArmStanding(NamedTuple):
    """One arm among the others."""

    title: str  # of the arm
    foreground: str  # mean foreground Dice with its interval, as text
    rank: int  # by that mean
    ranks: str  # those that it holds in 95 % of the resamples, as text
    first: str  # share of the resamples in which it is first, as text
    better: int  # better, worse: tests, over organs and other arms, in which it is significantly higher or lower
    worse: int
    tests: int  # how many there are


def organ_findings(study: StudyResult, table: Table1, compared: Comparisons) -> list[OrganFinding]:
    """One per organ that any arm has a mean of."""
    titles = {arm.name: arm.title for arm in study.arms}
    tests = compared.dice()
    findings = []
    for organ in study.classes.organs:
        means = {arm: mean for arm in titles if (mean := table.value(organ.name, arm)) is not None}
        if not means:
            continue
        best, *others = sorted(means, key=lambda arm: -means[arm])  # stable: equal means in the order of Table 1
        of_best = {arm: tests[organ.name, best, arm] for arm in others if (organ.name, best, arm) in tests}
        tested = [arm for arm, test in of_best.items() if test.p_holm is not None]
        even = [titles[arm] for arm in tested if not of_best[arm].significant]
        next_best, lead = (titles[others[0]], _effect(of_best.get(others[0]))) if others else ("", "")
        listed, below = _listed(even, len(tested)), len(tested) - len(even)
        findings.append(
            OrganFinding(organ.title, titles[best], means[best], next_best, lead, listed, below, len(tested))
        )
    return findings


def arm_standings(study: StudyResult, table: Table1, compared: Comparisons) -> list[ArmStanding]:
    """One per arm with a foreground mean, the highest first."""
    means = {arm: mean for arm in study.arms if (mean := table.foreground(arm)) is not None}
    half_width = table.spread.half_width().T["FOREGROUND"]
    both_ways = [row for row in compared.dice().values() if row.p_holm is not None]
    standings = []
    for arm in sorted(means, key=lambda arm: -means[arm]):
        tests = [row for row in both_ways if row.arm_a == arm.name]
        effects = [row.effect or 0 for row in tests if row.significant]
        stability = table.spread.stability.get(arm.name)
        half = float(half_width[arm.name])
        foreground = f"{means[arm]:.1f}" + ("" if isnan(half) else f" ±{half:.1f}")
        rank = 1 + sum(other > means[arm] for other in means.values())
        ranks = first = "–"
        if stability:
            ranks = "–".join(map(str, sorted({stability.first, stability.last})))
            first = f"{100 * stability.best:.0f}\N{NO-BREAK SPACE}%"
        better, worse = sum(effect > 0 for effect in effects), sum(effect < 0 for effect in effects)
        standings.append(ArmStanding(arm.title, foreground, rank, ranks, first, better, worse, len(tests)))
    return standings


def conclusions(compared: Comparisons) -> list[str]:
    """One sentence or two per metric: how many tests, what came out, or why nothing can."""
    return [_conclusion(family) for family in compared.families]


def _conclusion(family: Family) -> str:
    name, cases = metric_title(family.metric), counted(family.cases, "test case")
    name = name[0].upper() + name[1:]
    if not family.tests:
        if not family.cases:
            return f"{name}: no two arms have a value for the same test case, so there is nothing to compare."
        return f"{name}: with {cases} there is no test; a paired test needs two or more."
    allowed = f"the smallest p that is possible with {cases} is {_p(smallest_p(family.cases))}"
    tests = counted(family.tests, "test")
    corrected = f"{_p(family.smallest_p_holm)} after Holm's correction over {tests}"
    if not family.can_show:
        return (
            f"{name}: no difference can be significant here, however large: {allowed}, and {corrected}. It takes "
            f"{pairs_needed(family.tests, ALPHA)} test cases or more."
        )
    return (
        f"{name}: {family.significant} of {tests} {'is' if family.significant == 1 else 'are'} significant "
        f"(p < {ALPHA} after Holm's correction over all of them); {allowed}, and {corrected}."
    )


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-12 else "below 1e-12"


def _effect(test: Comparison | None) -> str:
    if test is None or test.effect is None:
        return "–"
    interval = "" if test.ci_low is None else f" [{signed(test.ci_low)}, {signed(test.ci_high)}]"
    return signed(test.effect) + interval


def _listed(titles: Sequence[str], tested: int) -> str:
    if not tested:
        return "–"
    if len(titles) == tested > 1:
        return f"all {tested} others"
    rest = len(titles) - _NAMED
    named = titles if rest <= 1 else [*titles[:_NAMED], f"{rest} more"]
    return "; ".join(named) or "none"


def _values(report: Report) -> Mapping[str, object]:
    table, compared = primary_table(report), report.once(primary_comparisons)
    return {
        "conclusions": conclusions(compared),
        "comparisons": compared,
        "organ_findings": organ_findings(report.study, table, compared),
        "standings": arm_standings(report.study, table, compared),
        "draws": DRAWS,
    }


def _files(report: Report) -> Mapping[str, Content]:
    rows = report.once(primary_comparisons).rows
    return {"comparisons.csv": Rows(Comparison._fields, (row.cells() for row in rows))}


COMPARISONS = Section("comparisons", "Comparisons", _values, _files)
