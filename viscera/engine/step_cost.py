"""How long a training will take, from a few steps of it: read, computed, monitored, validated and written as it is.

cost = measured_cost(store, config, device)
cost.seconds(config.train)               # of the whole of `viscera train`
cost.iterations_within(7200, config.train)
"""

import logging
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from threading import Event
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from viscera.core.config import Config, TrainConfig
from viscera.core.progress import Progress
from viscera.engine.diagnostics import full_steps
from viscera.engine.feed import cases_of, facts_of, feed_of, on_device, with_training_set
from viscera.engine.hardware import fastest_convolutions, out_of_memory_explained
from viscera.engine.monitor import DiceByOrgan, Monitor
from viscera.engine.noise_training import trainer_on_noise
from viscera.engine.trainer import Trainer
from viscera.engine.trust import training_ranges
from viscera.io.checkpoint import save_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store

Value = TypeVar("Value")
_START_S = 4.0  # Python and PyTorch, before the first line of a training
_STEPS = {"cpu": 8, "cuda": 24}  # a GPU is not waited for at each, so that more are timed together
_FEW_STEPS = 4  # where one takes longer than this
_LONG_S = 10.0
_CASES = 4  # of which reading, checksums and organs are timed
_MEASURED_CASES = 256  # whose organs a training measures at its end (`engine.trust`)


