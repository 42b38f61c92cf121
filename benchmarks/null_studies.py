"""How often a report is wrong where nothing differs, how often its intervals hold the truth, and what claim 5 takes.

    python -m benchmarks.null_studies [--quick] [--out FOLDER]

Simulated studies (`benchmarks.null_luck`), tested by what the report tests with. Written to
`benchmarks/results/null_studies.json`, and from there to docs/results/null-studies.md. Some minutes on one processor;
`--quick` takes a few studies of each kind, for a test, and prints only.

- `stars`: six arms, seven organs, 105 tests a study: the share of studies in which any difference is significant.
- `verdicts`: six claims whose differences lie on the margin: the share of studies in which any has a verdict.
- `coverage`: the share of 95 % intervals of a difference, and of an arm's mean, that hold the true one.
- `equivalence`: the chance that claim 5 is supported where both rates are equal.
- `missing`: stars and coverage where scores are missing (`benchmarks.null_missing`).
"""

import argparse
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.null_luck import LUCK, SCENARIOS, Array, Scenario, crossed_of_means, skewed
from benchmarks.null_missing import ALPHA, ARMS, ORGANS, PATTERNS, TESTS, missing
from benchmarks.null_studies_page import write_page
from benchmarks.record import RESULTS, record
from viscera.metrics.crossed import CrossedMeans
from viscera.metrics.crossed_power import power_of_equivalence
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS, paired_tests
from viscera.metrics.sign_flips import OneSided, sign_flip_test
from viscera.metrics.signed_rank import signed_rank_sides, signed_rank_test
from viscera.study.report.claim_rules import Contrast, weigh, within
from viscera.study.report.claims import ALIKE

PATIENTS = (8, 16, 37)
SEEDS = tuple(range(1, 11))
_AT_ONCE = 100  # studies in memory
_FORMER_MARGIN = 3.0
Row = dict[str, Any]
Bools = npt.NDArray[np.bool_]


# ---------------------------------------------------------------------------------------------------------- stars
def stars(scenario: Scenario, patients: int, seeds: int, studies: int) -> Row:
    """Shares of null studies with any significant difference, by the report's rule and by others.

    `ranks`: Wilcoxon's test over patients, seeds averaged, and Holm: the rule until 2026-11-30. `satterthwaite`: the
    crossed analysis alone with Satterthwaite's degrees of freedom; `trainings`: with Cochran and Cox's critical value.
    `now`: ranks, mean and trainings agree, with five seeds or more. Holm's correction rejects something where the
    smallest p is below alpha over the number of tests.
    """
    generator = np.random.default_rng([patients, seeds, *scenario.name.encode()])
    wrong = dict.fromkeys(("ranks", "satterthwaite", "trainings", "now"), 0)
    pairs = np.array(list(combinations(range(ARMS), 2)))
    for start in range(0, studies, _AT_ONCE):
        number = min(_AT_ONCE, studies - start)
        values = scenario.arms(generator, (number, ARMS, patients, seeds, ORGANS))
        of_patients, of_seeds = values.mean(axis=3), values.mean(axis=2)  # (N, A, P, O), (N, A, S, O)
        patients_PC, seeds_SC = (_as_columns(of[:, pairs[:, 0]] - of[:, pairs[:, 1]]) for of in (of_patients, of_seeds))
        wrong["ranks"] += _any(_rank_stars(patients_PC, number))
        if seeds > 1:
            crossed = crossed_of_means(patients_PC, seeds_SC)
            beyond_C = _beyond(crossed, ALPHA / TESTS)
            wrong["trainings"] += _any(beyond_C)
            wrong["satterthwaite"] += _any(_satterthwaite_p(crossed) < ALPHA / TESTS)
            if seeds >= SEEDS_FOR_SETTINGS:
                wrong["now"] += _any(_all_agree(patients_PC, beyond_C))
    shares: Row = {name: count / studies for name, count in wrong.items()}
    if seeds == 1:
        shares |= {"satterthwaite": None, "trainings": None}
    return {"scenario": scenario.name, "patients": patients, "seeds": seeds, "studies": studies, **shares}


