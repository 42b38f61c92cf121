"""Means and intervals whose values are known."""

import math

import pytest

from viscera.card.score_summary import FOREGROUND, ScoreSummary, summaries
from viscera.io.scores import ScoreRow


def rows(metric: str, **values: list[float | None]) -> list[ScoreRow]:
    """Values of organs by case."""
    return [
        ScoreRow(f"case_{number}", organ, "original", metric, value)
        for organ, of_cases in values.items()
        for number, value in enumerate(of_cases)
    ]


def by_organ(found: list[ScoreSummary]) -> dict[str, ScoreSummary]:
    return {each.organ: each for each in found}


def test_intervals_are_students_over_the_cases() -> None:
    # liver: mean .6, s.d. .2, standard error .2 / sqrt(3), t(0.975, 2) = 4.3027: ± .4968, and Dice ends at 1.
    # Foreground, (liver + .5) / 2 in each case: mean .55 ± .2484
    found = by_organ(summaries(rows("dice", background=[0.9] * 3, liver=[0.4, 0.6, 0.8], spleen=[0.5] * 3)))
    liver, together = found["liver"], found[FOREGROUND]
    assert liver.cases == 3
    assert (liver.mean, liver.low, liver.high) == pytest.approx((0.6, 0.1032, 1.0), abs=1e-4)
    assert (found["spleen"].low, found["spleen"].high) == (0.5, 0.5)
    assert (together.cases, together.mean) == (3, 0.55)
    assert (together.low, together.high) == pytest.approx((0.3016, 0.7984), abs=1e-4)


def test_two_cases_tell_next_to_nothing() -> None:
    found = by_organ(summaries(rows("hd95_mm", liver=[3.0, 5.0])))["liver"]
    # 4 ± 12.706 * 1; a distance is not below 0
    assert (found.low, found.high) == pytest.approx((0, 16.706), abs=1e-3)


def test_what_is_undefined_or_infinite_is_counted_and_not_averaged() -> None:
    found = by_organ(summaries(rows("hd95_mm", liver=[3.0, 5.0, math.inf, None], spleen=[None] * 4)))
    liver, spleen = found["liver"], found["spleen"]
    assert (liver.cases, liver.mean, liver.absent, liver.infinite) == (2, 4.0, 1, 1)
    assert (spleen.cases, spleen.mean, spleen.low, spleen.absent) == (0, None, None, 4)
    assert found[FOREGROUND].mean == 4.0


def test_one_case_has_no_interval_and_volumes_no_common_mean() -> None:
    found = by_organ(summaries(rows("dice", liver=[0.7], spleen=[0.5])))
    assert (found["liver"].mean, found["liver"].low, found["liver"].high) == (0.7, None, None)
    assert found[FOREGROUND].mean == pytest.approx(0.6)
    assert found[FOREGROUND].low is None
    assert FOREGROUND not in by_organ(summaries(rows("volume_ml", liver=[1500.0, 1600.0], spleen=[200.0, 300.0])))
