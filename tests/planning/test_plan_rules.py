"""What follows from data, memory and time: one rule after the other, by hand."""

import math
from typing import Any

import pytest

from tests.planned_data import data_of
from viscera.core.config import IntensityConfig, TrainConfig
from viscera.core.recipe_config import RateScheduleConfig
from viscera.engine.step_cost import TrainingCost
from viscera.planning import plan_rules as rules
from viscera.planning.fingerprint import OrganHu, Presence
from viscera.planning.plan_rules import Candidate, candidate

CUBES = data_of((3, 3, 3), (100, 100, 100), store_mm=(3, 3, 3))
PAPER = TrainConfig()
NONE: frozenset[str] = frozenset()


def values_of(found: Candidate | None) -> dict[str, Any]:
    assert found is not None
    return {choice.key.removeprefix("train."): choice.value for choice in found.choices}


def test_sizes_become_cheaper_from_one_to_the_next() -> None:
    """Multiplications grow with the voxels of a window and the square of the filters."""
    costs = [edge**3 * filters**2 for edge, filters in rules.SIZES]
    assert costs == sorted(costs, reverse=True)


def test_of_cubes_the_network_is_the_papers_as_deep_as_the_window_allows() -> None:
    """64, 32, 16, 8 voxels of 64, 128, 256, 512 channels; 32, 16, 8, 4 where channels are few."""
    found = values_of(candidate(CUBES, PAPER, (64, 32), NONE))
    assert (found["levels"], found["network.strides"], found["network.kernels"]) == (4, None, None)
    assert values_of(candidate(CUBES, PAPER, (32, 8), NONE))["levels"] == 4
    assert values_of(candidate(CUBES, PAPER, (64, 16), NONE))["levels"] == 5


def test_of_thick_slices_the_network_is_as_nnunets() -> None:
    """2×2×5 mm in windows of 48³: slices wait for the others once; then 12 of them are left, and 12×12."""
    thick = data_of((2, 2, 5), (90, 90, 60), store_mm=(2, 2, 5))
    found = values_of(candidate(thick, PAPER, (48, 8), NONE))
    assert found["network.strides"] == [[2, 2, 1], [2, 2, 2], [2, 2, 2], [1, 1, 2]]
    assert found["network.kernels"][:2] == [[3, 3, 1], [3, 3, 3]]


def test_a_window_is_no_larger_than_the_scans() -> None:
    flat = data_of((3, 3, 3), (100, 100, 50), store_mm=(3, 3, 3))
    assert candidate(flat, PAPER, (64, 32), NONE) is None
    assert candidate(flat, PAPER, (48, 16), NONE) is not None
    tiny = data_of((8, 8, 8), (12, 12, 9), store_mm=(8, 8, 8))
    assert values_of(candidate(tiny, PAPER, (16, 8), NONE))["patch"] == 16


def test_what_is_fixed_is_not_planned_and_the_rest_goes_around_it() -> None:
    fixed = frozenset({"train.patch", "train.levels", "train.intensity.low_hu"})
    base = TrainConfig(patch=40, levels=3)
    sizes = rules.edges_and_filters(base, fixed)
    assert sizes == [(40, 32), (40, 16), (40, 8)]
    found = values_of(candidate(CUBES, base, sizes[0], fixed))
    assert not {"patch", "levels", "intensity.low_hu"} & found.keys()
    assert found["network.strides"] is None
    assert rules.edges_and_filters(base, frozenset({"train.patch", "train.filters"})) == [(40, 32)]


def test_hu_are_clipped_and_scaled_by_those_of_the_organs() -> None:
    found = {choice.key.rpartition(".")[2]: choice.value for choice in rules.intensity(CUBES)}
    assert found == {"low_hu": -100, "high_hu": 251, "scaling": "z_score", "mean_hu": 80.0, "sd_hu": 60.0}
    uniform = data_of((3, 3, 3), (9, 9, 9), hu=OrganHu(50, 50, 50, 0))
    flat = {choice.key.rpartition(".")[2]: choice.value for choice in rules.intensity(uniform)}
    assert (flat["low_hu"], flat["high_hu"], flat["sd_hu"]) == (0, 100, 1)


