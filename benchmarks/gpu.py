"""All that needs a GPU, in pieces that fit into a command: `make gpu` does the next ones and says what is left.

    python -m benchmarks.gpu WORK OUT [--device cuda] [--seconds 540] [--set train.iterations=10000] ...

Pieces: the device against the CPU, and the time of a step; phantoms and store; each arm of the study, trained,
applied and scored; the study put together, with its report and a page of results. WORK holds everything and may be
lost; OUT holds what is worth keeping, a few small files: put back, what they say is done is not done again.
"""

import argparse
import datetime as dt
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_equality import check_equality, measure_speed
from benchmarks.gpu_page import results_page
from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config
from viscera.core.errors import InterruptedRunError, RunFailedError, VisceraError
from viscera.core.progress import OnProgress, Progress
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import OUT_OF_MEMORY, choose_device, describe_hardware
from viscera.io.files import write_text
from viscera.io.records import read_json, write_json
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict_store
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study.launch import run_study

_ON_GPU = ("train.checkpoint_every=2500",)  # 228 MB each
_RESERVE_SECONDS = 60.0  # of an arm, for its test cases and its archive
_SHARE_OF_STEPS = 0.85  # of an arm's time; the rest is monitor, curve and checkpoints


@dataclass
class Deadline:
    """A `StopSignal`: set once the time is up, less a reserve."""

    seconds: float
    reserve: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.started)

    def is_set(self) -> bool:
        """Whether training is to end."""
        return self.left < self.reserve


@dataclass(frozen=True)
class Piece:
    """Something to do: whether it is done, seconds that it will take, and doing it (True: done to its end)."""

    name: str
    is_done: Callable[[], bool]
    seconds: Callable[[], float]
    run: Callable[[Deadline], bool]


