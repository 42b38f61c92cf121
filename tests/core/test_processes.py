"""Several processes, or this one: whatever keeps them from starting, the work is done."""

import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context, popen_spawn_posix, synchronize
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from viscera.core.errors import RunFailedError
from viscera.core.processes import for_each, item_name, start_pool


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users get them."""
    monkeypatch.setattr("viscera.core.processes.get_context", get_context)


def without_semaphores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /dev/shm is missing or read-only."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(synchronize.SemLock, "__init__", refuse)


def without_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under RLIMIT_NPROC."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(popen_spawn_posix.Popen, "__init__", refuse)


@pytest.mark.parametrize("lacking", [without_semaphores, without_a_new_process])
def test_where_processes_cannot_start_the_work_is_done_in_this_one(
    lacking: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lacking(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert list(for_each(math.sqrt, [1.0, 4.0, 9.0], 2)) == [1.0, 2.0, 3.0]
    assert "Several processes are not available" in caplog.text


def test_several_processes_work_and_one_that_is_killed_is_one_sentence() -> None:
    assert sorted(for_each(math.sqrt, [1.0, 4.0, 9.0], 2)) == [1.0, 2.0, 3.0]
    with pytest.raises(RunFailedError, match=r"A process was killed.*fewer --jobs"):
        list(for_each(os._exit, [1, 1], 2))


class Scan(NamedTuple):
    name: str


def end(item: tuple[int, Scan]) -> int:
    """Of a scan that takes all memory, or of another."""
    number, scan = item
    if scan.name == "large":
        os._exit(9)
    return number


def test_a_process_that_is_killed_is_told_of_with_its_case() -> None:
    """Two are worked on at a time: beside the one that ends the process it may be any other."""
    items = [(0, Scan("small")), (1, Scan("large")), (2, Scan("other")), (3, Scan("last"))]
    with pytest.raises(
        RunFailedError, match=r"memory ran out, while it worked on (small or )?large( or (other|last))?\. Run"
    ):
        list(for_each(end, items, 2))


def test_names_of_items() -> None:
    assert item_name(SimpleNamespace(input_name="a.nii")) == "a.nii"
    assert item_name((3, Scan("b"))) == item_name(Scan("b")) == "b"
    assert item_name(3) == item_name(("text", 3)) == ""


def test_what_is_logged_in_another_process_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    list(for_each(logging.getLogger("viscera.elsewhere").warning, ["one", "two"], 2))
    said = {(record.name, record.getMessage()) for record in caplog.records}
    assert said == {("viscera.elsewhere", "one"), ("viscera.elsewhere", "two")}


_KILLED_AT_WORK = """
import multiprocessing, os, signal, threading, time
from viscera.core.processes import for_each

def kill():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    time.sleep(0.5)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill).start()
list(for_each(time.sleep, [60, 60], 2))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_end_with_the_one_that_started_them_even_if_it_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED_AT_WORK], check=False, capture_output=True, text=True)
    numbers = done.stdout.split()
    assert len(numbers) == 2

    def is_alive(number: str) -> bool:
        stat = Path("/proc") / number / "stat"
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    waited_until = time.monotonic() + 20
    while any(map(is_alive, numbers)):
        assert time.monotonic() < waited_until
        time.sleep(0.05)


def test_what_the_function_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="math domain"):
        list(for_each(math.sqrt, [-1.0, -4.0], 2))


def test_an_error_of_the_work_is_no_reason_to_do_it_here(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError):
        list(for_each(os.stat, ["/nowhere", "/nowhere/else"], 2))
    assert not caplog.text


def test_processes_that_die_while_they_start_are_none(caplog: pytest.LogCaptureFixture) -> None:
    """As where a child cannot start its threads, or runs a script without `if __name__ == "__main__"`."""
    made = start_pool(2, os._exit, lambda _context: (1,))
    assert made is None
    assert "Several processes are not available" in caplog.text
