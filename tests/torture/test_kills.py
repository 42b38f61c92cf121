"""Kills of real processes: a few here, many in `make torture`."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import TINY
from tests.same_checkpoints import same_state
from torture.commands import COMMANDS, SIDE_BY_SIDE
from torture.kills import Moments, after
from torture.stand import Stand
from viscera.io.store import Store
from viscera.stages.verify import verify


def training(store: Path, run: Path, *more: str) -> list[str]:
    tiny = [each for each in TINY if not each.startswith("--iterations")]
    how = [*tiny, "--iterations=60", "--checkpoint-every=20", "--quiet", *more]
    return [sys.executable, "-m", "viscera.cli", "train", str(store), str(run), *how]


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
def test_a_training_of_the_command_line_that_is_killed_again_and_again_ends_at_the_same_bits(
    tiny_store: Store, tmp_path: Path
) -> None:
    run, order = tmp_path / "run", random.Random(0)  # noqa: S311 - no secret
    subprocess.run(training(tiny_store.path, tmp_path / "whole"), check=True)
    for _ in range(3):
        process = subprocess.Popen(training(tiny_store.path, run, "--resume"))
        before = _changed(run / "run.json")
        while process.poll() is None and _changed(run / "run.json") == before:
            time.sleep(0.01)
        time.sleep(order.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert {each.state for each in verify(run)} <= {"sound", "unfinished"}
    process = subprocess.Popen(training(tiny_store.path, run, "--resume"))
    process.wait()
    assert process.returncode == 0
    assert same_state(run / "last.pt", tmp_path / "whole" / "last.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict again", "study on", SIDE_BY_SIDE.name])
def test_killed_at_moments_of_chance_a_command_comes_to_the_same_end(name: str) -> None:
    (command,) = (each for each in (*COMMANDS, SIDE_BY_SIDE) if each.name == name)
    with Stand.opened() as stand:
        stand.begin(command)
        whole = stand.whole(command)
        stand.in_one_process, order = False, random.Random(1)  # noqa: S311 - no secret
        moments = Moments.of(stand, command, whole, order)
        for number in range(4):
            _, wrong = after(stand, command, whole, moments.next(number), with_all=number % 2 == 0)
            assert wrong == []


def test_moments_come_earlier_once_one_was_too_late() -> None:
    moments = Moments(10.0, [0.5], random.Random(0))  # noqa: S311 - no secret
    assert 4.99 < moments.next(1) < 5.02
    moments.learn(5.0, is_late=True)
    assert all(moments.next(2 * number) < 4.75 for number in range(50))
    moments.learn(4.7, is_late=False)
    assert moments.takes_s == pytest.approx(4.75 * 1.05)