def test_a_range_of_hu_of_the_base_stays() -> None:
    own = TrainConfig(intensity=IntensityConfig(low_hu=-160, high_hu=240))
    assert not [key for key in values_of(candidate(CUBES, own, (32, 8), NONE)) if "intensity" in key]
    given = frozenset({"train.intensity.low_hu", "train.intensity.high_hu"})
    found = values_of(candidate(CUBES, own, (32, 8), given))
    assert sorted(key for key in found if "intensity" in key) == [
        *("intensity.mean_hu", "intensity.scaling", "intensity.sd_hu"),
    ]


@pytest.mark.parametrize(
    ("cases", "in_memory", "steps", "expected"),
    [
        (100, 20, math.inf, 19),  # 5 % of 100 · 100³ voxels are 19 windows of 64³
        (100, 7, math.inf, 7),
        (100, 20, 22_500, 5),  # 45,000 windows in 9,000 steps
        (3, 20, math.inf, None),  # 5 % of them are less than a window
        (100, 1, math.inf, None),
    ],
)
def test_a_batch_grows_as_memory_data_and_time_allow(
    cases: int, in_memory: int, steps: float, expected: int | None
) -> None:
    data = data_of((3, 3, 3), (100, 100, 100), store_mm=(3, 3, 3), cases=cases)
    found = candidate(data, PAPER, (64, 32), NONE)
    assert found is not None
    choice = rules.larger_batch(data, found.grid, 64, in_memory, steps)
    assert (choice.value if choice else None) == expected


def test_windows_on_organs_are_for_organs_that_are_rarely_seen() -> None:
    rare, common = Presence((0.1, 0.9), (0.4, 1.0)), Presence((0.8, 0.9), (0.9, 1.0))
    assert rare.mixed(0.5) == pytest.approx((0.25, 0.95))
    choice = rules.organ_windows(PAPER, rare)
    assert choice is not None
    assert choice.value == 0.33
    choice = rules.organ_windows(PAPER, common)
    assert choice is not None
    assert choice.value == 0
    assert rules.organ_windows(TrainConfig(organ_windows=0.5), rare) is None


def test_a_schedule_of_the_base_stays_and_its_warm_up_is_a_tenth_at_most() -> None:
    assert {c.key: c.value for c in rules.schedule(PAPER, 700, "")} == {
        "train.iterations": 700,
        "train.rate_schedule.shape": "polynomial",
    }
    base = TrainConfig(rate_schedule=RateScheduleConfig(shape="cosine", warm_up=500, steps=9000))
    assert {c.key: c.value for c in rules.schedule(base, 700, "")} == {
        "train.iterations": 700,
        "train.rate_schedule.warm_up": 70,
        "train.rate_schedule.steps": None,
    }


@pytest.mark.parametrize(
    ("validation", "line", "validate", "log"),
    [
        (1.0, 0.0, 500, 50),  # twenty times
        (90.0, 10.0, 2000, 200),  # each for what 2,000 steps may spend, and a line for what 200 may
        (0.0, 0.0, 10_000, 50),  # there is nothing to validate on
    ],
)
def test_curve_and_validation_take_a_twentieth_of_the_time_each(
    validation: float, line: float, validate: int, log: int
) -> None:
    """10,000 steps of 1 s; 600 s between checkpoints would be 1,000 steps, a twentieth of all is 500."""
    cost = TrainingCost(1.0, line, validation, 0.0, 0.0, 0.0, 8)
    found = {c.key.rpartition(".")[2]: c.value for c in rules.intervals(TrainConfig(iterations=10_000), cost)}
    assert found == {"log_every": log, "validate_every": validate, "checkpoint_every": 500}


def test_rounding() -> None:
    assert [rules.rounded_up(x) for x in (0.2, 1, 3.9, 5, 49, 120, 999)] == [1, 1, 5, 5, 50, 200, 1000]
    assert [rules.round_down(n) for n in (7, 48, 123, 98_765)] == [7, 48, 120, 98_000]
