"""The rule of docs/decisions/0036 on studies whose answer is known: Dice made of the weight, of the organ."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.over_seeds import OverSeeds
from benchmarks.permuted_weights import (
    ALL_SEEDS,
    NAMES,
    POWER,
    RATE,
    arm_names,
    correlations,
    page,
    rivals_section,
    verdict,
    weight_ranks,
    youden,
)

COUNTS = dict(zip(("background", *NAMES), [900_000, 2400, 1200, 50_000, 5800, 9000, 900, 2100], strict=True))
RANKS = weight_ranks(COUNTS, POWER)  # of p = 2: artery 4, portal vein 6, liver 1, spleen 3, stomach 2, 7, 5
DiceOf = Callable[[int, int, int], float]  # of shift, organ and seed


def entry(dice: dict[str, float], volume: float = 1.0) -> dict[str, Any]:
    both = {"background": 0.9, **dice}
    return {"dice": both, "volume": dict.fromkeys(both, volume), "dice_by_batch": dict.fromkeys(dice, 0.3)}


def arms(dice: DiceOf, seeds: int = ALL_SEEDS) -> dict[str, dict[str, Any]]:
    return {
        name: {
            str(seed): entry({organ: dice(shift, at, seed) for at, organ in enumerate(NAMES)}) for seed in range(seeds)
        }
        for shift, name in enumerate(arm_names(POWER, RATE))
    }


def by_weight(shift: int, organ: int, seed: int) -> float:
    """0.1 for the three smallest weights, then rising; a little of the seed's."""
    rank = int(RANKS[shift, organ])
    return (0.05 + 0.01 * rank if rank <= 3 else 0.1 * rank) + 0.001 * seed


def by_organ(_shift: int, organ: int, seed: int) -> float:
    return by_weight(0, organ, seed)


def test_the_ranks_of_the_weights_are_a_latin_square() -> None:
    assert RANKS[0].tolist() == [4, 6, 1, 3, 2, 7, 5]
    assert RANKS[1].tolist() == [6, 1, 3, 2, 7, 5, 4]  # each takes the count of the next
    assert all(sorted(column) == list(range(1, 8)) for column in RANKS.T.tolist())


def test_dice_of_the_weight_alone_is_confirmed() -> None:
    dice = np.array([[by_weight(k, organ, 0) for organ in range(7)] for k in range(7)])
    rho_w, rho_o = correlations(dice, RANKS)
    assert rho_w == pytest.approx(1)
    assert rho_o < 0.5
    j_weight, j_organ = youden(dice, RANKS)
    assert j_weight == pytest.approx(1)
    # of 18 failing cells 6 are of liver, spleen or stomach with another's failing weight, of 24 others 12
    assert j_organ == pytest.approx(6 / 18 - 12 / 24)
    assert verdict(arms(by_weight), COUNTS)[0] == "confirmed"


def test_dice_of_the_organ_alone_is_refuted() -> None:
    dice = np.array([[by_organ(k, organ, 0) for organ in range(7)] for k in range(7)])
    assert correlations(dice, RANKS) == pytest.approx((0, 1))
    assert youden(dice, RANKS)[1] == pytest.approx(1)
    assert verdict(arms(by_organ), COUNTS)[0] == "refuted"


def test_the_weight_with_another_set_of_failing_organs_is_undecided() -> None:
    """Dice rises with the weight, but only liver, spleen and stomach ever fall below 0.2."""

    def mixed(shift: int, organ: int, seed: int) -> float:
        return 0.01 * int(RANKS[shift, organ]) + (0.05 if organ in {2, 3, 4} else 0.4) + 0.0001 * seed

    word, sentences = verdict(arms(mixed), COUNTS)
    assert word == "undecided"
    assert "Part 1 holds" in sentences[0]
    assert "Part 2 does not hold" in sentences[1]


def test_before_all_seeds_are_in_there_is_no_verdict() -> None:
    word, (sentence,) = verdict(arms(by_weight, seeds=4), COUNTS)
    assert word == "open"
    assert sentence.startswith("4 of 5 seeds")
    assert verdict({}, COUNTS)[0] == "open"


def test_where_nothing_fails_neither_forecast_is_worth_anything() -> None:
    assert youden(np.full((7, 7), 0.5), RANKS) == (0, 0)


def test_a_rival_explains_it_where_square_comes_to_uniform() -> None:
    def of(value: float) -> dict[str, Any]:
        return {"0": entry(dict.fromkeys(NAMES, value)), "1": entry(dict.fromkeys(NAMES, value + 0.02))}

    rivals = {
        "power0_lr0.01": of(0.7),
        "power2_lr0.01": of(0.1),
        "power0_lr0.01_beta2": of(0.7),
        "power2_lr0.01_beta2": of(0.66),
    }
    _, _, table = rivals_section({"rivals": {"300": rivals}})
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}
    assert rows["none"][:3] == ["71.0", "11.0", "-60.0 (-60.0 to -60.0)"]
    assert rows["none"][4:] == ["30", "–"]
    assert rows["beta2"][2:] == ["-4.0 (-4.0 to -4.0)", "none", "–", "yes"]
    assert "glorot" not in rows  # it has not been run


def test_an_interval_over_seeds_is_students() -> None:
    found = OverSeeds.of([1.0, 2.0, 3.0])
    # s.d. 1, t(0.975, 2) = 4.303: 4.303 / sqrt(3) = 2.484
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - 2.484, 2 + 2.484), abs=1e-3)
    assert not found.is_above
    assert found.lies_within(5)
    assert OverSeeds.of([4.0]).text() == "+4.0 (one seed)"
    assert not OverSeeds.of([4.0]).is_above


def test_the_page_says_how_far_it_is() -> None:
    found: dict[str, Any] = {
        "studies": {"permutation": {"300": arms(by_weight, seeds=2)}},
        "counts": {"permutation": COUNTS},
        "computers": {"permutation": ["A CPU", "B CPU"]},
        "computing": {"train.precision": "bfloat16"},
        "versions": {"torch": "2"},
    }
    text = page(found)
    assert "14 of 226 trainings are in." in text
    assert "**The failure follows the weight: open.** 2 of 5 seeds" in text
    assert "mean of 2 seeds" in text
    found["studies"] = {}
    assert "0 of 226 trainings are in." in page(found)
