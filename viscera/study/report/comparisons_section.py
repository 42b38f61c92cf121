"""The section "Comparisons": whether arms differ, how far means carry, and the best arm of each organ."""

from collections.abc import Mapping
from typing import NamedTuple

from viscera.core.wording import counted
from viscera.io.scores import metric_title
from viscera.metrics import statistics
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.study.report.arm_spread import DRAWS
from viscera.study.report.comparisons import ALPHA, Comparison, Comparisons, compare
from viscera.study.report.other_order import other_order
from viscera.study.report.page_section import Content, Report, Rows, Section

FEWEST_SEEDS = 2  # that show a variation between trainings


class OrganFinding(NamedTuple):
    """The arm of highest mean Dice on one organ against the others."""

    organ: str  # its name
    best: str  # name of that arm
    percent: float  # its mean
    tests: tuple[Comparison, ...]  # it minus each other arm, the arm of the next highest mean first

    @property
    def alike(self) -> list[str]:
        """Names of the arms that were tested against it, and are not significantly different, as models at least."""
        return [test.arm_b for test in self.tests if test.p_holm is not None and not test.different]

    @property
    def above(self) -> list[str]:
        """Names of the arms that are significantly above it, as models at least, on the seeds and cases of both."""
        return [test.arm_b for test in self.tests if test.different and (test.mean or 0) < 0]

    @property
    def with_few_seeds(self) -> list[str]:
        """Names of the arms that share too few seeds with it for a verdict about settings."""
        return [test.arm_b for test in self.tests if test.p_holm is not None and test.seeds < SEEDS_FOR_SETTINGS]


def too_few_cases(compared: Comparisons) -> dict[str, int]:
    """By name of organ, the most cases of its tests by Dice, where so few can show no difference, however large.

    Holm multiplies the smallest p of an organ by the number of its tests or more, as none of these has a smaller one.
    """
    found = {}
    for organ in compared.study.classes.organs:
        cases = [r.n for r in compared.rows if (r.metric, r.organ) == ("dice", organ.name) and r.p is not None]
        if cases and len(cases) * statistics.smallest_p(max(cases)) >= ALPHA:
            found[organ.name] = max(cases)
    return found


class ArmStanding(NamedTuple):
    """One arm among the others."""

    arm: str  # its name
    percent: float  # mean foreground Dice
    rank: int  # by that mean
    tests: int  # over organs and other arms
    better: int  # better, worse: those in which it is significantly higher or lower, as these models at least
    worse: int


def organ_findings(compared: Comparisons) -> list[OrganFinding]:
    """One per organ that any arm has a mean of."""
    findings = []
    for organ in compared.study.classes.organs:
        means = compared.highest_first(organ.name)
        if not means.empty:
            best, *others = map(str, means.index)
            tests = tuple(compared.dice[organ.name, best, arm] for arm in others)
            findings.append(OrganFinding(organ.name, best, means[best], tests))
    return findings


def arm_standings(compared: Comparisons) -> list[ArmStanding]:
    """One per arm with a foreground mean, the highest first."""
    means = compared.highest_first("FOREGROUND")
    standings = []
    for arm, mean in means.items():
        tests = [row for row in compared.dice.values() if row.arm_a == arm and row.p_holm is not None]
        means_of = [row.mean or 0 for row in tests if row.different]
        better, worse = sum(points > 0 for points in means_of), sum(points < 0 for points in means_of)
        standings.append(ArmStanding(str(arm), mean, 1 + int((means > mean).sum()), len(tests), better, worse))
    return standings


def drawn_over(fewest: int, most: int) -> str:
    """What intervals are over, where arms have so many seeds: one seed says nothing of the next training."""
    if most < FEWEST_SEEDS:
        return "cases"
    return "cases and seeds" + (" (over cases alone where there is one seed)" if fewest < FEWEST_SEEDS else "")


def primary_comparisons(report: Report) -> Comparisons:
    """The comparisons on the primary grid."""
    return compare(report.study, report.grid)


def _values(report: Report) -> Mapping[str, object]:
    compared = report.once(primary_comparisons)
    dice = compared.family("dice")
    return {
        "compared": compared,
        "findings": organ_findings(compared),
        "other_order": other_order(compared),
        "added_runs": report.has_added_runs,
        "too_few": too_few_cases(compared) if dice and dice.can_show else {},
        "standings": arm_standings(compared),
        "several_cases": len(report.study.scores.cases(report.grid)) > 1,
        "metric_title": metric_title,
        "pairs_needed": statistics.pairs_needed,
        "alpha": ALPHA,
        "enough_seeds": SEEDS_FOR_SETTINGS,
        "draws": DRAWS,
        "drawn_over": drawn_over(dice.seeds, dice.numbers_of_seeds[-1]) if dice else "",
    }


def _files(report: Report) -> Mapping[str, Content]:
    rows = report.once(primary_comparisons).rows
    return {"comparisons.csv": Rows(Comparison._fields, (row.cells() for row in rows))}


def _brief(report: Report) -> str:
    """How many differences of Dice are significant."""
    family = report.once(primary_comparisons).family("dice")
    if family is None or not family.tests:
        return "no test is possible"
    if family.of_settings:
        return f"{family.significant} of {counted(family.tests, 'difference')} significant"
    rest = (
        f"{family.of_models} of {counted(family.tests - family.of_enough, 'difference')} significant, of these models"
    )
    if not family.of_enough:
        return rest
    return f"{family.significant} of {counted(family.of_enough, 'difference')} significant; {rest}"


COMPARISONS = Section("comparisons", "Comparisons of the arms", _values, _files, brief=_brief)
