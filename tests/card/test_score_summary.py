"""Means and intervals whose values are known: of two cases there are four equally likely draws."""

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


def test_two_cases_have_the_interval_of_both() -> None:
    # draws of (.4, .8): .4 and .8 with chance 1/4 each, .6 with 1/2; the percentiles 2.5 and 97.5 are .4 and .8.
    # Foreground is (organ + .5) / 2 in each draw: .45 to .65, with the mean .55
    found = by_organ(summaries(rows("dice", background=[0.9, 0.9], liver=[0.4, 0.8], spleen=[0.5, 0.5])))
    assert found["liver"] == ScoreSummary(
        grid="original", metric="dice", organ="liver", cases=2, mean=0.6, low=0.4, high=0.8
    )
    assert (found["spleen"].low, found["spleen"].high) == (0.5, 0.5)
    together = found[FOREGROUND]
    assert (together.cases, together.mean, together.low, together.high) == (2, 0.55, 0.45, 0.65)


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