@dataclass(frozen=True)
class Bench:
    """The pieces of one study on one device."""

    work: Path
    out: Path
    config: Config
    device: torch.device
    cases: int
    shape: tuple[int, int, int]
    test_fraction: float
    reserve: float

    @cached_property
    def study(self) -> StudyFolder:
        """Where the arms go."""
        return StudyFolder(self.work / "study")

    def pieces(self) -> list[Piece]:
        """In their order."""
        arms = [(arm, seed) for arm in arms_of(self.config.study) for seed in self.config.study.seeds]
        return [
            Piece("device against CPU", (self.out / "equality.json").exists, lambda: 120.0, self._equality),
            Piece("phantoms and store", self._has_store, lambda: 2.0 * self.cases, self._data),
            *(
                Piece(
                    _name(arm, seed),
                    partial(self._has_arm, arm, seed),
                    partial(self._arm_seconds, arm, seed),
                    partial(self._arm, arm, seed),
                )
                for arm, seed in arms
            ),
            Piece("study and report", (self.out / "report.tar.gz").exists, lambda: 90.0, self._report),
        ]

    def put_back(self) -> None:
        """Unpack the arms that OUT holds and WORK does not."""
        for arm in arms_of(self.config.study):
            for seed in self.config.study.seeds:
                archive, run = self._archive(arm, seed), self.study.run(arm, seed)
                if archive.exists() and not run.path.exists():
                    run.path.mkdir(parents=True)
                    with tarfile.open(archive) as file:
                        file.extractall(run.path, filter="data")

    def _equality(self, _deadline: Deadline) -> bool:
        small = {"train.patch": min(32, self.config.train.patch)}
        config = resolve_config(file_values=self.config.model_dump(mode="json"), options=small)
        result = {
            "equality": check_equality(config, self.device, steps=3),
            "speed": measure_speed(self.config, self.device),
            "device": str(self.device),
            "hardware": describe_hardware(self.device),
            "torch": torch.__version__,
            "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        }
        write_json(self.out / "equality.json", result)
        print(json.dumps(result, indent=1))
        return True

    def _has_store(self) -> bool:
        if (self.out / "report.tar.gz").exists():
            return True  # nothing needs it any more
        path = self.work / "store"
        return (path / "manifest.json").exists() and len(Store.open(path).names("train")) > 0

    def _data(self, _deadline: Deadline) -> bool:
        source = self.work / "phantom"
        make_phantoms(source, self.cases, shape=self.shape, jobs=len(os.sched_getaffinity(0)))
        settings = self.config.prepare.model_copy(update={"downsample": 1, "test_fraction": self.test_fraction})
        prepare(source, self.work / "store", settings)
        shutil.rmtree(source)
        return True

    def _has_arm(self, arm: Arm, seed: int) -> bool:
        run = self.study.run(arm, seed)
        status = run.read_status()
        ended = status is not None and (
            status.state == "finished" or (status.state == "failed" and OUT_OF_MEMORY not in status.message)
        )
        return ended and run.scores.exists()

    def _arm_seconds(self, arm: Arm, seed: int) -> float:
        status = self.study.run(arm, seed).read_status()
        steps = self.config.train.iterations - (status.step if status else 0)
        per_step: float = read_json(self.out / "equality.json")["speed"]["seconds_per_step"]
        return steps * per_step / _SHARE_OF_STEPS + self.reserve

    def _arm(self, arm: Arm, seed: int, deadline: Deadline) -> bool:
        run, store = self.study.run(arm, seed), Store.open(self.work / "store")
        deadline.reserve = self.reserve
        progress = _every(20.0, _name(arm, seed))
        try:
            status = run.read_status()
            if status is None or status.state not in {"finished", "failed"} or OUT_OF_MEMORY in status.message:
                config = arm_config(self.config, arm, seed)
                train(store.path, run.path, config, resume=True, stop=deadline, progress=progress)
        except InterruptedRunError as error:
            print(f"{error} Its checkpoint lies in {self.work}: keep that folder, or the arm starts anew.")
            return False
        except RunFailedError as error:
            print(f"{_name(arm, seed)}: {error}")
            if OUT_OF_MEMORY in str(error):
                raise
        predict_store(run.path, store, store.names("test"), run.predictions)
        evaluate(run.predictions, store.path, run.scores, self.config.study_evaluation)
        _pack(run.path, self._archive(arm, seed))
        return True

    def _report(self, _deadline: Deadline) -> bool:
        page = run_study(self.work / "store", self.study.path, self.config)
        equality = read_json(self.out / "equality.json")
        write_text(page.with_name("results.md"), results_page(self.study, equality))
        _pack(page.parent, self.out / "report.tar.gz")
        print(results_page(self.study, equality))
        return True

    def _archive(self, arm: Arm, seed: int) -> Path:
        return self.out / f"{_name(arm, seed)}.tar.gz"


def do_next(pieces: Sequence[Piece], deadline: Deadline) -> list[str]:
    """Do the pieces that fit, the first in any case; returns the names of those that are left."""
    begun = False
    for piece in pieces:
        if piece.is_done():
            continue
        needed = piece.seconds()
        if begun and needed > deadline.left:
            print(f"{piece.name}: about {needed:.0f} s, {max(deadline.left, 0):.0f} s are left of this command.")
            break
        begun, started = True, time.monotonic()
        print(f"{piece.name} …", flush=True)
        if not piece.run(deadline):
            break
        print(f"{piece.name}: done in {time.monotonic() - started:.0f} s", flush=True)
    return [piece.name for piece in pieces if not piece.is_done()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the next pieces; 0, or 1 where the device does not compute what the CPU computes."""
    options = _options().parse_args(arguments)
    listed: dict[str, Any] = {
        "study.weightings": options.weightings.split(","),
        "study.learning_rates": options.learning_rates.split(","),
        "train.device": options.device,
    }
    config = resolve_config("paper", None, [*_ON_GPU, *(options.set or ())], listed, found_in="make gpu")
    device = choose_device(options.device)
    print(f"{describe_hardware(device)}, torch {torch.__version__}", flush=True)
    bench = Bench(
        options.work,
        options.out,
        config,
        device,
        options.cases,
        tuple(options.shape),
        options.test_fraction,
        options.reserve,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    bench.put_back()
    left = do_next(bench.pieces(), Deadline(options.seconds))
    print(f"Left: {', '.join(left)}. Run `make gpu` again." if left else f"All done: {options.out}")
    equal = read_json(options.out / "equality.json")["equality"]["passed"]
    if not equal:
        print("THE DEVICE DOES NOT COMPUTE WHAT THE CPU COMPUTES: see equality.json.")
    return 0 if equal else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540, help="of one command")
    parser.add_argument("--reserve", type=float, default=_RESERVE_SECONDS, help="seconds for an arm's test cases")
    parser.add_argument("--cases", type=int, default=70)
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--test-fraction", type=float, default=1 / 7)
    parser.add_argument("--weightings", default="uniform,simple,square")
    parser.add_argument("--learning-rates", default="0.001,0.01")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE")
    return parser


def _name(arm: Arm, seed: int) -> str:
    return arm.name if seed == 0 else f"{arm.name}_seed{seed}"


def _every(seconds: float, name: str) -> OnProgress:
    last = time.monotonic()

    def show(at: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > seconds or at.done == at.total:
            last = time.monotonic()
            print(f"  {name} {at.done}/{at.total}, {at.detail}", flush=True)

    return show


def _pack(folder: Path, archive: Path) -> None:
    """A folder without its checkpoints, which are large."""

    def light(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.endswith((".pt", ".lock")) else member

    temporary = archive.with_name(f".{archive.name}")
    with tarfile.open(temporary, "w:gz") as file:
        file.add(folder, arcname=".", filter=light)
    temporary.replace(archive)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VisceraError as error:
        print(error)
        raise SystemExit(error.exit_code) from error
