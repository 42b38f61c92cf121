"""How the forecast of failing organs is fitted and judged, on examples that are made up."""

import numpy as np
import pytest

from benchmarks.fit_forecast import cells, copied, fitted, judged, reliability
from benchmarks.forecast_examples import Example
from benchmarks.forecast_page import page
from viscera.core.arms import Arm
from viscera.doctor.forecast import Calibration

ORGANS = ("liver", "spleen")
CERTAIN = Calibration(5.0, -100.0, ((0.0, 0.0), (0.0, 0.0)))  # fails below a Dice of 0.05, nearly surely


def example(dice: tuple[float, float], outcome: tuple[float, float], arm: Arm, name: str = "c") -> Example:
    seen = np.array([[0.9, *dice]] * 2)
    return Example(name, arm, ORGANS, np.ones(3), seen, 1.0, np.array(outcome), ("", "spleen", ""), ("", "spleen", ""))


def test_the_constants_are_those_that_made_the_examples() -> None:
    """Organs that fail with log odds 2 - 10 × Dice; one per arm and many arms."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(400):
        dice = rng.random(2)
        fails = rng.random(2) < 1 / (1 + np.exp(10 * dice - 2))
        made.append(
            example(
                (dice[0], dice[1]),
                (0.1 + fails[0] * -0.1 + 0.5 * (1 - fails[0]), 0.6 - 0.5 * fails[1]),
                Arm(number, 0.01),
            )
        )
    found = fitted(made)
    assert found.intercept == pytest.approx(2, abs=0.7)
    assert found.slope == pytest.approx(-10, abs=2)
    assert 0 < found.covariance[0][0] < 0.3


def test_the_copy_is_of_the_same_cell_and_organ() -> None:
    main = [example((0, 0), (0.1, 0.9), Arm(2, 0.01), "main"), example((0, 0), (0.9, 0.9), Arm(1, 0.01), "main")]
    of = [
        example((0, 0), (0.5, 0.5), arm) for arm in (Arm("square", 0.01), Arm("p2-shift3", 0.01), Arm("simple", 0.01))
    ]
    assert copied(of, main) == [1, 0, 1, 0, 0, 0]
    other = Example("s", Arm("square", 0.01), ("kidney",), np.ones(2), np.zeros((1, 2)), 1.0, np.array([0.3]))
    assert copied([other], main) == [0.5]  # half of what the arm has failed


def test_scores_by_hand() -> None:
    """Liver is sure to fail and does; spleen is sure not to, and fails in one arm of two."""
    examples = [
        example((0.0, 0.9), (0.0, 0.9), Arm("square", 0.01)),
        example((0.0, 0.9), (0.0, 0.1), Arm("simple", 0.01)),
    ]
    rows = cells(examples, CERTAIN)
    found = judged(rows, [1, 0, 1, 0], 0.5)
    scores = {key: value["value"] for key, value in found["scores"].items()}
    assert scores["brier_forecast"] == pytest.approx(0.25, abs=0.01)  # one of four wrong
    assert scores["brier_copy"] == pytest.approx(0.25)
    assert scores["brier_base_rate"] == pytest.approx(0.75 * 0.25)
    assert scores["brier_rate_of_fit"] == pytest.approx(0.25)
    assert (scores["precision"], scores["recall"]) == pytest.approx((1, 2 / 3))
    assert (found["pairs"], found["pairs_right"]) == (2, 2)  # of the two livers
    low, *_, high = reliability(rows)
    assert (low["cells"], low["failed"], high["cells"], high["failed"]) == (2, 0.5, 2, 1)


def test_the_page_says_whether_the_baselines_are_beaten() -> None:
    examples = [example((0.0, 0.9), (0.0, 0.9), Arm(f"w{n}", 0.01)) for n in range(4)]
    better = judged(cells(examples, CERTAIN), [0, 1] * 4, 0.5) | {"rows": cells(examples, CERTAIN)}
    worse = judged(cells(examples, CERTAIN), [1, 0] * 4, 0.5) | {"rows": cells(examples, CERTAIN)}
    results = {
        "machine": "M",
        "failing_below": 0.2,
        "named_above": 0.3,
        "calibration": {"intercept": 5.0, "slope": -100.0},
        "fit": {},
        "test": {"c": better, "d": worse},
        "step_kept": {name: {each.arm.name: 1.0 for each in examples} for name in ("c", "d")},
        "reliability": reliability(better["rows"]),
    }
    text = page(results)
    assert "- **c** (4 arms, 4 of 8 organs failed): better than the base rate and the copy." in text
    assert "- **d** (4 arms, 4 of 8 organs failed): better than the base rate; not better than the copy." in text
