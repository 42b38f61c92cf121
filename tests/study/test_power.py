"""What a study could find by a pilot's spread: the normal law, one seed refused, and what a reader sees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from viscera.cli import app as module
from viscera.core.arms import Arm
from viscera.core.errors import BadInputError, UsageError
from viscera.metrics.crossed import Components
from viscera.metrics.crossed_power import power_of_difference, smallest_difference
from viscera.study.power import power_of_study, power_text
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]
OPTIONS: dict[str, Any] = {"study.weightings": ["uniform", "simple"], "study.learning_rates": [0.01]}
SIZES: dict[str, Any] = {"patients": (10, 20), "seeds": (2, 5)}


def test_with_many_patients_and_seeds_it_is_that_of_a_normal_mean() -> None:
    """80 % at 5 %, two-sided, takes 1.96 + 0.84 standard errors; here of sqrt(400 / 400 + 400 / 400 + 0)."""
    found = smallest_difference(Components(400, 400, 0), 400, 400)
    assert found is not None
    assert found == pytest.approx((1.960 + 0.8416) * 2**0.5, rel=0.03)
    assert power_of_difference(Components(400, 400, 0), 400, 400, found) == pytest.approx(0.8, abs=0.02)
    assert smallest_difference(Components(0, 0, 0), 6, 5) == 0


@pytest.fixture
def pilot(study_of_dice: StudyMaker) -> StudyResult:
    """Uniform varies between seeds by ±2 points beside simple, in all patients alike, and in nothing else."""

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float:
        del case, organ
        return 0.5 + 0.02 * float(arm.weighting == "uniform") * (-1.0) ** seed

    return study_of_dice(dice, **OPTIONS, **{"study.seeds": (0, 1)})


def test_the_spread_of_the_pilot_is_named_where_it_lies(pilot: StudyResult) -> None:
    """Differences of +2 and -2 points: their variance is 8, between trainings alone, so patients do not help."""
    found = power_of_study(pilot, **SIZES)
    (pair,) = found.pairs
    assert (pair.patients, pair.seeds) == (12, 2)
    assert pair.variances == pytest.approx((0, 8, 0), abs=1e-9)
    (few, more), (also_few, also_more) = np.array(found.differences, dtype=float)
    assert few == pytest.approx(also_few, rel=0.03)
    assert more == pytest.approx(also_more, rel=0.03)
    assert more < few


def test_patients_for_a_difference(study_of_dice: StudyMaker) -> None:
    generator = np.random.default_rng(0)
    values = 0.5 + 0.05 * generator.standard_normal((2, 3, 40))

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float:
        del organ
        return float(values[int(arm.weighting == "simple"), seed, case])

    study = study_of_dice(dice, cases=40, **OPTIONS, **{"study.seeds": (0, 1, 2)})
    found = power_of_study(study, patients=(10,), seeds=(5, 10), difference=2.0)
    assert all(number is not None for number in found.needed)
    few, many = (number for number in found.needed if number is not None)
    assert many < few
    assert power_of_difference(found.typical, few, 5, 2.0) >= 0.8 > power_of_difference(found.typical, few - 1, 5, 2.0)
    by_organ = power_of_study(study, patients=(10,), seeds=(5,), organ="liver")
    assert by_organ.of == "liver"
    corrected = power_of_study(study, patients=(10,), seeds=(5,), tests=105)
    assert corrected.differences[0][0] is None  # ten patients have no p below 2 / 2^10, and 105 times that is 0.2
    (of_seven,) = power_of_study(study, patients=(10,), seeds=(5,), tests=7).differences[0]
    (alone,) = by_one = power_of_study(study, patients=(10,), seeds=(5,)).differences[0]
    assert by_one == found.differences[0][:1]
    assert of_seven is not None
    assert alone is not None
    assert of_seven > alone


def test_fewer_patients_than_can_show_anything_are_promised_nothing(pilot: StudyResult) -> None:
    """42 tests take 11 patients: 42 * 2 / 2^11 = 0.041, and twice that with ten. 37 points are none with five."""
    found = power_of_study(pilot, patients=(5, 10, 11, 12), seeds=(5,), tests=42, difference=90.0)
    assert found.fewest_patients == 11
    assert [row[0] is None for row in found.differences] == [True, True, False, False]
    assert found.needed == (11,)
    text = power_text(found)
    assert text.count("not possible") == 2
    assert "With fewer than 11 patients no difference can be significant, however large" in text
    assert "not possible" not in power_text(power_of_study(pilot, patients=(11,), seeds=(5,), tests=42))


def test_differences_that_no_dice_can_have_are_not_promised(study_of_dice: StudyMaker) -> None:
    """Two trainings of which one is perfect and one finds nothing: two more would need a difference above 100."""
    wild = study_of_dice(
        lambda arm, seed, *_: float(seed == (arm.weighting == "simple")), **OPTIONS, **{"study.seeds": (0, 1)}
    )
    found = power_of_study(wild, patients=(20,), seeds=(2,))
    assert found.differences == ((None,),)
    assert '"Not possible" with 6 patients or more: it would have to be larger than 100 points.' in power_text(found)


def test_a_pilot_without_any_variance_says_so(study_of_dice: StudyMaker) -> None:
    same = study_of_dice(lambda *_: 0.5, **OPTIONS, **{"study.seeds": (0, 1)})
    text = power_text(power_of_study(same, **SIZES))
    assert "The paired differences of this pilot do not vary" in text
    assert "Are its scores all 0" in text


@pytest.mark.parametrize("difference", [0.0, -2.0, float("nan"), float("inf"), 101.0])
def test_a_difference_that_is_none_is_refused(pilot: StudyResult, difference: float) -> None:
    with pytest.raises(UsageError, match="a number above 0, up to 100, was expected"):
        power_of_study(pilot, **SIZES, difference=difference)


def test_the_pilot_is_described_by_the_range_of_its_pairs(study_of_dice: StudyMaker) -> None:
    """The last arm has two of three seeds."""
    few = {"study.weightings": ["uniform", "simple", "square"], "study.learning_rates": [0.01]}
    study = study_of_dice(
        lambda arm, seed, case, _: None if (arm.weighting, seed) == ("square", 2) else 0.5 + 0.01 * (case + seed) % 3,
        **few,
        **{"study.seeds": (0, 1, 2)},
    )
    text = power_text(power_of_study(study, **SIZES))
    assert "3 pairs of arms, 12 cases, 2 to 3 seeds" in text
    assert "2 to 3 seeds of a pilot show" in text


def test_one_seed_or_an_unknown_organ_is_refused(study_of_dice: StudyMaker, pilot: StudyResult) -> None:
    with pytest.raises(BadInputError, match="the luck of a training is not known"):
        power_of_study(study_of_dice(lambda *_: 0.5, **OPTIONS), **SIZES)
    with pytest.raises(BadInputError, match="There is no organ 'lung'"):
        power_of_study(pilot, **SIZES, organ="lung")


def test_what_is_printed_fits_and_says_what_few_seeds_mean(pilot: StudyResult) -> None:
    text = power_text(power_of_study(pilot, **SIZES, difference=1.0))
    assert max(map(len, text.splitlines())) <= 100
    assert "1 pair of arms, 12 cases, 2 seeds" in text
    assert "between trainings" in text
    assert "With fewer than 5 seeds" in text


def test_sizes_that_are_none_are_refused() -> None:
    result = CliRunner().invoke(module.app, ["power", "study", "--seeds", "1,5"])
    assert result.exit_code == 2
    assert "whole numbers from 2 on were expected" in result.stderr
