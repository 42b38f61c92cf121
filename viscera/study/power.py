"""`viscera power`: what a study of so many patients and seeds could find, by the spread of a pilot.

The values are paired differences of two arms within patient and seed, of an organ's Dice or the mean over the organs;
the tests are those of the report's comparisons, which must agree (docs/decisions/0007-statistics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.core.errors import BadInputError, UsageError
from viscera.core.wording import counted, range_of
from viscera.metrics.crossed import Components, components, joined_columns
from viscera.metrics.crossed_power import fewest, power_of_difference, smallest_difference
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.metrics.statistics import pairs_needed
from viscera.study.results import StudyResult

WANTED, ALPHA = 0.8, 0.05
_MOST_PATIENTS = 2000
_LARGEST = 100.0  # points of Dice


class PairSpread(NamedTuple):
    """Two arms of the pilot: variances of their paired difference, in squared points of Dice."""

    first: str  # names of arms
    second: str
    patients: int
    seeds: int
    variances: Components


@dataclass(frozen=True)
class Power:
    """What could be found; differences in points of Dice, found with a chance of 80 % at `alpha`, two-sided."""

    of: str  # `foreground mean`, or the organ
    pairs: tuple[PairSpread, ...]  # of the pilot
    typical: Components  # the median of each variance over the pairs
    alpha: float
    patients: tuple[int, ...]
    seeds: tuple[int, ...]
    # smallest that is found, a row for each number of patients; None: no difference would be, however large
    differences: tuple[tuple[float | None, ...], ...]
    wanted: float | None  # the difference that is asked for
    needed: tuple[int | None, ...]  # patients for it, by number of seeds; None: more than 2,000
    fewest_patients: int  # with fewer no p can come below `alpha`, whatever the data


def power_of_study(
    pilot: StudyResult,
    *,
    patients: Sequence[int],
    seeds: Sequence[int],
    organ: str | None = None,  # by name; by default the mean over the organs
    difference: float | None = None,  # points
    tests: int = 1,  # that Holm's correction will take together
) -> Power:
    """What studies of the pilot's data and settings could find, by its own spread.

    Raises BadInputError where the pilot has no two arms with two patients and two seeds in common, or no such organ,
    UsageError where the difference is none that two means of Dice can have.
    """
    if difference is not None and not 0 < difference <= _LARGEST:
        raise UsageError(
            f"A difference of {difference:g} points was found, a number above 0, up to {_LARGEST:g}, was expected: "
            "the smallest difference of Dice that matters, as in --difference 2."
        )
    pairs = _pairs(pilot, organ)
    typical = Components(*(median(getattr(pair.variances, name) for pair in pairs) for name in Components._fields))
    alpha = ALPHA / tests
    found = tuple(tuple(_found(typical, number, of, alpha) for of in seeds) for number in patients)
    fewest_patients = pairs_needed(tests, ALPHA)
    needed: tuple[int | None, ...] = ()
    if difference is not None:
        needed = tuple(_patients_for(difference, typical, of, alpha, fewest_patients) for of in seeds)
    of = title_of(organ) if organ else "foreground mean"
    return Power(of, pairs, typical, alpha, tuple(patients), tuple(seeds), found, difference, needed, fewest_patients)


def _found(variances: Components, patients: int, seeds: int, alpha: float) -> float | None:
    smallest = smallest_difference(variances, patients, seeds, alpha, WANTED)
    return None if smallest is None or smallest > _LARGEST else smallest


def _patients_for(difference: float, variances: Components, seeds: int, alpha: float, first: int) -> int | None:
    def chance(patients: int) -> float:
        return power_of_difference(variances, patients, seeds, difference, alpha)

    return fewest(chance, WANTED, first, _MOST_PATIENTS)


def _pairs(pilot: StudyResult, organ: str | None) -> tuple[PairSpread, ...]:
    if organ is not None and organ not in pilot.classes.names[1:]:
        raise BadInputError(
            f"There is no organ '{organ}' in this study. There are: {', '.join(pilot.classes.names[1:])}."
        )
    columns = slice(1, None) if organ is None else [pilot.classes.names.index(organ)]
    sample = pilot.scores.sample(pilot.grids[0] if pilot.grids else "")
    found = []
    for first, second in combinations(sample.arms, 2):
        differences_PSC = 100 * (sample.of_arm(first) - sample.of_arm(second))[:, :, columns]
        variances = components(joined_columns(differences_PSC)) if differences_PSC.size else None
        if variances is not None:
            known_PS = np.isfinite(differences_PSC).any(axis=2)
            cases, seeds = (int(np.count_nonzero(np.any(known_PS, axis=axis))) for axis in (1, 0))
            found.append(PairSpread(first, second, cases, seeds, variances))
    if not found:
        raise BadInputError(
            "No two arms of this study are scored with the same two seeds on the same two cases, so the luck of a "
            "training is not known. Add seeds to it (--seeds 0,1,2), or another arm."
        )
    return tuple(found)


def power_text(found: Power) -> str:
    """Tables for people, at most 80 columns."""
    spread = [
        (name, *(f"{value**0.5:.1f}" for value in _low_middle_high([getattr(p.variances, field) for p in found.pairs])))
        for name, field in (
            ("between patients", "patients"),
            ("between trainings", "seeds"),
            ("of one patient in one training", "residual"),
        )
    ]
    heading = ["patients", *(counted(n, "seed") for n in found.seeds)]
    rows = [
        (n, *("not possible" if d is None else f"{d:.1f}" for d in row))
        for n, row in zip(found.patients, found.differences, strict=True)
    ]
    cases, seeds = [pair.patients for pair in found.pairs], [pair.seeds for pair in found.pairs]
    pilot = f"{counted(len(found.pairs), 'pair')} of arms, {_range_of(cases, 'case')}, {_range_of(seeds, 'seed')}"
    spread_of = f"Pilot: {pilot}.\nStandard deviations of a paired difference, {found.of}, points of Dice:"
    smallest = (
        f"Smallest difference that a study would find with a chance of {WANTED:.0%} at {found.alpha:.2g}, two-sided,\n"
        "with the median spread, points of Dice:"
    )
    parts = [
        spread_of,
        _table(spread, ["", "smallest pair", "median", "largest pair"]),
        smallest,
        _table(rows, heading),
        *_limits(found),
    ]
    if found.wanted is not None:
        takes = ["more than 2,000" if n is None else f"{n:,}" for n in found.needed]
        parts += [f"Patients for a difference of {found.wanted:g} points:", _table([("", *takes)], ["", *heading[1:]])]
    few = [n for n in found.seeds if n < SEEDS_FOR_SETTINGS]
    if few:
        parts.append(
            f"With fewer than {SEEDS_FOR_SETTINGS} seeds the report compares these models only, and says nothing\n"
            "about settings."
        )
    if min(seeds) < SEEDS_FOR_SETTINGS:
        parts.append(f"{_range_of(seeds, 'seed')} of a pilot show the spread between trainings only roughly.")
    return "\n\n".join(parts)


def _limits(found: Power) -> list[str]:
    """What the table of smallest differences cannot say, in sentences."""
    said = []
    if any(number < found.fewest_patients for number in found.patients):
        said.append(
            f"With fewer than {found.fewest_patients} patients no difference can be significant, however large: ranks "
            f"and sign flips of n\npatients have no p below 2/2^n, which must lie below {found.alpha:.2g}."
        )
    enough = zip(found.patients, found.differences, strict=True)
    if any(None in row for number, row in enough if number >= found.fewest_patients):
        said.append(
            f'"Not possible" with {found.fewest_patients} patients or more: it would have to be larger than '
            f"{_LARGEST:g} points."
        )
    if not any(found.typical):
        said.append(
            "The paired differences of this pilot do not vary, neither between patients nor between\n"
            "trainings, so that 0.0 says nothing about a larger study. Are its scores all 0, or all the same?"
        )
    return said


def _range_of(numbers: Sequence[int], noun: str) -> str:
    """`5 seeds`; `2 to 5 seeds` where they are not all the same."""
    low, high = min(numbers), max(numbers)
    return counted(high, noun).replace(f"{high:,}", range_of(low, high), 1)


def _low_middle_high(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * (len(headers) - 1)))
