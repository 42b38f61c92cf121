"""CPU seconds of what the contenders of `bench_accuracy` do, measured in turn in one short run: the axis of the curve.

A training of any length then costs `prepare_s + overhead_s + steps × step_s + predict_s`, whatever else ran on the
machine while it was trained. `overhead_s` is what a training costs beside its steps: reading, caches, and of ours the
lines of its curve and its checkpoints.
"""

import datetime as dt
import gc
import os
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from benchmarks.accuracy_data import Contender, DataSet, Fast, Meter
from benchmarks.record import versions
from viscera.core.errors import BadInputError
from viscera.engine.hardware import describe_hardware, peak_memory_mib
from viscera.io.records import read_json, write_json

PEERS = ("monai", "nnunetv2")
_SECONDS = 10.0  # of steps in one repeat
_FEWEST, _MOST = 2, 60  # steps in one repeat
_TRIED = 6  # steps in which settings are compared, where they are short
_MIRRORS, _MOST_MIRRORED = 8, 60.0  # mirror images of a scan; CPU seconds of one that is still measured
_OURS_FEWEST = 24  # some of its steps are measured ones, which do not count


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one contender."""

    prepare_s: float
    overhead_s: float
    step_s: float
    predict_s: float  # of all unseen cases
    mirrored_s: float | None  # with averaging over mirrored scans; where that takes long, estimated as eight times it
    fast: Fast

    @classmethod
    def read(cls, work: Path, key: str) -> "Cost":
        """As measured. Raises BadInputError where it was not."""
        known = read_json(work / "cost.json")["contenders"] if (work / "cost.json").exists() else {}
        if key not in known:
            raise BadInputError(f"{work}: the cost of {key} was not measured. Run `bench_accuracy cost` first.")
        return cls.of(known[key])

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Cost":
        """From a record."""
        times = {name: values[name] for name in ("prepare_s", "overhead_s", "step_s", "predict_s", "mirrored_s")}
        return cls(**times, fast=Fast(**values["fast"]))

    def seconds(self, steps: int, *, mirrored: bool = False) -> float:
        """From raw data to label maps of unseen cases, with so many steps."""
        predict = self.mirrored_s if mirrored and self.mirrored_s is not None else self.predict_s
        return self.prepare_s + self.overhead_s + steps * self.step_s + predict

    def steps_within(self, minutes: float) -> int:
        """Steps that leave time for everything else, without mirrored scans; 0 where none does."""
        return max(0, int((60 * minutes - self.seconds(0)) / self.step_s))


@dataclass
class _Measured:
    """Repeats of one contender."""

    prepare: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    predict: list[float] = field(default_factory=list)  # of the case of median size, times the size of all of them
    mirrored: list[float] = field(default_factory=list)
    tried: dict[Fast, float] = field(default_factory=dict)

    @property
    def fast(self) -> Fast:
        return min(self.tried, key=lambda each: self.tried[each])

    def record(self) -> dict[str, Any]:
        middle = {
            f"{name}_s": round(statistics.median(values), 4) if values else None
            for name, values in vars(self).items()
            if name != "tried"
        }
        repeats = {name: [round(v, 3) for v in values] for name, values in vars(self).items() if name != "tried"}
        tried = {str(fast): round(value, 4) for fast, value in self.tried.items()}
        return {**middle, "fast": asdict(self.fast), "step_s_by_setting": tried, "repeats": repeats}


def measure_costs(data: DataSet, contenders: Iterable[Contender], rounds: int = 3, seconds: float = _SECONDS) -> None:
    """Measure in turn, and write `cost.json` after each.

    Give none that costs what another does. What was measured before of other contenders is kept, and which
    setting was the fastest of those that are measured again.
    """
    path = data.work / "cost.json"
    before = read_json(path)["contenders"] if path.exists() else {}
    by_key = {each.costs_like: each for each in contenders}
    found = {key: _Measured(tried=_tried(contender, before.get(key))) for key, contender in by_key.items()}
    prepared: dict[Path, float] = {}
    started, when = time.time(), dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M")
    for number in range(rounds):
        for key, contender in by_key.items():
            if number == 0:
                contender.load()
                if contender.prepared not in prepared:
                    meter = Meter()
                    contender.prepare()
                    prepared[contender.prepared] = meter.seconds
                found[key].prepare.append(prepared[contender.prepared])
            _round(data, contender, found[key], seconds)
            gc.collect()
            told = {
                "title": contender.cost_title,
                "measured": when,
                **found[key].record(),
                "settings": contender.settings(),
            }
            before = {**before, key: told}
            record = {
                "contenders": before,
                "hardware": describe_hardware(torch.device("cpu")),
                "threads": torch.get_num_threads(),
                "versions": versions(["viscera", "torch", "numpy", *PEERS]),
                "seconds": round(time.time() - started),
                "load_of_the_machine": [round(x, 1) for x in os.getloadavg()],
                "peak_memory_mib": round(peak_memory_mib(torch.device("cpu"))),
            }
            write_json(path, record)


def _tried(contender: Contender, before: Mapping[str, Any] | None) -> dict[Fast, float]:
    known = before["step_s_by_setting"] if before else {}
    return {fast: known[str(fast)] for fast in contender.fast if str(fast) in known}


def _round(data: DataSet, contender: Contender, found: _Measured, seconds: float) -> None:
    folder, first = data.work / "trial", not found.step
    fewest = _OURS_FEWEST if hasattr(contender, "measured_steps") else _FEWEST
    trained, times = 0, (0.0, 0.0)  # steps of the model in the folder, and of its training
    for fast in () if found.tried else contender.fast:
        for trained in sorted({fewest, max(fewest, _TRIED)}):
            times = _steps(contender, fast, trained, folder)
            if times[0] * _TRIED > seconds:
                break
        found.tried[fast] = times[0]
    steps = int(np.clip(seconds / min(found.tried.values()), fewest, _MOST))
    if len(contender.fast) > 1 or steps != trained:  # the model in the folder is another one
        times = _steps(contender, found.fast, steps, folder)
    step_s, overhead_s = times
    found.step.append(step_s)
    found.overhead.append(overhead_s)
    voxels = [float(np.prod(nib.load(scan).shape)) for scan in data.scans]
    middle = int(np.argsort(voxels)[len(voxels) // 2])
    for mirrored in (False, True) if contender.mirrors and first else (False,):
        out = folder / f"out_{mirrored}"
        out.mkdir()
        into, scale = (found.mirrored if mirrored else found.predict), sum(voxels) / voxels[middle]
        if mirrored and _MIRRORS * found.predict[0] > _MOST_MIRRORED * scale:
            into.append(_MIRRORS * found.predict[0])
            continue
        watch = Meter()
        contender.predict(folder, [data.scans[middle]], out, found.fast, mirrored=mirrored)
        into.append(watch.seconds * scale)
    shutil.rmtree(folder)


def _steps(contender: Contender, fast: Fast, steps: int, folder: Path) -> tuple[float, float]:
    """CPU seconds of one step, and of a training beside its steps."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    meter = Meter()
    stamps: list[float] = []
    contender.train(steps, 0, folder, fast, lambda: stamps.append(meter.seconds))
    whole = meter.seconds
    measured: set[int] = contender.measured_steps(steps) if hasattr(contender, "measured_steps") else set()
    durations = {number: end - begin for number, (begin, end) in enumerate(pairwise(stamps), 2)}
    own = [value for number, value in durations.items() if not {number, number - 1} & measured]
    step_s = statistics.fmean(own or durations.values())
    return step_s, max(0.0, whole - steps * step_s)