def _as_columns(of_pairs: Array) -> Array:
    """(N, pairs, P or S, O) as (P or S, N * TESTS), the tests of a study together."""
    return np.ascontiguousarray(of_pairs.transpose(2, 0, 1, 3).reshape(of_pairs.shape[2], -1))


def _any(rejected_C: Bools) -> int:
    """In how many studies any of the tests rejects."""
    return int(rejected_C.reshape(-1, TESTS).any(axis=1).sum())


def _beyond(crossed: CrossedMeans, alpha: float) -> Bools:
    low, high = crossed.interval(1 - alpha)
    return np.asarray((low > 0) | (high < 0))


def _satterthwaite_p(crossed: CrossedMeans) -> Array:
    """Two-sided p of the same mean and standard error, with Satterthwaite's degrees of freedom."""
    parts = ((crossed.by_patients, crossed.patients), (crossed.by_seeds, crossed.seeds))
    freedom = (crossed.by_patients + crossed.by_seeds) ** 2 / sum(v**2 / (n - 1) for v, n in parts)
    return np.asarray(2 * stats.t.sf(np.abs(crossed.mean) / crossed.error, freedom))


def _rank_stars(patients_PC: Array, studies: int) -> Bools:
    """True in one column of each study in which ranks alone would be significant: that of the smallest rank sum."""
    order_PC = np.abs(patients_PC).argsort(axis=0)
    ranks_PC = np.empty_like(patients_PC)
    np.put_along_axis(ranks_PC, order_PC, np.arange(1.0, len(patients_PC) + 1)[:, None], axis=0)
    rising_C = np.where(patients_PC > 0, ranks_PC, 0).sum(axis=0)
    smaller_NT = np.minimum(rising_C, ranks_PC.sum(axis=0) - rising_C).reshape(studies, TESTS)
    found = np.zeros((studies, TESTS), dtype=bool)
    for study, test in enumerate(smaller_NT.argmin(axis=1)):
        found[study, test] = signed_rank_test(patients_PC[:, study * TESTS + test]).p < ALPHA / TESTS
    return found.ravel()


def _all_agree(patients_PC: Array, beyond_C: Bools) -> Bools:
    """Of the columns that trainings would call significant, those that ranks and mean call so, too, and on one side."""
    found = beyond_C.copy()
    candidates = np.flatnonzero(beyond_C)
    if candidates.size:
        columns = patients_PC[:, candidates]
        ranks = np.array([signed_rank_sides(column) for column in columns.T]).T
        means = sign_flip_test(columns, 10 * TESTS * round(1 / ALPHA))
        agree = [
            2 * np.maximum(of_rank, of_mean) < ALPHA / TESTS for of_rank, of_mean in zip(ranks, means, strict=True)
        ]
        found[candidates] = agree[0] | agree[1]
    return found


# -------------------------------------------------------------------------------------------------------- verdicts
def verdicts(scenario: Scenario, patients: int, seeds: int, studies: int) -> Row:
    """Share of studies with any verdict where all differences lie on the margin, now and by ranks over patients alone.

    Five seeds or more: with fewer there is none by the rules.
    """
    generator = np.random.default_rng([patients, seeds, *scenario.name.encode()])
    settled = former = 0
    for start in range(0, studies, _AT_ONCE):
        number = min(_AT_ONCE, studies - start)
        values = scenario.arms(generator, (number, 2, patients, seeds, len(_PARTS)))
        distances_PSC = _on_the_margin(values[:, 0] - values[:, 1])
        tests = paired_tests(distances_PSC)
        settled += int(_any_verdict(tests.deciding, number).sum())
        former += int(_any_verdict(tests.ranks, number).sum())
    shares = {"now": settled / studies, "ranks": former / studies}
    return {"scenario": scenario.name, "patients": patients, "seeds": seeds, "studies": studies, **shares}


_PARTS = (1, 1, *[2] * 6, 3, 3, *[4] * 4, 5, 6)  # the claim of each contrast; of claim 5 it has two parts
_CLAIM_5 = _PARTS.index(5)


