"""Arms of collected studies: what the trainings of several seeds say together.

Arms that have a seed in common share their initial weights and their patches, so that arms are compared within a seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from benchmarks.over_seeds import OverSeeds
from viscera.core.arms import Arm
from viscera.metrics.learning import FAILING_DICE
from viscera.study.results import mean_defined

Entry = Mapping[str, Any]  # of one training, see `long_studies.entry`
Arms = Mapping[str, Mapping[str, Entry]]  # by arm and seed
BySeed = Mapping[str, float]


def foreground(of: Entry) -> float:
    """Mean over the organs of mean test Dice, 0 to 1."""
    return fmean(value for name, value in of["dice"].items() if name != "background" and value is not None)


def entries_of(arms: Arms, arm: Arm) -> list[Entry]:
    """One for each seed of an arm; empty where it is not there."""
    return list(arms.get(arm.name, {}).values())


def points(arms: Arms, arm: Arm) -> dict[str, float]:
    """Foreground Dice in per cent, by seed."""
    return {seed: 100 * foreground(each) for seed, each in arms.get(arm.name, {}).items()}


def mean_points(arms: Arms, cells: Iterable[Arm]) -> dict[str, float]:
    """The same, mean over some arms, of the seeds that all of them have."""
    found = [points(arms, arm) for arm in cells]
    return combined([(1 / len(found), each) for each in found])


def combined(terms: Sequence[tuple[float, BySeed]]) -> dict[str, float]:
    """A weighted sum within each seed that all terms have."""
    shared = set.intersection(*(set(of) for _, of in terms))
    return {seed: sum(factor * of[seed] for factor, of in terms) for seed in sorted(shared, key=int)}


def difference_by_seed(one: BySeed, other: BySeed) -> dict[str, float]:
    """One minus the other, of the seeds that both have."""
    return combined([(1, one), (-1, other)])


def difference(one: BySeed, other: BySeed) -> OverSeeds | None:
    """Mean and interval of that; None where they share no seed."""
    values = difference_by_seed(one, other).values()
    return OverSeeds.of(values) if values else None


def organ_means(entries: Sequence[Entry]) -> dict[str, float]:
    """Mean test Dice of each organ over the seeds, 0 to 1; without organs that have none."""
    names = [name for name in entries[0]["dice"] if name != "background"] if entries else []
    means = {name: mean_defined(each["dice"].get(name) for each in entries) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}


def failing(entries: Sequence[Entry]) -> list[str]:
    """Organs below 0.2 in the mean over the seeds."""
    return [name for name, mean in organ_means(entries).items() if mean < FAILING_DICE]


def mean_of(entries: Sequence[Entry], key: str) -> float | None:
    """Mean over the seeds of `step_kept` or `validation`, of those that have one."""
    return mean_defined(each[key] for each in entries)


def interaction(
    arms: Arms, weighting: str | float, uniform: str | float = "uniform", *, of: Arms | None = None
) -> dict[str, float]:
    """(weighting at 0.01 - at 0.001) - (uniform at 0.01 - at 0.001), in points, by seed (docs/decisions/0038).

    The arms of the weighting are those of another study, `of`, where it is given.
    """
    own = arms if of is None else of
    higher, lower = (
        difference_by_seed(points(own, Arm(weighting, rate)), points(arms, Arm(uniform, rate)))
        for rate in (0.01, 0.001)
    )
    return difference_by_seed(higher, lower)


def spread(of: BySeed) -> str:
    """`62.6 ± 0.8 (5)`: mean, standard deviation between seeds, number of seeds."""
    values = list(of.values())
    if not values:
        return "–"
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{deviation} ({len(values)})"


def share(value: float) -> str:
    """Of a whole, in per cent: two digits where it is small."""
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.1f} %"
