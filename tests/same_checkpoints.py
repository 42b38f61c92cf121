"""Whether two trainings came to the same model; and one that was stopped on its way."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from viscera.core.config import Config
from viscera.core.errors import InterruptedRunError
from viscera.core.progress import Progress
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.stages.train import train


def same_state(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, statistics, averages and moments, to the bit."""
    one, two = load_checkpoint(a), load_checkpoint(b)
    moments = (checkpoint.optimizer["state"] for checkpoint in (one, two))
    return (
        one.step == two.step
        and all(torch.equal(one.model[name], two.model[name]) for name in one.model)
        and one.average.keys() == two.average.keys()
        and all(torch.equal(one.average[name], two.average[name]) for name in one.average)
        and all(torch.equal(x[key], y[key]) for x, y in zip(*(m.values() for m in moments), strict=True) for key in x)
    )


def stop_after(step: int) -> tuple[threading.Event, Callable[[Progress], None]]:
    """What tells a training to stop once so many steps are done."""
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.done == step:
            stop.set()

    return stop, watch


def stopped_and_resumed(store: Path, run: Path, config: Config, *, after: int) -> RunFolder:
    """A training that was told to stop after so many steps, and went on to its end."""
    stop, watch = stop_after(after)
    with pytest.raises(InterruptedRunError):
        train(store, run, config, stop=stop, progress=watch)
    return train(store, run, config, resume=True)
