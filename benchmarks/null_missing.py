"""Null studies whose scores are missing in part: by chance, or because some seeds were scored on a part of the cases.

A part of `benchmarks.null_studies`. Axes: N studies, A arms, P patients, S seeds, O organs.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.null_luck import Array, Scenario
from viscera.metrics.crossed import crossed_means
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS, paired_tests

ALPHA = 0.05
ARMS, ORGANS = 6, 7
TESTS = ARMS * (ARMS - 1) // 2 * ORGANS
_AT_ONCE = 20  # studies in memory
Bools = npt.NDArray[np.bool_]


class Pattern(NamedTuple):
    """Which scores are missing; those of all organs of a patient in a training together."""

    name: str
    hide: Callable[[np.random.Generator, Array], None]  # of (N, A, P, S, O) values, in place


def _at_random(share: float) -> Pattern:
    def hide(generator: np.random.Generator, values: Array) -> None:
        values[generator.random(values.shape[:-1]) < share] = np.nan

    return Pattern(f"{share:.0%} at random", hide)


def _most_seeds_in_part(_: np.random.Generator, values: Array) -> None:
    seeds, patients = values.shape[3], values.shape[2]
    values[:, :, patients // 4 + 1 :, 2 * seeds // 5 :] = np.nan


def _parts_apart(_: np.random.Generator, values: Array) -> None:
    seeds, patients = values.shape[3], values.shape[2]
    values[:, :, : patients // 2, seeds // 2 :] = np.nan
    values[:, :, patients // 2 :, : seeds // 2] = np.nan


PATTERNS = (
    *map(_at_random, (0.1, 0.2, 0.4)),
    Pattern("three fifths of the seeds on a quarter of the patients", _most_seeds_in_part),
    Pattern("half of the seeds on one half of the patients, half on the other", _parts_apart),
)


def missing(scenario: Scenario, pattern: Pattern, patients: int, seeds: int, studies: int) -> dict[str, Any]:
    """Of null studies with five seeds or more, the share with a false star, and of intervals that hold the truth.

    `now` and the intervals (`difference`, `arm`) as in `null_studies`. `former_now`, `former_difference`: by the rule
    until 2026-12-01, by which a missing score counted as the mean of its patient's other seeds.
    """
    if seeds < SEEDS_FOR_SETTINGS:
        raise ValueError(f"{seeds} seeds are no test of settings; take {SEEDS_FOR_SETTINGS} or more")
    generator = np.random.default_rng([patients, seeds, *scenario.name.encode(), *pattern.name.encode()])
    pairs = np.array(list(combinations(range(ARMS), 2)))
    wrong, former_wrong = 0, 0
    held_by_arms, held, former_held = list[Bools](), list[Bools](), list[Bools]()
    for start in range(0, studies, _AT_ONCE):
        number = min(_AT_ONCE, studies - start)
        values = scenario.arms(generator, (number, ARMS, patients, seeds, ORGANS))
        pattern.hide(generator, values)
        differences_PSC = _as_columns(values[:, pairs[:, 0]] - values[:, pairs[:, 1]])
        former_PSC = _by_patient(differences_PSC)
        wrong += _false_stars(differences_PSC)
        former_wrong += _false_stars(former_PSC)
        held.append(_held(differences_PSC))
        former_held.append(_held(former_PSC))
        held_by_arms.append(_held(_as_columns(values)))
    return {
        "scenario": scenario.name, "missing": pattern.name, "patients": patients, "seeds": seeds, "studies": studies,
        "now": wrong / studies, "former_now": former_wrong / studies,
        "difference": _share(held), "former_difference": _share(former_held), "arm": _share(held_by_arms),
    }  # fmt: skip


def _false_stars(differences_PSC: Array) -> int:
    """In how many studies any test of the report rejects: the test over trainings first, the others where it does."""
    low, high = crossed_means(differences_PSC).interval(1 - ALPHA / TESTS)
    stars_C = (low > 0) | (high < 0)
    candidates = np.flatnonzero(stars_C)
    tests = paired_tests(differences_PSC[:, :, candidates], draws=10 * TESTS * round(1 / ALPHA))
    stars_C[candidates] = tests.deciding.two_sided < ALPHA / TESTS
    return int(stars_C.reshape(-1, TESTS).any(axis=1).sum())


def _held(values_PSC: Array) -> Bools:
    """Which intervals hold 0."""
    low, high = crossed_means(values_PSC).interval()
    return np.asarray((low <= 0) & (high >= 0))


def _share(held: list[Bools]) -> float:
    return float(np.concatenate(held).mean())


def _by_patient(values_PSC: Array) -> Array:
    """Missing values as the mean of their patient's other seeds."""
    defined_PSC = ~np.isnan(values_PSC)
    number_PC = defined_PSC.sum(axis=1, keepdims=True)
    means_PC = np.where(defined_PSC, values_PSC, 0).sum(axis=1, keepdims=True) / np.where(number_PC, number_PC, np.nan)
    return np.where(defined_PSC, values_PSC, means_PC)


def _as_columns(values: Array) -> Array:
    """(N, A, P, S, O) as (P, S, N * A * O), those of a study together."""
    studies, arms, patients, seeds, organs = values.shape
    return np.ascontiguousarray(values.transpose(2, 3, 0, 1, 4).reshape(patients, seeds, studies * arms * organs))
