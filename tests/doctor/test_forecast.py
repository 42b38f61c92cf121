"""From the Dice of a training in miniature to failing organs: what must hold whatever the constants are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from viscera.core.errors import BadInputError
from viscera.doctor.forecast import (
    NAMED_ABOVE,
    ArmForecast,
    Array,
    Calibration,
    Outlook,
    confused_with,
    failing_chances,
    load_forecasts,
    precision_and_recall,
    save_forecasts,
)

ALL = np.full(8, 0.125)
EXACT = Calibration(2.0, -10.0, ((0.0, 0.0), (0.0, 0.0)))


def outlook(dice: Array, shares: Array = ALL, confusion: Array | None = None, unforeseen: str = "") -> Outlook:
    confusion = np.diag(np.full(8, 100.0)) if confusion is None else confusion
    return Outlook(tuple(shares.tolist()), 1e-6, 0.9, dice, confusion, unforeseen)


def test_chances_by_hand() -> None:
    # log odds 2 - 10 * 0.2 = 0 and 2 - 10 * 0 = 2; seeds that agree and constants known exactly leave no doubt
    dice = np.array([[0.9, 0.2, 0.0], [0.9, 0.2, 0.0]])
    low, chance, high = failing_chances(dice, np.ones(3), EXACT)
    assert chance == pytest.approx([0, 0.5, 1 / (1 + np.exp(-2))])
    assert low == pytest.approx(chance)
    assert high == pytest.approx(chance)


def test_the_interval_by_hand() -> None:
    # seeds 0.1 and 0.3: variance of their mean 0.02 / 2, times 10² is 1 in log odds; the intercept adds 3: 1.645 * 2
    known = Calibration(2.0, -10.0, ((3.0, 0.0), (0.0, 0.0)))
    low, chance, high = failing_chances(np.array([[0.9, 0.1], [0.9, 0.3]]), np.ones(2), known)
    odds = np.log(np.array([low[1], chance[1], high[1]]) / (1 - np.array([low[1], chance[1], high[1]])))
    assert odds == pytest.approx([-3.29, 0, 3.29], abs=1e-6)


def test_a_class_that_could_not_be_measured_or_has_no_gradient_fails() -> None:
    dice = np.array([[0.9, np.nan, 0.8, 0.8]])
    low, chance, high = failing_chances(dice, np.array([1.0, 1.0, 1.0, 0.0]), EXACT)
    assert chance[1] == pytest.approx(1 / (1 + np.exp(-2)))
    assert (low[1], high[1]) == (
        pytest.approx(1 / (1 + np.exp(8))),
        chance[1],
    )  # a Dice of 1 is as possible as one of 0
    assert (low[3], chance[3], high[3]) == (1, 1, 1)
    assert (low[0], chance[0], high[0]) == (0, 0, 0)


def test_who_takes_the_voxels() -> None:
    # of 10 voxels of class 1 background takes 3 and class 2 one; of class 2 nobody takes a fifth
    confusion = np.array([[50.0, 0, 0], [3, 6, 1], [1, 0, 9]])
    assert confused_with(confusion, ("background", "liver", "spleen")) == ("", "background", "")
    assert confused_with(np.zeros((2, 2)), ("background", "liver")) == ("", "")


def test_an_arm_names_its_starving_and_failing_organs() -> None:
    dice = np.full((3, 8), 0.9)
    dice[:, 3] = 0.0
    confusion = np.diag(np.full(8, 100.0))
    confusion[3, 3], confusion[3, 4] = 0, 100
    shares = np.array([0.1, 0.2, 0.2, 1e-7, 0.2, 0.1, 0.1, 0.1])
    forecast = ArmForecast.of("square_lr0.001", outlook(dice, shares, confusion))
    assert forecast.starving == ("liver",)
    assert forecast.failing == ("liver",)
    assert list(forecast.confused_with) == ["", "", "", "spleen", "", "", "", ""]
    assert list(forecast.volume_ratio) == [1, 1, 1, 0, 2, 1, 1, 1]
    chances = zip(forecast.failing_chance_low, forecast.failing_chance, forecast.failing_chance_high, strict=True)
    assert all(low <= chance <= high for low, chance, high in chances)
    assert forecast.failing_chance[3] > NAMED_ABOVE > max(forecast.failing_chance[4:])


def test_a_class_that_no_training_case_has_is_forecast_by_name_alone() -> None:
    """The list keeps its length and order: readers find a chance of 1 there, which names tell apart."""
    dice = np.full((3, 8), 0.9)
    dice[:, 7] = np.nan
    shares = np.array([0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0])
    known = dataclasses.replace(outlook(dice, shares), absent=("pancreas",), unmet=("gallbladder",))
    forecast = ArmForecast.of("simple_lr0.01", known)
    assert (forecast.absent, forecast.unmet) == (("pancreas",), ("gallbladder",))
    assert forecast.failing == forecast.starving == ()
    assert (len(forecast.failing_chance), forecast.failing_chance[7]) == (8, 1)
    # a share that was not measured is none of 0: the miniature has learnt it as well as the others
    assert forecast.failing_chance[6] == forecast.failing_chance[5] < NAMED_ABOVE


def test_nothing_is_said_of_what_is_not_foreseen() -> None:
    forecast = ArmForecast.of("a", outlook(np.zeros((0, 8)), unforeseen="SGD"))
    assert (forecast.failing_chance, forecast.failing, forecast.confused_with) == ((), (), ())


def test_precision_and_recall_by_hand() -> None:
    named, happened = {("a", "liver"), ("a", "spleen"), ("b", "liver")}, {("a", "liver"), ("b", "artery")}
    assert precision_and_recall(named, happened) == pytest.approx((1 / 3, 1 / 2))
    assert precision_and_recall(set(), set()) == (1, 1)


def test_forecasts_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "forecast.json"
    assert load_forecasts(path, 300) == ()
    forecasts = (ArmForecast.of("simple_lr0.01", outlook(np.full((3, 8), 0.5))),)
    save_forecasts(path, 300, forecasts)
    assert load_forecasts(path, 300) == forecasts
    assert load_forecasts(path, 600) == ()
    path.write_text('{"iterations": 300, "arms": [{"arm": 5}]}')
    with pytest.raises(BadInputError, match=r"forecast\.json: damaged"):
        load_forecasts(path, 300)


def test_a_forecast_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "forecast.json"
    path.write_text(
        '{"iterations": 300, "arms": [{"arm": "a", "gradient_share": [0.5, 0.5], "gradient_rms": 1e-6, "step_kept": 1,'
        ' "starving": [], "failing_chance": [0, 0.4], "failing": ["liver"], "unforeseen": ""}]}'
    )
    (forecast,) = load_forecasts(path, 300)
    assert list(forecast.failing_chance) == [0, 0.4]
    assert not [*forecast.failing_chance_low, *forecast.confused_with]
