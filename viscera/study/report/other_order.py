"""Where Table 1 puts two arms in one order and their comparison in the other: the means are over other seeds or cases.

A mean of Table 1 is over all scores of an arm, a comparison over the seeds and cases that both arms have. With complete
scores the two agree.
"""

from itertools import combinations
from typing import NamedTuple

from viscera.core.anatomy import title_of
from viscera.study.report.comparisons import Comparisons
from viscera.study.results import mean_defined, signed

FOREGROUND = "FOREGROUND"
_MOST_NAMED = 3  # pairs of arms


class Reversal(NamedTuple):
    """Two arms whose means lie the other way round than their paired difference, both as printed."""

    row: str  # name of an organ, or FOREGROUND
    higher: str  # name of the arm with the higher mean in Table 1
    lower: str
    points: float  # by which the lower one lies above the other where both have scores
    different: bool  # whether that is significant, of these models at least; never of FOREGROUND, which is no test


def reversals(compared: Comparisons) -> list[Reversal]:
    """All of them, by rows of Table 1, the foreground mean first."""
    found = []
    for row in (FOREGROUND, *(organ.name for organ in compared.study.classes.organs)):
        means = compared.highest_first(row).round(1)
        for higher, lower in combinations(map(str, means.index), 2):
            points = round(-_paired(compared, row, higher, lower), 1)
            if means[higher] > means[lower] and points > 0:
                test = compared.dice.get((row, higher, lower))
                found.append(Reversal(row, higher, lower, points, test is not None and test.different))
    return found


def other_order(compared: Comparisons) -> str:
    """Which arms they are, in sentences; empty where there are none."""
    found = reversals(compared)
    pairs = list(dict.fromkeys((each.lower, each.higher) for each in found))
    titles = {arm.name: arm.title for arm in compared.study.arms}
    named = []
    for lower, higher in pairs[:_MOST_NAMED]:
        rows = [each for each in found if (each.lower, each.higher) == (lower, higher)]
        listed = ", ".join(
            f"{'foreground mean' if each.row == FOREGROUND else title_of(each.row)} {signed(each.points)}"
            + (" (significant)" if each.different else "")
            for each in rows
        )
        named.append(f"{titles[lower]} lies above {titles[higher]}: {listed}")
    more = f"; {len(pairs) - _MOST_NAMED} more pairs of arms" if len(pairs) > _MOST_NAMED else ""
    if not named:
        return ""
    return (
        "The means of Table 1 are over all seeds and cases that an arm has, comparisons over those that both arms "
        f"have, where the order is the other one (points of Dice): {'; '.join(named)}{more}."
    )


def against_the_finding(compared: Comparisons) -> str:
    """The same of foreground means, in a sentence for the finding; empty where there is none."""
    found = [each for each in reversals(compared) if each.row == FOREGROUND]
    if not found:
        return ""
    titles, first = {arm.name: arm.title for arm in compared.study.arms}, found[0]
    more = f", and {len(found) - 1} more pairs of arms are the other way round, too" if len(found) > 1 else ""
    return (
        f"These means are over different seeds or cases: on those that both have, {titles[first.lower]} lies "
        f"{first.points:.1f} points above {titles[first.higher]}{more}."
    )


def _paired(compared: Comparisons, row: str, a: str, b: str) -> float:
    """Mean difference in points of what both arms have, over the organs that both have; 0 where they have none."""
    organs = [organ.name for organ in compared.study.classes.organs] if row == FOREGROUND else [row]
    return mean_defined(compared.dice[organ, a, b].mean for organ in organs) or 0.0
