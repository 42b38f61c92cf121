"""The statistics behind the verdicts, by hand, by SciPy and on null studies."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from viscera.core.anatomy import ORGANS
from viscera.study.report.claim_rules import (
    FOREGROUND,
    Contrast,
    Part,
    Reading,
    Verdict,
    difference,
    seeds_agree,
    settle,
    weigh,
    within,
)


def points(values: list[float]) -> Contrast:
    return Contrast("a minus b", {str(case): value for case, value in enumerate(values)})


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
    # ours are two-sided: twice the one-sided p, so that 0.05 is the 95 % interval within the margin
    assert weigh(within(points(values.tolist()), 1.0)).support == pytest.approx(2 * max(above, below))


def test_holm_over_the_claims_by_hand() -> None:
    """p = 2/2^8 and 2/2^7: corrected 2 · 0.0078 = 0.0156 and 0.0156; a claim that cannot be tested is not counted."""
    eight, seven = (Reading((Part(points([float(n) for n in range(1, 1 + size)])),)) for size in (8, 7))
    verdicts: list[Verdict] = settle([eight, Reading(missing="No such arm."), seven])
    assert [v.p_holm for v in verdicts] == [4 / 256, None, 2 / 128]
    assert [v.word for v in verdicts] == ["supported", "undecided", "supported"]
    assert verdicts[1].reason == "No such arm."


@pytest.mark.slow
def test_where_nothing_differs_few_studies_support_or_contradict_anything() -> None:
    """400 null studies: four claims of one, two, two and six strict parts, 16 cases, parts of one claim related.

    At most 5 % may hold any verdict; three standard errors of chance are allowed on top.
    """
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        noise = generator.normal(0, 1, 16)
        readings = [
            Reading(tuple(Part(points((noise + generator.normal(0, 1, 16)).tolist())) for _ in range(parts)))
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


@pytest.mark.parametrize("seeds", range(5, 13))
def test_how_many_seeds_must_agree_is_the_sign_test(seeds: int) -> None:
    for agreeing in range(seeds + 1):
        p = sum(stats.binom.pmf(k, seeds, 0.5) for k in range(agreeing, seeds + 1))
        assert seeds_agree(agreeing, seeds) == (p < 0.05)


def test_with_fewer_than_five_seeds_all_must_agree() -> None:
    assert seeds_agree(0, 0)
    assert seeds_agree(0, 1)  # nothing to agree with
    assert [seeds_agree(k, 4) for k in range(5)] == [False, False, False, False, True]
