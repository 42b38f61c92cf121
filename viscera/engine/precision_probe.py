"""Number format and memory layout of a training: decided once, by timing a few steps, and remembered.

With them the span of its rate's schedule, which `train.iterations` decide as it begins. Whoever trains asks before
anything is written, and keeps the answer in the configuration: a run or study that goes on, here or on another machine,
computes as it began.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import torch
from pydantic import Field

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.engine.hardware import Precision, computes_bfloat16, describe_hardware, fastest_convolutions
from viscera.engine.noise_training import trainer_on_noise
from viscera.engine.optimiser import with_span
from viscera.engine.step_memory import refuse_too_large
from viscera.io.files import cache_folder
from viscera.io.records import read_json, validated, write_json

log = logging.getLogger(__name__)
FEWEST_ITERATIONS = 200  # of a training that is worth the dozen steps of a probe
LEAST_GAIN = 1.1  # bfloat16, which keeps 8 bits, has to be so many times as fast; another layout likewise
_ROUNDS = 3
_LONG_SECONDS = 10.0  # once steps have taken so long, two rounds, of which the first warms up, will do
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_Layout = Literal["channels_last", "channels_first"]
_LAYOUTS: tuple[_Layout, ...] = get_args(_Layout)
_NAMES = {f"{precision} {layout}" for precision in _PRECISIONS for layout in _LAYOUTS}
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def decided(train: TrainConfig, num_classes: int, device: torch.device) -> TrainConfig:
    """The settings of a training that begins, with `precision` and `memory_layout` as they will be where they are auto.

    On a CPU or an NVIDIA GPU with instructions for bfloat16 both are timed. Trainings of fewer than `FEWEST_ITERATIONS`
    take float32 on a CPU and bfloat16 on such a GPU, as do deterministic ones; devices without take float32. What the
    user set stays.

    Raises BadInputError where a CPU's memory cannot hold such a training, which a probe would find out the hard way.
    """
    refuse_too_large(train, num_classes, device)
    plain: dict[str, Any] = {"precision": "float32", "memory_layout": "channels_last"}
    has_bfloat16 = computes_bfloat16(device)
    if device.type == "cuda" and has_bfloat16:
        plain["precision"] = "bfloat16"
    if train.precision == "auto" and train.iterations >= FEWEST_ITERATIONS and not train.deterministic:
        if has_bfloat16:
            sizes = train.patch, train.batch_size, train.filters, train.levels, num_classes
            found = _timed(_Probe(*sizes, str(device), train.network))
            plain = plain if found is None else dict(zip(plain, found, strict=True))
        elif device.type == "cpu":
            _say("Training in float32: this processor has no instructions for bfloat16.")
    auto = {name: value for name, value in plain.items() if getattr(train, name) == "auto"}
    return with_span(train.model_copy(update=auto))


def as_before(train: TrainConfig, before: TrainConfig) -> TrainConfig:
    """The settings of a training that goes on, which computes as it did wherever they are auto."""
    settings = {name: getattr(before, name) for name in ("precision", "memory_layout")}
    auto = {name: value for name, value in settings.items() if getattr(train, name) == "auto"}
    return with_span(train.model_copy(update=auto), before)


def step_seconds(train: TrainConfig, num_classes: int, device: torch.device) -> float | None:
    """About how long a step takes here: what the machine remembers, or two steps on noise; None without memory.

    What is remembered of a CPU is the time on one thread.
    """
    probe = _Probe(train.patch, train.batch_size, train.filters, train.levels, num_classes, str(device), train.network)
    precision: Precision = "bfloat16" if train.precision == "bfloat16" else "float32"
    layout: _Layout = "channels_first" if train.memory_layout == "channels_first" else "channels_last"
    seconds = _read().get(_key(probe), {})
    if seconds.keys() == _NAMES and (device.type != "cpu" or torch.get_num_threads() == 1):
        return seconds[f"{precision} {layout}"]
    try:
        step = probe.step(precision, layout)
        _seconds(step, time.perf_counter)
        return _seconds(step, time.perf_counter)
    except (RuntimeError, MemoryError):  # as the training itself will say
        return None


def _key(probe: "_Probe") -> str:
    machine = f"{describe_hardware(torch.device(probe.device))}, 1 threads, PyTorch {torch.__version__}"
    return f"{machine}; {probe.key()}"


class _Probe(NamedTuple):
    """What the time of a step depends on, beside the machine."""

    patch: int
    batch_size: int
    filters: int
    levels: int
    num_classes: int
    device: str = "cpu"
    network: NetworkConfig = NetworkConfig()

    def key(self) -> str:
        """What it is remembered by; of the paper's network its sizes alone."""
        sizes = self._asdict()
        network = sizes.pop("network").model_dump(mode="json", exclude_defaults=True)
        return ", ".join(f"{name} {value}" for name, value in (sizes | network).items())

    def measure(self) -> dict[str, float]:
        """Fastest seconds of a step on noise, by `bfloat16 channels_last` and the like.

        Precisions take turns. On a CPU one thread's time of the processor counts: others may be at work on the machine,
        and threads that wait for one another take as much of a processor's time as those that compute.
        """
        with _one_thread():
            return self._measured()

    def _measured(self) -> dict[str, float]:
        found = dict[str, float]()
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        for layout in _LAYOUTS:
            steps = {precision: self.step(precision, layout) for precision in _PRECISIONS}
            rounds: list[dict[Precision, float]] = []
            limit = _LONG_SECONDS if self.device == "cpu" else math.inf  # a GPU's first round chooses its convolutions
            while len(rounds) < 2 or (len(rounds) < _ROUNDS and sum(sum(each.values()) for each in rounds) < limit):
                rounds.append({precision: _seconds(step, clock) for precision, step in steps.items()})
            found |= {f"{each} {layout}": min(seconds[each] for seconds in rounds) for each in _PRECISIONS}
        return found

    def step(self, precision: Precision, layout: _Layout) -> Callable[[], None]:
        """A step of a training of its own."""
        size = {name: getattr(self, name) for name in ("patch", "batch_size", "filters", "levels", "network")}
        train = TrainConfig(**size, precision=precision, memory_layout=layout, capture="never")
        device = torch.device(self.device)
        trainer, batch = trainer_on_noise(train, self.num_classes, device)

        def step() -> None:
            with fastest_convolutions():
                trainer.training_step(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return step


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(step: Callable[[], None], clock: Callable[[], float]) -> float:
    started = clock()
    step()
    return clock() - started


def choice(seconds: Mapping[str, float]) -> tuple[str, str]:
    """Precision and layout of a training whose steps take so long, by `bfloat16 channels_last` and the like."""
    precision, layout = _PRECISIONS[0], _LAYOUTS[0]
    if seconds[f"{precision} {layout}"] > LEAST_GAIN * seconds[f"{_PRECISIONS[1]} {layout}"]:
        precision = _PRECISIONS[1]
    if seconds[f"{precision} {layout}"] > LEAST_GAIN * seconds[f"{precision} {_LAYOUTS[1]}"]:
        layout = _LAYOUTS[1]
    return precision, layout


@cache
def _timed(probe: _Probe) -> tuple[str, str] | None:
    """Precision and layout, from what the machine remembers or from a probe; says which, and why. None: no memory."""
    key, remembered = _key(probe), _read()
    seconds, when = remembered.get(key, {}), "timed earlier on this machine"
    if seconds.keys() != _NAMES:
        _say("Timing a few steps in float32 and bfloat16, once for this machine and size of network …")
        try:
            seconds, when = probe.measure(), "timed just now"
        except (RuntimeError, MemoryError):  # too little memory, as the training itself will say
            return None
        with suppress(BadInputError, OSError, RuntimeError):  # no home, not writable, full: it is timed again
            write_json(cache_file(), {**remembered, key: seconds})
    precision, layout = choice(seconds)
    bfloat16, float32 = (seconds[f"{each} {layout}"] for each in ("bfloat16", "float32"))
    clock = "processor time, " if probe.device == "cpu" else ""
    _say(
        f"Training in {precision}: a step takes {bfloat16:.2g} s in bfloat16, {float32:.2g} s in float32 "
        f"({clock}{when}; --set train.precision says otherwise)."
    )
    return precision, layout


def cache_file() -> Path:
    """Where what was timed is remembered: `viscera/step_seconds.json` in the user's cache folder."""
    return cache_folder() / "step_seconds.json"


def _read() -> dict[str, dict[str, float]]:
    """What is remembered, seconds by name for each machine and network; nothing where it is damaged."""
    with suppress(BadInputError, OSError, RuntimeError):
        return validated(dict[str, dict[str, _Seconds]], read_json(cache_file()), cache_file(), "It is timed again.")
    return {}


@cache
def _say(text: str) -> None:
    log.warning(text)
