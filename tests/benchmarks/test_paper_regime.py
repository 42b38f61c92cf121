"""The rule of docs/decisions/0038 on studies whose answer is known."""

from typing import Any

import pytest

from benchmarks.count_scale import PAPER_VOXELS, count_scale_for
from benchmarks.paper_regime import (
    PAPER,
    complete_stage,
    effects,
    is_settled,
    page,
    rises,
    verdict,
    word_of,
)
from benchmarks.seeded_arms import interaction
from tests.fabricated_studies import PAPER_PERCENT

NAMES = ("uniform", "simple", "square")
Cells = dict[str, float]  # Dice in per cent by weighting and rate: "simple 0.01"
# the paper's foreground means, as printed
FOREGROUND = {
    f"{name} {rate}": sum(row[at] for organ, row in PAPER_PERCENT.items() if organ != "background") / 7
    for at, (rate, name) in enumerate((rate, name) for rate in ("0.001", "0.01") for name in NAMES)
}


def entry(percent: float, validation: float | None = None) -> dict[str, Any]:
    return {
        "dice": {"background": 0.99, "liver": percent / 100, "spleen": percent / 100},
        "volume": {"background": 1.0, "liver": 0.0, "spleen": 12.0},
        "validation": validation,
        "step_kept": 0.07,
    }


def arms(cells: Cells, seeds: int = 5, validation: float | None = None) -> dict[str, dict[str, Any]]:
    """Every seed has a little of its own, the same in all its arms."""
    return {
        f"{name}_lr{rate}": {str(seed): entry(value + 0.3 * seed, validation) for seed in range(seeds)}
        for (name, rate), value in ((key.split(), value) for key, value in cells.items())
    }


def flat(**changed: float) -> Cells:
    return {f"{name} {rate}": 60.0 for name in NAMES for rate in ("0.001", "0.01")} | {
        key.replace("_", " ").replace("at", "0."): value for key, value in changed.items()
    }


def test_the_papers_own_table_has_the_interactions_that_stand_beside_ours() -> None:
    for name, expected in PAPER.items():
        found = interaction(arms(FOREGROUND), name)
        assert list(found.values()) == pytest.approx([expected] * 5, abs=0.06)


def test_voxels_of_the_paper() -> None:
    # 340 scans of 128 * 128 * (460 + 1177) / 8
    assert pytest.approx(340 * 128 * 128 * 204.625) == PAPER_VOXELS


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([20, 21, 19, 20, 20], "there"),
        ([0.5, -1, 1, 0, 0.2], "not there"),
        ([20, -30, 40, 0, 10], "open"),  # its interval is wide
        ([4, 4.1, 4.2, 4, 4.1], "not there"),
        ([20, 21, 19, 20], "open"),  # four seeds
    ],
)
def test_an_interaction_is_there_or_not_by_its_interval(values: list[float], word: str) -> None:
    assert word_of(values) == word


@pytest.mark.parametrize(
    ("simple", "square", "direction", "said"),
    [
        (0, 40, 0, "direction does not need it, scale needs it"),
        (20, 40, 40, "direction needs it, scale does not need it"),
        (20, 40, 10, "direction needs it, scale needs it"),
        (0, 0, 0, "neither direction nor scale needs the larger rate here: the paper's effect is not shown"),
    ],
)
def test_the_verdict(simple: float, square: float, direction: float, said: str) -> None:
    cells = flat() | {"simple 0.01": 60.0 + simple, "square 0.001": 30.0, "square 0.01": 30.0 + square}
    alone = arms({"square 0.001": 35.0, "square 0.01": 35.0 + direction})
    found = effects(arms(cells), alone)
    assert found["scale"] == pytest.approx([square - direction] * 5)
    assert verdict(found) == said


def test_seeds_that_the_direction_lacks_leave_its_part_open() -> None:
    found = effects(arms(flat()), arms({"square 0.001": 35.0, "square 0.01": 75.0}, seeds=3))
    assert [len(found[key]) for key in ("square", "direction", "scale")] == [5, 3, 3]
    assert verdict(found) == "direction is open, scale is open"


def test_a_stage_is_complete_with_all_arms_and_seeds() -> None:
    whole, part = arms(flat()), arms(flat(), seeds=4)
    assert complete_stage({}) is None
    assert complete_stage({"2500": part}) is None
    assert complete_stage({"2500": whole, "5000": part}) == 2500
    assert complete_stage({"2500": whole, "5000": whole}) == 5000


def test_it_is_settled_where_no_arm_on_either_set_rose_by_a_point() -> None:
    def of_set(gain: float) -> dict[str, Any]:
        return {"2500": arms(flat(), validation=0.5), "5000": arms(flat(), validation=0.5 + gain / 100)}

    assert rises(of_set(2), 2500, 5000)["simple_lr0.01"] == pytest.approx(2)
    assert is_settled({"phantom": of_set(0.9), "shapes": of_set(-3)})
    assert not is_settled({"phantom": of_set(0.9), "shapes": of_set(1.1)})
    assert not is_settled({"phantom": of_set(0.9)})


def test_the_counts_are_scaled_until_square_keeps_its_share() -> None:
    def kept(_weighting: str | float, count_scale: float, _epsilon: float | None = None) -> float:
        return 1 / (1 + count_scale)

    # 1 / (1 + x) = 0.07 at x = 13.2857
    assert count_scale_for(kept) == pytest.approx(13.3)


def test_the_page_tells_what_is_in_and_gives_no_verdict_before_a_stage_is_complete() -> None:
    found: dict[str, Any] = {
        "studies": {"phantom": {"2500": arms(flat() | {"square 0.001": 10.0}, seeds=2)}},
        "count_scale": {"phantom 0.07": 2280.0},
        "computers": {"phantom": ["A CPU", "B CPU"]},
        "computing": {"train.precision": "bfloat16"},
        "versions": {"torch": "2"},
    }
    claimed = {
        "kept": {"paper": {"1e-08": {"uniform": 0.99, "simple": 0.9994, "square": 0.0132}}},
        "voxels": 1.1e9,
        "volumes_at_which_square_keeps_7_percent": 60.0,
        "parameters": 19_071_688,
    }
    text = page(found, claimed)
    assert "12 of 100 trainings are in at 2,500 steps; 0 of 100 trainings are in at 5,000 steps" in text
    assert "not complete: means so far, and no verdict" in text
    assert "From rate 0.001 to 0.01" not in text
    assert "liver (0), spleen (12)" in text
    assert "Counts times 2280. Read at 2,500 steps" in text
    assert "99.0 % | 99.9 % | 1.3 %" in " ".join(text.split())
    assert "## Real shapes, simulated HU\n\nNot run yet." in text
    found["studies"]["phantom"]["2500"] = arms(flat())
    assert "**From rate 0.001 to 0.01: direction is open, scale is open.**" in page(found, claimed)
