"""Several processes, or this one: whatever keeps them from starting, the work is done."""

import logging
import math
import os
from collections.abc import Callable
from multiprocessing import popen_spawn_posix, synchronize

import pytest

from viscera.core.errors import RunFailedError
from viscera.core.processes import for_each, start_pool


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