def _on_the_margin(differences_NPSK: Array) -> Array:
    """(P, S, N * (K + 1)) how far differences of mean 0 lie beyond margins on which they lie, last those of claim 5.

    Claim 5: the true difference is the margin, so one of its parts is true by twice the margin and one is on it.
    """
    upper = -differences_NPSK[..., [_CLAIM_5]]
    parts = np.concatenate([differences_NPSK, upper], axis=3)
    parts[..., _CLAIM_5] += 2 * ALIKE
    studies, patients, seeds, columns = parts.shape
    return np.ascontiguousarray(parts.transpose(1, 2, 0, 3).reshape(patients, seeds, studies * columns))


def _any_verdict(sides: OneSided, studies: int) -> Bools:
    """(N,) whether any claim is settled: what `claim_rules.settle` does, without its sentences."""
    above_NK, below_NK = (np.minimum(1, side.reshape(studies, -1)) for side in sides)
    of = np.array([*_PARTS, 5])
    p = []
    for claim in range(1, 7):
        parts, times = of == claim, 1 if claim == 5 else 2
        support_N = np.minimum(1, times * above_NK[:, parts].max(axis=1))
        against_N = np.minimum(1, 2 * below_NK[:, parts].min(axis=1) * parts.sum())
        p.append(np.minimum(support_N, against_N))
    return np.asarray(np.min(p, axis=0) * len(p) < ALPHA)  # Holm's first step


def _contrast(differences_PS: Array) -> Contrast:
    by_seed = {
        seed: dict(zip(map(str, range(len(of))), of.tolist(), strict=True)) for seed, of in enumerate(differences_PS.T)
    }
    means = differences_PS.mean(axis=1).tolist()
    return Contrast("a minus b", dict(zip(map(str, range(len(means))), means, strict=True)), by_seed)


# -------------------------------------------------------------------------------------------------------- coverage
def coverage(scenario: Scenario, patients: int, seeds: int, studies: int, *, draws: int = 0) -> Row:
    """Share of 95 % intervals that hold the true mean, of a difference and of an arm; with `draws`, by bootstraps, too.

    `former`: percentiles, seeds drawn for each arm by itself. `paired`: percentiles, the same seeds for both arms.
    `bootstrap_t`: Student's t of paired draws. All of the difference. Widths are medians in points.
    """
    generator = np.random.default_rng([patients, seeds, *scenario.name.encode()])
    values = scenario.arms(generator, (studies, 2, patients, seeds, 1))[..., 0]
    row: Row = {"scenario": scenario.name, "patients": patients, "seeds": seeds, "studies": studies}
    for name, of in (("difference", values[:, 0] - values[:, 1]), ("arm", values[:, 0])):
        low, high = crossed_of_means(of.mean(axis=2).T, of.mean(axis=1).T).interval()
        row |= {name: _held(low, high), f"{name}_width": float(np.median(high - low))}
    if draws:
        bounds: dict[str, list[tuple[float, float]]] = {"former": [], "paired": [], "bootstrap_t": []}
        for of_arms in values:
            for name, pair in _bootstraps(of_arms, draws, generator).items():
                bounds[name].append(pair)
        for name, pairs in bounds.items():
            low, high = np.array(pairs).T
            row |= {name: _held(low, high), f"{name}_width": float(np.median(high - low))}
    return row


def _held(low: Array, high: Array) -> float:
    return float(((low <= 0) & (high >= 0)).mean())


