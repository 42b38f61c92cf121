"""What is said of a training, by hand."""

from pathlib import Path

import pytest

from viscera.engine.training_text import end_text, lagging_organ, step_text
from viscera.io.runlog import RunFolder, RunStatus

LINE = {"step": 30, "loss": -0.3, "dice": {"background": 0.0, "liver": 0.9, "portal_vein": 0.02, "spleen": None}}


def test_the_organ_that_lags_is_the_one_with_the_lowest_dice_background_aside() -> None:
    assert lagging_organ(LINE) == "portal_vein"
    assert lagging_organ({}) is None
    assert lagging_organ({"dice": {"background": 0.1, "liver": None}}) is None


@pytest.mark.parametrize(
    ("mean_weight", "said"),
    [
        (1.0, "loss -0.327  11 steps/s  portal vein lags: Dice 0.02"),
        (63.9, "loss -0.327 (at best -63.9)  11 steps/s  portal vein lags: Dice 0.02"),
        (1e-3, "loss -0.327  11 steps/s  portal vein lags: Dice 0.02"),
    ],
)
def test_a_loss_that_can_lie_below_minus_one_stands_beside_its_lowest_value(mean_weight: float, said: str) -> None:
    assert step_text(-0.327, 11.2, mean_weight, LINE) == said


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
