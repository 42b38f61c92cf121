"""From shares to failing organs: what must hold whatever the constants are."""

import numpy as np
import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.metrics.forecast import ArmForecast, failing_chance, precision_and_recall

EVEN = np.full(8, 0.125)


def test_even_shares_and_a_long_path_fail_nowhere() -> None:
    assert (failing_chance(EVEN, 100.0) < 0.5).all()


def test_less_gradient_or_a_shorter_path_never_helps() -> None:
    shares = np.geomspace(1e-4, 1, 8) / np.geomspace(1e-4, 1, 8).sum()
    chance = failing_chance(shares, 1.0)
    assert (np.diff(chance[1:]) < 0).all()
    assert chance[0] == 0
    assert (failing_chance(shares, 0.1)[1:] >= chance[1:]).all()


def test_a_class_without_gradient_fails() -> None:
    assert failing_chance(np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0]), 1.0)[2:].tolist() == [1] * 6


def test_an_arm_names_its_starving_and_failing_organs() -> None:
    shares = [0.1, 0.2, 0.2, 1e-7, 0.2, 0.1, 0.1, 0.1]
    forecast = ArmForecast.of("square_lr0.001", shares, 1e-6, 0.5, 3.0)
    assert forecast.starving == ("liver",)
    assert "liver" in forecast.failing
    assert forecast.failing == tuple(
        name for name, chance in zip(CLASS_NAMES, forecast.failing_chance, strict=True) if chance > 0.5
    )


def test_precision_and_recall_by_hand() -> None:
    named, happened = {("a", "liver"), ("a", "spleen"), ("b", "liver")}, {("a", "liver"), ("b", "artery")}
    assert precision_and_recall(named, happened) == pytest.approx((1 / 3, 1 / 2))
    assert precision_and_recall(set(), set()) == (1, 1)