def _bootstraps(arms_APS: Array, draws: int, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Intervals of arm 0 minus arm 1 by three bootstraps of patients and seeds."""
    _, patients, seeds = arms_APS.shape
    of_patients = generator.multinomial(patients, np.full(patients, 1 / patients), draws) / patients
    of_seeds, others = (generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds for _ in range(2))
    one, other = arms_APS
    difference = one - other
    former = (of_patients @ one * of_seeds).sum(axis=1) - (of_patients @ other * others).sum(axis=1)
    by_patient, by_seed = of_seeds @ difference.T, of_patients @ difference
    means = (by_seed * of_seeds).sum(axis=1)
    spread = (of_patients * (by_patient - means[:, None]) ** 2).sum(axis=1) / (patients - 1)
    spread += (of_seeds * (by_seed - means[:, None]) ** 2).sum(axis=1) / max(seeds - 1, 1)
    observed = crossed_of_means(difference.mean(axis=1)[:, None], difference.mean(axis=0)[:, None])
    mean, error = float(observed.mean[0]), float(observed.error[0])
    t = (means - mean) / np.sqrt(np.maximum(spread, 1e-12))
    sides = [2.5, 97.5]
    (low, high), (low_p, high_p), (low_t, high_t) = (np.percentile(of, sides) for of in (former, means, t))
    return {
        "former": (float(low), float(high)),
        "paired": (float(low_p), float(high_p)),
        "bootstrap_t": (mean - high_t * error, mean - low_t * error),
    }


# ----------------------------------------------------------------------------------------------------- equivalence
def equivalence(scenario: Scenario, patients: int, seeds: int, studies: int) -> Row:
    """The chance that an equivalence is shown where the arms are equal, by the former rule and now.

    `former`: ranks over patients, the 95 % interval within ±3. Now within ±5: `alone`, and as one of five claims of
    which it is the hardest to show (`of_five`). By drawn means of patients; `simulated` takes all tests.
    """
    generator = np.random.default_rng([patients, seeds, *scenario.name.encode()])
    values = scenario.arms(generator, (studies, 2, patients, seeds, 1))[..., 0]
    differences_NPS = values[:, 0] - values[:, 1]
    means_NP = differences_NPS.mean(axis=2)
    sides = [(signed_rank_sides(of + _FORMER_MARGIN)[0], signed_rank_sides(of - _FORMER_MARGIN)[1]) for of in means_NP]
    former = float((2 * np.array(sides).max(axis=1) < ALPHA).mean())
    found = [weigh(within(_contrast(of), ALIKE)).support < ALPHA for of in differences_NPS]
    variances = scenario.of_difference
    return {
        "scenario": scenario.name, "patients": patients, "seeds": seeds, "studies": studies, "former": former,
        "simulated": float(np.mean(found)),
        "alone": power_of_equivalence(variances, patients, seeds, ALIKE, ALPHA),
        "of_five": power_of_equivalence(variances, patients, seeds, ALIKE, ALPHA / 5),
        "of_five_within_3": power_of_equivalence(variances, patients, seeds, _FORMER_MARGIN, ALPHA / 5),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ main
def figures(*, quick: bool = False) -> dict[str, list[Row]]:
    """Everything."""
    many, some, few = (100, 10, 10) if quick else (4000, 800, 1000)
    patients, seeds = ((8, 37), (1, 5)) if quick else (PATIENTS, SEEDS)
    others = SCENARIOS[-1:] if quick else SCENARIOS
    long_tail = Scenario("skewed patients", of_patients=skewed, hard=0.0)

    def grid(numbers: Iterable[int]) -> list[tuple[int, int]]:
        return [(p, s) for p in patients for s in numbers]

    enough = (5,) if quick else (5, 10)
    return {
        "stars": [
            *(stars(LUCK, p, s, many) for p, s in grid(seeds)),
            *(stars(scenario, p, s, many) for scenario in others for p, s in grid(enough)),
        ],
        "verdicts": [
            verdicts(scenario, p, s, some)
            for scenario in (LUCK, *(() if quick else (SCENARIOS[n] for n in (1, 3, 4, 7))))
            for p, s in grid(enough)
        ],
        "coverage": [
            *(coverage(LUCK, p, s, 2 * many, draws=0) for p, s in grid(seeds)),
            *(coverage(of, p, s, 2 * many) for of in (*others[:6], long_tail) for p, s in grid(enough)),
        ],
        "bootstraps": [
            coverage(of, p, s, few, draws=50 if quick else 600)
            for of in (LUCK, SCENARIOS[1], long_tail)[: 1 if quick else 3]
            for p, s in grid((5,) if quick else (2, 5, 10))
        ],
        "equivalence": [
            equivalence(LUCK, p, s, 20 if quick else 200) for p, s in grid((5,) if quick else (5, 7, 10, 20))
        ],
        "missing": [
            missing(LUCK, pattern, p, s, 4 if quick else 1500)
            for pattern in PATTERNS
            for p, s in grid(enough)
            if p in {8, 37}
        ],
    }


def main() -> None:
    """Simulate, write, make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few studies of each kind, printed only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of null_studies.json")
    options = parser.parse_args()
    found = figures(quick=options.quick)
    record("null_studies", found, folder=None if options.quick else options.out)
    if not options.quick and options.out == RESULTS:
        write_page()


if __name__ == "__main__":
    main()
