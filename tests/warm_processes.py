"""Processes that begin with PyTorch and the stages loaded: spawned ones take three seconds each to load the same."""

from collections.abc import Iterator
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

import pytest

from viscera.core import processes

PRELOADED = ["viscera.stages.train", "viscera.stages.predict", "viscera.check.check_stage"]


def warm_context(_method: str = "spawn") -> ForkServerContext:
    """Forks of a process that has loaded all and done nothing; what they are given is pickled as for spawned ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # read when the first begins
        forkserver.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
    return get_context("forkserver")


@pytest.fixture(autouse=True, scope="session")
def processes_start_warm() -> Iterator[None]:
    """Where several work on cases; `core/test_processes.py` and `study/test_launch.py` have those that users get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "get_context", warm_context)
        yield