class TrainingCost(NamedTuple):
    """Seconds of the parts of a training."""

    step: float  # with the reading of its windows, median of a few
    line: float  # of the curve: the fixed windows
    validation: float  # of all validation cases
    checkpoint: float
    diagnosis: float  # of all parameters, at a few steps
    around: float  # before the first step and after the last
    num_classes: int

    def seconds(self, train: TrainConfig) -> float:
        """Of the whole training, from the start of the command to its end."""
        return self.around + train.iterations * self.step + self.beside_steps(train)

    def beside_steps(self, train: TrainConfig) -> float:
        """Of curve, validation, checkpoints and diagnosis."""
        n, every, validate = train.iterations, train.logged_every, train.validate_every
        validations = -(-n // validate)
        lines = n // every + n // validate - n // math.lcm(every, validate) + bool(n % every and n % validate)
        checkpoints = 1 + -(-n // train.checkpoint_every) + (validations if self.validation else 0)  # best.pt too
        full = len(full_steps(train, self.num_classes)) if train.diagnose else 0
        return lines * self.line + validations * self.validation + checkpoints * self.checkpoint + full * self.diagnosis

    def iterations_within(self, seconds: float, train: TrainConfig) -> int:
        """The most steps that take no longer; 0 where not even one fits."""
        low, high = 0, max(0, math.floor((seconds - self.around) / self.step))
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.seconds(train.model_copy(update={"iterations": middle})) <= seconds
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


def noise_step_seconds(train: TrainConfig, num_classes: int, device: torch.device) -> float:
    """Seconds of a step on noise, the faster of two after a first: to tell which networks are worth a closer look."""
    seconds = []
    with fastest_convolutions(), out_of_memory_explained("Lower --batch-size, --patch or --filters."):
        trainer, batch = trainer_on_noise(train.model_copy(update={"capture": "never"}), num_classes, device)
        for _ in range(3):
            _, spent = _timed(lambda: trainer.training_step(batch), device)
            seconds.append(spent)
    return min(seconds[1:])


def measured_cost(store: Store, config: Config, device: torch.device, *, expected_step: float = 0.0) -> TrainingCost:
    """Train for a few steps of exactly this configuration on a store, in a folder that is removed, and time the parts.

    Validation is timed on one case, and what is read of each case on a few. Raises what training raises, RunFailedError
    for too little memory among it. `expected_step`, in seconds, only decides how many steps are timed.
    """
    started = time.perf_counter()
    config = with_training_set(config, store)
    steps = _FEW_STEPS if expected_step > _LONG_S else _STEPS.get(device.type, _STEPS["cpu"])
    every = {"iterations": steps, "log_every": steps // 2, "validate_every": steps, "checkpoint_every": steps}
    short = config.train.model_copy(update={**every, "learning_rate": 1e-9})  # no step that leads anywhere
    trial = config.model_copy(update={"train": short})
    with _silent():
        facts = facts_of(store, config)
    trainer = Trainer.create(trial, facts, device)
    feed = feed_of(store, short)
    before = time.perf_counter() - started
    cases, labelled = cases_of(store, "validation")
    one = slice(0, 1)
    known = None if labelled is None else labelled[one]
    plain = Monitor.create(feed, cases[one], short, config.predict, device, known)
    monitor = _TimedMonitor(**{each.name: getattr(plain, each.name) for each in fields(plain)})
    clock = _Clock(device)
    with tempfile.TemporaryDirectory(prefix="viscera-plan-") as folder, _silent(), fastest_convolutions():
        windows = on_device(feed, device, short.resident)
        trainer.run(windows, monitor, RunFolder(Path(folder)), Event(), clock)
        end = clock.now() - clock.at[-1]
        _, checkpoint = _timed(lambda: save_checkpoint(Path(folder) / "timed.pt", trainer.checkpoint()), device)
    spent = monitor.spent
    statistics = spent["statistics"] / 2  # of two lines
    line = spent["windows"] / 2 + statistics
    of_one = spent["validation"]
    saves = 2 if cases else 1  # best.pt is written too
    shapes = cases.shapes
    return TrainingCost(
        step=clock.step(steps),
        line=line,
        validation=of_one * sum(map(math.prod, shapes)) / math.prod(shapes[0]) if shapes else 0.0,
        checkpoint=checkpoint + (statistics if short.batch_norm == "recomputed" else 0.0),
        diagnosis=max(0.0, end - line - of_one - saves * checkpoint) if short.diagnose else 0.0,
        around=_START_S + before + _around(store),
        num_classes=len(store.classes),
    )


def _around(store: Store) -> float:
    """Seconds of checking the files, and of measuring the organs of the training cases at the end."""
    names = store.names("train")
    few = names[:: max(1, len(names) // _CASES)][:_CASES]
    _, verifying = _timed(lambda: store.verify(few))
    records = {name: store.manifest.cases[name] for name in few}
    some = Store(store.path, store.manifest.model_copy(update={"cases": records}))
    _, measuring = _timed(lambda: training_ranges(some))
    all_of_them = len(names) + len(store.names("validation"))
    return verifying * all_of_them / len(few) + measuring * min(len(names), _MEASURED_CASES) / len(few)


class _Clock:
    """When each step ended: of a GPU only those that are looked at are waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.at = device, [self.now_on(device)]

    @staticmethod
    def now_on(device: torch.device) -> float:
        """Seconds, once the device has done what it was told."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def now(self) -> float:
        """Seconds, likewise."""
        return self.now_on(self.device)

    def __call__(self, progress: Progress) -> None:
        """A step has ended: an `OnProgress`."""
        half = progress.total // 2
        waits = self.device.type != "cuda" or progress.done in {half + 1, progress.total - 1, progress.total}
        self.at.append(self.now() if waits else math.nan)

    def step(self, steps: int) -> float:
        """Seconds of a step; those that were first, or in which something else was done, do not count."""
        half = steps // 2
        if self.device.type == "cuda":
            return (self.at[steps - 1] - self.at[half + 1]) / (steps - 2 - half)
        plain = [n for n in range(2, steps + 1) if n != half + 1 and (n != steps or steps == _FEW_STEPS)]
        return median(self.at[n] - self.at[n - 1] for n in plain)


@dataclass(frozen=True)
class _TimedMonitor(Monitor):
    """A monitor that knows how long it has looked at the windows, their statistics, and validation cases."""

    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def batch_statistics_dice(self, network: nn.Module, *, keep: bool) -> DiceByOrgan:
        return self._timing("statistics", lambda: super(_TimedMonitor, self).batch_statistics_dice(network, keep=keep))

    def training_dice(self, network: nn.Module) -> DiceByOrgan:
        return self._timing("windows", lambda: super(_TimedMonitor, self).training_dice(network))

    def validation_dice(self, network: nn.Module) -> DiceByOrgan | None:
        return self._timing("validation", lambda: super(_TimedMonitor, self).validation_dice(network))

    def _timing(self, what: str, work: Callable[[], Value]) -> Value:
        found, seconds = _timed(work, self.device)
        self.spent[what] += seconds
        return found


def _timed(work: Callable[[], Value], device: torch.device | None = None) -> tuple[Value, float]:
    device = device or torch.device("cpu")
    started = _Clock.now_on(device)
    found = work()
    return found, _Clock.now_on(device) - started


@contextmanager
def _silent() -> Iterator[None]:
    """A training of a few steps warns of organs that it has not learnt, or that this store does not show it."""
    watched = [logging.getLogger(f"viscera.engine.{name}") for name in ("monitor", "feed")]
    before = [each.level for each in watched]
    for each in watched:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(watched, before, strict=True):
            each.setLevel(level)
