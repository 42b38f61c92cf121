"""A training in pieces and one in one piece, and that a difference between them is found."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from torture import resume
from torture.resume import differences, drawn_settings, one_round
from torture.stand import Stand
from viscera.core.config import Config
from viscera.engine.averaged_weights import AveragedWeights
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from viscera.io.store import Store

KILLED, TOLD_TO_STOP = 1, 2


def order(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "iterations": 8,
    "patch": 8,
    "batch_size": 2,
    "filters": 2,
    "levels": 2,
    "checkpoint_every": 3,
    "validate_every": 4,
    "log_every": 2,
    "monitor_windows": 1,
    "average": 0.9,
    "diagnose": False,
    "network": {"dropout": 0.5},
    "augment": {"enabled": True},
    "rate_schedule": {"shape": "cosine", "steps": 8},
}


@pytest.fixture
def stand(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setattr(resume, "usable_processors", lambda: {0})
    with Stand.opened() as opened:
        opened.work.mkdir()
        shutil.copytree(tiny_store.path, opened.work / "store")
        yield opened


def test_in_pieces_it_comes_to_the_same_bytes(stand: Stand) -> None:
    done = one_round(stand, order(KILLED), settings=SETTINGS)
    assert done.wrong == []
    assert (done.stops, done.twice > 0) == ({"SIGKILL": 1}, True)


@pytest.mark.slow
def test_what_is_forgotten_is_found(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = Trainer.restore

    def forgetful(self: Trainer, checkpoint: Checkpoint, path: Path) -> None:
        restore(self, checkpoint, path)
        if self.average is not None:
            self.average = AveragedWeights(self.network, self.config.train.average)

    monkeypatch.setattr(Trainer, "restore", forgetful)
    done = one_round(stand, order(TOLD_TO_STOP), settings=SETTINGS)
    assert any(each.startswith("last.pt differs: average ") for each in done.wrong)
    assert not any("drawn otherwise" in each for each in done.wrong)


def test_what_is_drawn_otherwise_is_found(stand: Stand) -> None:
    drawn = stand.work / "drawn"
    drawn.write_text("0 1 aa\n0 2 bb\n0 2 cc\n")
    assert resume.drawn(stand) == {(0, 1): {"aa"}, (0, 2): {"bb", "cc"}}


def test_a_bit_of_a_checkpoint_is_a_difference_and_named(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    assert differences(tiny_run, tmp_path / "run") == []
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    name = next(iter(checkpoint.model))
    value = checkpoint.model[name].view(-1)
    value[0] = torch.nextafter(value[0], value[0] + 1)
    save_checkpoint(tmp_path / "run" / "last.pt", checkpoint)
    (tmp_path / "run" / "config.yaml").unlink()
    found = differences(tiny_run, tmp_path / "run")
    assert found == ["config.yaml is in one of them alone", f"last.pt differs: model {name}"]


def test_settings_are_drawn_that_a_training_accepts() -> None:
    found = [drawn_settings(order(seed), 2) for seed in range(10)]
    assert all(Config.model_validate({"train": each}).train.batch_size >= 2 for each in found)
    assert len({each["seed"] for each in found}) == 10
