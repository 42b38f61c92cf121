"""From shares to failing organs: what must hold whatever the constants are."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.errors import BadInputError
from viscera.doctor.forecast import (
    ArmForecast,
    Array,
    Outlook,
    failing_chance,
    forecast_features,
    hu_claims,
    load_forecasts,
    precision_and_recall,
    save_forecasts,
    separability_of,
)

ALIKE = (0.1,) * 8


def outlook(shares: Sequence[float], iterations: int = 1000, step_kept: float = 1.0, rate: float = 0.003) -> Outlook:
    return Outlook(tuple(shares), 1e-6, step_kept, rate, iterations, ALIKE, ALIKE, ALIKE)


def chances(shares: Sequence[float], iterations: int = 1000, step_kept: float = 1.0, rate: float = 0.003) -> Array:
    return failing_chance(forecast_features(outlook(shares, iterations, step_kept, rate)), np.array(shares))


def test_even_shares_and_a_long_path_fail_nowhere() -> None:
    assert (chances([0.125] * 8, 10_000) < 0.3).all()


def test_less_gradient_or_a_shorter_path_never_helps() -> None:
    shares = (np.geomspace(1e-4, 1, 8) / np.geomspace(1e-4, 1, 8).sum()).tolist()
    assert (np.diff(chances(shares)[1:]) < 0).all()
    assert chances(shares)[0] == 0
    assert (chances(shares, 100)[1:] >= chances(shares)[1:]).all()
    assert chances(shares, 10_000, 0.1) == pytest.approx(chances(shares))  # epsilon takes a part of the path


def test_features_by_hand() -> None:
    known = Outlook(
        gradient_share=(0.02, 0.2, 0.002),
        gradient_rms=1e-6,
        step_kept=0.5,
        learning_rate=0.2,
        iterations=100,
        fraction=(0.9, 0.09, 0.01),
        separability=(0.8, 0.5, 0.25),
        hu_claim=(1.0, 0.1, 0.01),
    )
    of_arm = [1, 1, 1, -1, -1]  # path 0.5 * 0.2 * 100, excess 0.1 / 0.01, background's share 0.02 / 0.2
    assert forecast_features(known)[1:] == pytest.approx(
        np.array([[*of_arm, 0, -1, np.log10(0.09), 0.5, np.log10(0.09)], [*of_arm, -2, -2, -2, 0.25, -2]])
    )


def test_too_high_a_rate_costs_small_organs() -> None:
    def chance(rate: float) -> Array:
        known = dataclasses.replace(outlook([0.125] * 8, rate=rate), fraction=(0.9, *[0.001] * 7))
        return failing_chance(forecast_features(known), np.full(8, 0.125))

    assert (chance(0.3)[1:] > chance(0.01)[1:]).all()


def test_hu_claims_by_hand() -> None:
    # class 1: 4 voxels in bin 0 beside 8 of background, 2 alone in bin 1; weights 1 and 2: (4 * 8/16 + 2 * 1) / 6
    counts = np.array([[8.0, 0.0, 6.0], [4.0, 2.0, 0.0]])
    assert hu_claims(counts, np.array([1.0, 2.0])) == pytest.approx(((8 / 2 + 6) / 14, 4 / 6))


def test_a_class_without_gradient_fails() -> None:
    assert chances([0.5, 0.5, 0, 0, 0, 0, 0, 0])[2:].tolist() == [1] * 6


def test_an_arm_names_its_starving_and_failing_organs() -> None:
    forecast = ArmForecast.of("square_lr0.001", outlook([0.1, 0.2, 0.2, 1e-7, 0.2, 0.1, 0.1, 0.1]))
    assert forecast.starving == ("liver",)
    assert "liver" in forecast.failing
    assert forecast.failing == tuple(
        name for name, chance in zip(CLASS_NAMES, forecast.failing_chance, strict=True) if chance > 0.3
    )


def test_separability_by_hand() -> None:
    # class 1 fills bin 0 alone: Dice 1. Of class 2, bin 1 holds 6 of 8 beside 2 of class 0: 2 * 6 / (8 + 8); with bin
    # 2, where it has 2 of 10: 2 * 8 / (18 + 8), which is less
    counts = np.array([[0.0, 2.0, 8.0], [5.0, 0.0, 0.0], [0.0, 6.0, 2.0]])
    assert separability_of(counts)[1:] == pytest.approx((1, 12 / 16))


def test_precision_and_recall_by_hand() -> None:
    named, happened = {("a", "liver"), ("a", "spleen"), ("b", "liver")}, {("a", "liver"), ("b", "artery")}
    assert precision_and_recall(named, happened) == pytest.approx((1 / 3, 1 / 2))
    assert precision_and_recall(set(), set()) == (1, 1)


def test_forecasts_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "forecast.json"
    assert load_forecasts(path, 300) == ()
    known = Outlook((0.125,) * 8, 1e-3, 0.9, 0.01, 300, (0.1,) * 8, (0.1,) * 8, (0.1,) * 8)
    forecasts = (ArmForecast.of("simple_lr0.01", known),)
    save_forecasts(path, 300, forecasts)
    assert load_forecasts(path, 300) == forecasts
    assert load_forecasts(path, 600) == ()
    path.write_text('{"iterations": 300, "arms": [{"arm": 5}]}')
    with pytest.raises(BadInputError, match=r"forecast\.json: damaged"):
        load_forecasts(path, 300)
