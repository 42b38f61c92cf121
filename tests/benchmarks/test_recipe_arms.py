"""The ablation's arms, budget and rule, worked by hand."""

import json

import pytest

from benchmarks.recipe_arms import (
    ALTERNATIVES,
    INGREDIENTS,
    LATER_ROUNDS,
    Effect,
    arms,
    chosen,
    effects,
    mean_gains,
    number_of_ingredients,
    steps_of,
    strong,
)
from benchmarks.recipes import NAME
from benchmarks.recipes_on_real_scans import who_stays
from benchmarks.record import RESULTS


def test_arms_are_the_base_each_all_all_but_each_and_the_alternatives() -> None:
    by_name = {arm.name: arm.settings for arm in arms()}
    of_rounds = len(ALTERNATIVES) + len(LATER_ROUNDS)
    assert len(by_name) == 2 + 2 * len(INGREDIENTS) + of_rounds == len(arms())
    assert by_name["base"] == {}
    for name, settings in INGREDIENTS.items():
        assert by_name[name] == settings
        assert {**by_name[f"all_but_{name}"], **settings} == by_name["all"]
        assert not by_name[f"all_but_{name}"].keys() & settings.keys()


def test_equal_time_is_fewer_steps_where_a_step_takes_longer() -> None:
    """600 steps of 20 ms are 12 s: 400 steps of 30 ms."""
    assert steps_of(30 / 20, 600) == 400
    assert steps_of(1.0, 600) == 600
    assert steps_of(5000.0, 600) == 1


@pytest.mark.parametrize(
    ("alone", "within_all", "enters"),
    [(2.0, -0.5, True), (0.4, 0.4, False), (5.0, -1.2, False), (0.5, 0.5, True), (-1.5, 9.0, False)],
)
def test_rule_1(alone: float, within_all: float, enters: bool) -> None:
    assert Effect("x", alone, within_all).enters is enters


def test_gains_are_paired_by_seed() -> None:
    """Alone +1, +3, +2 points: 2. Within all -1, 0, +4: 0. An ingredient without all four arms has no effect yet."""
    dice = {
        "base": {0: 0.50, 1: 0.60, 2: 0.70},
        "cosine": {0: 0.51, 1: 0.63, 2: 0.72},
        "all": {0: 0.59, 1: 0.60, 2: 0.64},
        "all_but_cosine": {0: 0.60, 1: 0.60, 2: 0.60},
        "adamw": {0: 0.5},
    }
    (only,) = effects(dice)
    assert (only.ingredient, round(only.alone, 6), round(only.within_all, 6)) == ("cosine", 2.0, 0.0)


def test_the_chosen_arm_has_the_highest_mean_gain_and_of_arms_alike_the_fewest_ingredients() -> None:
    """Gains on the phantom: early 5.2 points with two ingredients, early_average_ce 5.6 with four, mild 1.

    With 2 points less for early on the shapes, at one budget, its mean of two gains is 3.6, that of the other 3.8.
    """
    phantom = {
        "base": {0: 0.78, 1: 0.79, 2: 0.95},
        "early": {0: 0.832, 1: 0.843, 2: 1.002},
        "early_average_ce": {0: 0.836, 1: 0.70, 2: 1.006},
        "mild": {0: 0.79, 1: 0.80, 2: 0.96},
    }
    assert {name: round(value, 6) for name, value in mean_gains(phantom, {}).items()} == {
        "base": 0.0,
        "early": 5.2,
        "early_average_ce": 5.6,
        "mild": 1.0,
    }
    assert chosen(phantom, {}).name == "early"
    shapes = {1200: {"base": {0: 0.3}, "early": {0: 0.32}, "early_average_ce": {0: 0.32}}}
    assert chosen(phantom, shapes).name == "early"  # mild was not trained there
    assert round(mean_gains(phantom, shapes)["early_average_ce"], 6) == 3.8
    shapes[1200]["early"][0] = 0.305
    assert chosen(phantom, shapes).name == "early_average_ce"


def test_an_ingredient_of_several_settings_counts_once() -> None:
    by_name = {arm.name: number_of_ingredients(arm) for arm in arms()}
    assert by_name["base"] == 0
    assert by_name["window_hu"] == by_name["cross_entropy_root"] == by_name["filters_16"] == 1
    assert by_name["early_average_ce"] == by_name["mild"] == 4
    assert by_name["mild_rate_0.005"] == 5


def test_strong_is_the_arm_that_the_rule_chooses_from_what_was_measured() -> None:
    """With the base's network, windows and weights; so are its other weightings."""
    found = json.loads((RESULTS / NAME).read_text(encoding="utf-8"))
    best = chosen(found["ablation"], found["shapes"], who_stays(found.get("memorised", {}))).settings
    best = {"learning_rate": 0.01, **best}
    assert strong().settings == {"weighting": "uniform", **best}
    assert strong("square").settings == {"weighting": "square", **best}
