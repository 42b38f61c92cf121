"""The statistics behind the verdicts, by hand, by SciPy and on null studies."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from viscera.core.anatomy import ORGANS
from viscera.study.report.claim_power import what_equivalence_takes
from viscera.study.report.claim_rules import (
    FOREGROUND,
    Contrast,
    Part,
    Reading,
    Verdict,
    difference,
    settle,
    weigh,
    within,
)


def points(values: list[float]) -> Contrast:
    return Contrast("a minus b", {str(case): value for case, value in enumerate(values)})


def seeded(values: list[float], luck: Sequence[float] = (0, 0, 0, 0, 0)) -> Contrast:
    """The same with so many seeds, each of which is worth something on all cases."""
    by_seed = {seed: {str(case): value + more for case, value in enumerate(values)} for seed, more in enumerate(luck)}
    mean = sum(luck) / len(luck)
    return Contrast("a minus b", {str(case): value + mean for case, value in enumerate(values)}, by_seed)


def dice(by_case: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(dict(by_case)).T


def test_the_p_of_a_claim_by_hand() -> None:
    """Six pairs above 0: p = 2/64. Five above and the smallest below: T = 1, p = 4/64. Worst and best of two parts."""
    clear, nearly = points([1, 2, 3, 4, 5, 6]), points([-1, 2, 3, 4, 5, 6])
    assert weigh([Part(clear)])[:2] == (2 / 64, 1.0)
    assert weigh([Part(clear), Part(nearly)])[:2] == (4 / 64, 1.0)
    assert weigh([Part(clear), Part(nearly, above=False)])[:2] == (1.0, 2 * 4 / 64)
    assert weigh([Part(clear, 7.0)])[:2] == (1.0, 2 / 64)  # all six lie below 7


def test_equivalence_agrees_with_two_one_sided_tests_of_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1.0, 14)
    above = stats.wilcoxon(values + 1.0, alternative="greater", method="exact").pvalue
    below = stats.wilcoxon(values - 1.0, alternative="less", method="exact").pvalue
    flips = stats.PermutationMethod(n_resamples=2**14)
    assert flips.n_resamples == 2 ** len(values)  # every flip
    of_mean = stats.permutation_test(
        (values - 1.0,), lambda v, axis: v.mean(axis=axis), permutation_type="samples", n_resamples=2**14,
        alternative="less", vectorized=True,
    )  # fmt: skip
    # the upper bound is the nearer one; ranks and mean must both lie below it
    assert below > above
    assert weigh(within(points(values.tolist()), 1.0)).support == pytest.approx(max(below, float(of_mean.pvalue)))


def test_holm_over_the_claims_by_hand() -> None:
    """p = 2/2^8 and 2/2^7: corrected 2 · 0.0078 = 0.0156 and 0.0156; a claim that cannot be tested is not counted."""
    eight, seven = (Reading((Part(seeded([float(n) for n in range(1, 1 + size)])),)) for size in (8, 7))
    verdicts: list[Verdict] = settle([eight, Reading(missing="No such arm."), seven])
    assert [v.p_holm for v in verdicts] == [4 / 256, None, 2 / 128]
    assert [v.word for v in verdicts] == ["supported", "undecided", "supported"]
    assert verdicts[1].reason == "No such arm."


# 31 cases gain 1.7 and 6 lose 20: mean -1.8; 33 gain 0.9 and 4 lose 45: mean -4.1
LOSSES = [1.72 + 0.01 * n for n in range(-15, 16)] + [-20.0] * 6
COLLAPSES = [0.86 + 0.01 * n for n in range(-16, 17)] + [-45.0] * 4


def test_a_gain_of_most_is_no_gain_of_the_mean() -> None:
    """By ranks alone it would be supported (p = 0.03); the mean is a loss of 1.8 points."""
    part = Part(seeded(LOSSES))
    assert np.mean(LOSSES) == pytest.approx(-1.8, abs=0.01)
    assert weigh([part], lambda tests: tests.ranks).support < 0.05
    (verdict,) = settle([Reading((part,))])
    assert verdict.word == "undecided"
    assert "Ranks and mean disagree (a minus b: median shift +1.7, p = 0.028; mean \N{MINUS SIGN}1.8" in verdict.reason


def test_alike_for_most_is_not_alike_in_the_mean() -> None:
    """By ranks alone it would lie within three points; the mean lies 4.1 points off."""
    parts = within(seeded(COLLAPSES), 3.0)
    assert np.mean(COLLAPSES) == pytest.approx(-4.1, abs=0.01)
    assert weigh(parts, lambda tests: tests.ranks).support < 0.05
    (verdict,) = settle([Reading(parts)])
    assert verdict.word == "undecided"
    assert "Ranks and mean disagree" in verdict.reason


def test_trainings_that_vary_are_no_verdict_on_settings() -> None:
    """Every case gains 1 to 12 points on average, but two of five seeds lose: other seeds could lose all."""
    (verdict,) = settle([Reading((Part(seeded([float(n) for n in range(1, 13)], (-12, -10, 4, 8, 10))),))])
    assert verdict.word == "undecided"
    assert verdict.reason.startswith("These models show it (p = 0.00049), but the trainings vary: over cases and seeds")


def test_with_four_seeds_nothing_is_said_of_settings() -> None:
    reading = Reading((Part(seeded([float(n) for n in range(1, 13)], (0, 0, 0, 0))),))
    (verdict,) = settle([reading])
    assert (verdict.word, verdict.models, verdict.seeds) == ("undecided", "supported", 4)
    assert verdict.reason == "These models support it, the next training may not. It takes 5 seeds or more (--seeds)."
    against = Reading((Part(seeded([float(n) for n in range(1, 13)], (0, 0, 0, 0)), above=False),))
    assert settle([against])[0].models == "contradicted"


def test_an_undecided_equivalence_says_what_it_takes() -> None:
    """True equality with a spread between patients of 8 points: 12 cases are few for a margin of 3."""
    values = np.random.default_rng(1).standard_normal(12)
    values = 8 * (values - values.mean()) / values.std(ddof=1)
    reading = Reading(within(seeded(values.tolist(), (-0.1, 0.1, 0, 0.2, -0.2)), 3.0))
    (verdict,) = settle([reading])
    assert verdict.word == "undecided"
    found = re.search(
        r"12 cases and 5 seeds would show it with a chance of (\d+) %.*takes (\d+) cases with 5", verdict.reason
    )
    assert found is not None
    chance, cases = map(int, found.groups())
    assert chance < 40
    assert cases == pytest.approx(
        (8 * (1.645 + 1.282) / 3) ** 2, rel=0.1
    )  # the usual formula, and seeds are nearly alike
    one = settle([Reading(within(points(values.tolist()), 3.0))])[0]
    assert one.reason.endswith("from two seeds on: one says nothing about the luck of training.")


def test_an_equivalence_says_how_many_cases_one_side_takes() -> None:
    """With two claims 2 * 1 / 2^6 = 0.031 is below 0.05, and 2 * 1 / 2^5 = 0.063 is not; two-sided it takes seven."""
    alike = within(seeded([0.1, -0.2, 0.3, -0.1, 0.2]), 3.0)
    order = (Part(seeded([1.0, 2, 3, 4, 5])),)
    one_sided, two_sided = settle([Reading(alike), Reading(order)])
    assert "With 2 claims tested it takes 6 or more." in one_sided.reason
    assert "With 2 claims tested it takes 7 or more." in two_sided.reason
    six = within(seeded([0.1, -0.2, 0.3, -0.1, 0.2, 0.0]), 3.0)
    assert settle([Reading(six), Reading(order)])[0].word == "supported"


def test_a_chance_of_showing_an_equivalence_is_that_of_all_tests() -> None:
    """Five cases at 0.05 / 2: one-sided no p of ranks is below 1 / 2^5 = 0.031, so they show nothing; six can."""
    values = np.add.outer([0.1, -0.2, 0.3, -0.1, 0.2], [0.0, 0.1, -0.1, 0.05, -0.05])
    said = what_equivalence_takes(values, 3.0, 0.025)
    assert "5 cases and 5 seeds would show it with a chance of 0 %" in said
    assert said.endswith("80 % takes 6 cases with 5 seeds.")


@pytest.mark.slow
def test_where_nothing_differs_few_studies_support_or_contradict_anything() -> None:
    """400 null studies: claims of one, two, two and six strict parts, 16 cases, 5 seeds of luck, parts related.

    At most 5 % may hold any verdict; three standard errors of chance are allowed on top.
    """
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        noise = generator.normal(0, 1, 16)
        readings = [
            Reading(
                tuple(
                    Part(seeded((noise + generator.normal(0, 1, 16)).tolist(), generator.normal(0, 1, 5).tolist()))
                    for _ in range(parts)
                )
            )
            for parts in (1, 2, 2, 6)
        ]
        wrong += any(verdict.word != "undecided" for verdict in settle(readings))
    assert wrong <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_organs_that_one_side_does_not_define_are_left_out() -> None:
    a = {0: dice({"x": {"liver": 0.9, "spleen": 0.5}, "y": {"liver": 0.8}})}
    b = {0: dice({"x": {"liver": 0.7}, "y": {"spleen": 0.2}, "z": {"liver": 0.1}})}
    assert difference("", a, b).patients == {"x": 20.0}  # liver alone; y shares no organ, z is on one side


def test_seeds_that_both_sides_have_are_compared() -> None:
    a = {0: dice({"x": {"liver": 0.9}}), 1: dice({"x": {"liver": 0.5}})}
    b = {1: dice({"x": {"liver": 0.4}}), 2: dice({"x": {"liver": 0.0}})}
    both = difference("", a, b)
    assert both.patients == {"x": 10.0}
    assert dict(both.by_seed) == {1: {"x": 10.0}}


def test_the_foreground_is_the_seven_organs() -> None:
    assert tuple(organ.name for organ in ORGANS) == FOREGROUND
    assert len(FOREGROUND) == 7


def test_each_part_of_a_claim_has_the_seeds_that_its_two_sides_share() -> None:
    """Two inequalities with five seeds each, none of them in both: five, not none; a seed without a case is none."""
    values = [4.0 + case for case in range(9)]
    first = seeded(values, luck=(0.0, 0.1, 0.2, 0.3, 0.4))
    second = Contrast("b minus c", first.patients, {seed + 5: of for seed, of in first.by_seed.items()})
    (verdict,) = settle([Reading((Part(first), Part(second)))])
    assert (verdict.word, verdict.seeds) == ("supported", 5)
    four = Contrast("b minus c", first.patients, {**second.by_seed, 9: {}})
    (verdict,) = settle([Reading((Part(first), Part(four)))])
    assert (verdict.word, verdict.seeds, verdict.models) == ("undecided", 4, "supported")
