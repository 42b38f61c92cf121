"""How large a study would have to be to show that two settings are alike, by the variances that this one has."""

from viscera.core.wording import counted
from viscera.metrics.crossed import Array, components
from viscera.metrics.crossed_power import fewest, power_of_equivalence
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS

WANTED = 0.8
_MOST_SEEDS, _MOST_CASES = 100, 1000


def what_equivalence_takes(differences_PS: Array, margin: float, alpha: float) -> str:
    """A sentence on seeds and cases, of (P, S) differences in the unit of the margin; empty with one case.

    The chance is that of two one-sided tests at `alpha` over cases and seeds where the true difference is 0, with the
    variances of patients, seeds and residual that the differences show.
    """
    patients, seeds = differences_PS.shape
    if patients < 2:
        return ""
    variances = components(differences_PS)
    if variances is None:
        return "What it would take can be computed from two seeds on: one says nothing about the luck of training."
    enough = max(seeds, SEEDS_FOR_SETTINGS)
    chance = power_of_equivalence(variances, patients, enough, margin, alpha)
    found = (
        f"If the two were truly equal, {counted(patients, 'case')} and {counted(enough, 'seed')} would show it with "
    )
    found += f"a chance of {100 * chance:.0f} %, by the spread that is seen here"
    if chance >= WANTED:
        return f"{found}."
    more_seeds = fewest(
        lambda n: power_of_equivalence(variances, patients, n, margin, alpha), WANTED, enough, _MOST_SEEDS
    )
    more_cases = fewest(
        lambda n: power_of_equivalence(variances, n, enough, margin, alpha), WANTED, patients, _MOST_CASES
    )
    ways = [
        f"{more_seeds} seeds with these cases" if more_seeds else "",
        f"{more_cases} cases with {enough} seeds" if more_cases else "",
    ]
    takes = " or ".join(filter(None, ways))
    if not takes:
        return f"{found}; neither {_MOST_SEEDS} seeds with these cases nor {_MOST_CASES:,} cases would do alone."
    return f"{found}; {100 * WANTED:.0f} % takes {takes}."
