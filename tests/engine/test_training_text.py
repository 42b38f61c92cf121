"""What is said of a training, by hand."""

from pathlib import Path

import numpy as np
import pytest

from viscera.core.loss_config import LossConfig
from viscera.engine.training_text import end_text, lagging_organ, lowest_loss, step_text
from viscera.io.runlog import RunFolder, RunStatus

LINE = {"step": 30, "loss": -0.3, "dice": {"background": 0.0, "liver": 0.9, "portal_vein": 0.02, "spleen": None}}


def test_the_organ_that_lags_is_the_one_with_the_lowest_dice_background_aside() -> None:
    assert lagging_organ(LINE) == "portal_vein"
    assert lagging_organ({}) is None
    assert lagging_organ({"dice": {"background": 0.1, "liver": None}}) is None


def test_a_class_that_no_patch_has_does_not_lag() -> None:
    """It is predicted where it is not: a Dice of 0, and no volume to hold the predicted one against."""
    absent = {"volume_ratio": {"background": 1.0, "liver": 1.0, "portal_vein": None}}
    assert lagging_organ(LINE | absent) == "liver"


def test_the_lowest_loss_leaves_out_what_no_training_case_has() -> None:
    """By hand: weights 1, 2 and 3000, of the last no voxel: -(1 + 2) / 3; smoothed, its Dice is 1 where it is not."""
    weights, counts = np.array([1.0, 2.0, 3000.0]), np.array([90, 10, 0])
    assert lowest_loss(weights, counts, LossConfig()) == pytest.approx(-1)
    assert lowest_loss(weights, counts, LossConfig(smoothing=1e-5)) == pytest.approx(-1001)


@pytest.mark.parametrize(
    ("lowest", "said"),
    [
        (-1.0, "loss -0.327  11 steps/s  portal vein lags: Dice 0.02"),
        (-63.9, "loss -0.327 (at best -63.9)  11 steps/s  portal vein lags: Dice 0.02"),
        (-1e-3, "loss -0.327  11 steps/s  portal vein lags: Dice 0.02"),
    ],
)
def test_a_loss_that_can_lie_below_minus_one_stands_beside_its_lowest_value(lowest: float, said: str) -> None:
    assert step_text(-0.327, 11.2, lowest, LINE) == said


def test_the_end_is_a_table_of_the_last_logged_dice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert end_text(folder) == ""
    folder.append_curve({**LINE, "validation_dice": {"liver": 0.8}})
    folder.write_status(RunStatus(state="finished", step=30, iterations=30, wall_seconds=95))
    text = end_text(folder)
    assert f"{tmp_path}: 30 steps in 1 min 35 s, loss -0.3\n" in text
    rows = {line.split("  ")[0]: line.split()[-2:] for line in text.splitlines()[4:]}
    assert rows["liver"] == ["0.900", "0.800"]
    assert rows["portal vein"] == ["0.020", "–"]
