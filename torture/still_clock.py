"""A clock that says the same in every process, so that what two of them write is the same to the byte."""

import datetime as dt
import itertools
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

THEN = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)


class _Still(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:  # noqa: ANN401 - as that of the library
        return THEN.astimezone(tz)


@contextmanager
def still_clock() -> Iterator[None]:
    """Within, a step of a training takes a second, it is noon, a process takes no memory, and a manifest no time.

    A plan finds 8 GiB free, and steps that take whole seconds.
    """
    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)), monotonic=time.monotonic, time=time.time)
    patches = {
        "viscera.engine.trainer.time": clock,
        "viscera.engine.step_cost.time": clock,
        "viscera.planning.training_plan.free_memory": lambda _: 2.0**33,
        "viscera.stages.train.peak_memory_mib": lambda _: 0.0,
        "viscera.study.analysis_plan.dt": SimpleNamespace(datetime=_Still, UTC=dt.UTC),
        "viscera.card.card_stage.datetime": _Still,
        "viscera.view.view_app.when": THEN.isoformat,
        "viscera.io.store._MANIFEST_SHARE": math.inf,
    }
    with ExitStack() as held:
        for name, value in patches.items():
            held.enter_context(mock.patch(name, value))
        yield
