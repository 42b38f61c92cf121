"""What a training warns of, from its curve."""

import logging
from pathlib import Path

import pytest

from viscera.core.config import TrainConfig
from viscera.engine.logbook import warn_of_batch_norm
from viscera.io.runlog import RunFolder


@pytest.mark.parametrize(
    ("setting", "remedy"), [("running", "--set train.batch_norm=recomputed"), ("recomputed", "train.monitor_windows")]
)
def test_statistics_that_hide_what_was_learnt_are_warned_of_once_in_the_second_half(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, remedy: str
) -> None:
    folder, train = RunFolder(tmp_path), TrainConfig.model_validate({"iterations": 100, "batch_norm": setting})
    said_at = []
    for step, dice in ((25, 0.1), (50, 0.6), (75, 0.1), (100, 0.1)):
        line = {"step": step, "dice": {"liver": dice}, "dice_batch_statistics": {"liver": 0.65}}
        folder.append_curve(line)
        with caplog.at_level(logging.WARNING):
            warn_of_batch_norm(folder, train, line)
        said_at += [step] * len(caplog.messages)
        assert all(remedy in message and "0.10" in message and "0.65" in message for message in caplog.messages)
        caplog.clear()
    assert said_at == [75]
