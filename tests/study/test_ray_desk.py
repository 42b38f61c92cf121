"""What the tasks of a study on Ray say to its node, and ask there; without Ray."""

import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from viscera.core.progress import Progress
from viscera.study import ray_desk
from viscera.study.ray_desk import Desk, LogToDesk, StopOfDesk, files_in, teller, write_files


def remote(desk: Desk) -> Any:
    """A desk as Ray hands it out, called at once."""
    methods = ("tell", "take", "stop", "is_stopped", "read", "files_of")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(desk, name)) for name in methods})


def test_the_desk_loads_no_pytorch() -> None:
    """Its process starts beside those of the arms: PyTorch there cost a study on two processors three seconds."""
    look = "import sys, viscera.study.ray_desk; print([each for each in ('torch', 'numpy') if each in sys.modules])"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_news_are_taken_once_in_their_order(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    teller(remote(desk))(Progress("train", 1, 2))
    handler = LogToDesk(remote(desk))
    handler.emit(logging.makeLogRecord({"name": "viscera", "levelno": logging.WARNING, "msg": "few cases"}))
    at, record = desk.take()
    assert at == Progress("train", 1, 2)
    assert isinstance(record, logging.LogRecord)
    assert (record.getMessage(), record.levelno) == (f"{socket.gethostname()}: few cases", logging.WARNING)
    assert desk.take() == []


def test_files_of_a_run_travel_but_for_hidden_ones(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    files = {"last.pt": b"\0\1", "predictions/a.nii.gz": b"\x1f\x8b", ".lock": b""}
    write_files(run, files)
    sent = Desk(tmp_path).files_of(run)
    assert sent == {name: content for name, content in files.items() if name != ".lock"}
    write_files(other, sent)
    assert files_in(other) == sent
    assert files_in(tmp_path / "nothing") == {}


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_task_ends_where_the_study_is_stopped_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    class RayError(Exception):
        pass

    def get(value: object) -> object:
        if is_gone:
            raise RayError
        return value

    ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayError=RayError))
    monkeypatch.setattr(ray_desk, "ray_module", lambda: ray)
    monkeypatch.setattr(ray_desk, "_LOOK_S", 0.01)
    desk = Desk(tmp_path)
    stop = StopOfDesk(remote(desk))
    if not is_gone:
        time.sleep(0.05)
        assert not stop.is_set()
        desk.stop()
    deadline = time.monotonic() + 10
    while not stop.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stop.is_set()
    stop.end()
