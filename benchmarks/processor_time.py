"""Processor seconds of a command with all that it starts, however deep, whether it waits for them or not."""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

_PATIENCE_S = 60.0  # for processes that the command has left
_LOOK_AGAIN_S = 0.02
_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Cost(NamedTuple):
    """Of one command."""

    clock_s: float  # until it ended
    processor_s: float  # user and system
    status: int  # that it ended with


def cost_of(command: Sequence[str], folder: Path, environment: Mapping[str, str], out: IO[str] | None = None) -> Cost:
    """Run a command in a folder; what it prints goes to `out`, or is shown.

    Processes whose parent has ended become children of this one, and are waited for: other children of this process
    should not run meanwhile. Linux only; elsewhere their time does not count. Raises TimeoutError where some do not
    end within a minute after the command.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = _of_children_s(), time.perf_counter()
    status = subprocess.run(command, cwd=folder, env=environment, stdout=out, check=False).returncode
    clock_s = time.perf_counter() - started
    _wait_for_orphans()
    return Cost(clock_s, _of_children_s() - before, status)


def _of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_orphans() -> None:
    deadline = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(ChildProcessError):  # there are no more
        while time.monotonic() < deadline:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                time.sleep(_LOOK_AGAIN_S)
        raise TimeoutError(f"processes that the command started still run after {_PATIENCE_S:g} s")
