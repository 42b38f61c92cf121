"""Means of one table of scores: seeds first, then cases; by hand, and whatever the order of the rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.io.scores import ScoreRow
from viscera.study.score_table import ScoreTable, mean_over

CLASSES = ("background", "liver", "spleen")


def row(case: str, organ: str, value: float | None, grid: str = "original", metric: str = "dice") -> ScoreRow:
    return ScoreRow(case, organ, grid, metric, value)


def table(*runs: tuple[str, int, list[ScoreRow]]) -> ScoreTable:
    return ScoreTable.of(runs, ["one", "two"], [0, 1], CLASSES)


def test_seeds_are_averaged_within_a_case_before_the_cases() -> None:
    """Case a: 0.2 and 0.4, on average 0.3; case b: 0.9 with one seed. Their mean is 0.6, that of the rows 0.5."""
    first = [row("a", "liver", 0.2), row("b", "liver", None)]
    scores = table(("one", 0, first), ("one", 1, [row("a", "liver", 0.4), row("b", "liver", 0.9)]))
    percent = scores.class_percent("original")
    assert percent["one"]["liver"] == pytest.approx(60)
    assert percent.loc["spleen"].isna().all()
    assert percent["two"].isna().all()
    assert list(percent) == ["one", "two"]


def test_what_was_scored_and_what_is_defined_are_two_things() -> None:
    scores = table(("one", 0, [row("b", "liver", None), row("a", "liver", math.inf), row("a", "kidney", 0.5)]))
    sample = scores.sample("original")
    assert sample.cases == ("a", "b")
    assert sample.scored.tolist() == [[True, True], [False, False]]
    assert np.isnan(sample.values).all()  # not finite is undefined; other classes are left out
    assert scores.cases() == ["a", "b"]
    assert scores.grids() == ["original"]


def test_the_fused_predictor_is_a_column_and_no_arm() -> None:
    scores = table(("one", 0, [row("a", "liver", 0.5)]), ("fused", 0, [row("a", "liver", 0.7, metric="dice")]))
    assert scores.columns == ("one", "two", "fused")
    assert scores.class_percent("original")["fused"]["liver"] == pytest.approx(70)
    assert scores.sample("original").values.shape == (2, 1, 2, 3)
    assert len(scores.of_arms("dice", "original")) == 1


def test_metrics_are_dice_first_and_without_volumes() -> None:
    rows = [row("a", "liver", 1.0, metric=metric) for metric in ("volume_ml", "hd95_mm", "dice")]
    assert table(("one", 0, rows)).metrics("original") == ["dice", "hd95_mm"]
    assert table(("one", 0, rows)).metrics("prepared") == []


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12), st.randoms())
def test_a_mean_is_the_same_to_the_bit_in_any_order(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (float(mean_over(np.array(each)[None, :], axis=1)[0]) for each in (values, shuffled))
    assert one == other or (math.isnan(one) and all(map(math.isnan, values)))
