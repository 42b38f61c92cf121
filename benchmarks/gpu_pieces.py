"""What `make gpu` consists of: each piece knows whether it is done, how long it takes, and how it is done."""

import datetime as dt
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_equality import check_equality
from benchmarks.gpu_page import results_page
from benchmarks.gpu_speed import measure_speed
from benchmarks.record import RESULTS, processor_kind
from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config
from viscera.core.errors import InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import OUT_OF_MEMORY, describe_hardware
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
from viscera.study.plan import make_plan
from viscera.study.report.report_stage import make_report

_SHARE_OF_STEPS = 0.85  # of an arm's time; the rest is monitor, curve and checkpoints
_LEAST_SECONDS = 30.0  # of training, for which it is worth to begin an arm that will be cut off


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
    """Something to do: whether it is done, seconds that must be left to begin it, and doing it (True: to its end)."""

    name: str
    is_done: Callable[[], bool]
    seconds: Callable[[], float]
    run: Callable[[Deadline], bool]


@dataclass(frozen=True)
class Bench:
    """The pieces of one study on one device, the most telling first."""

    work: Path
    out: Path
    config: Config
    device: torch.device
    cases: int
    shape: tuple[int, int, int]
    test_fraction: float
    reserve: float  # seconds, of an arm, for its test cases and its archive
    pairs: tuple[str, ...]  # benchmarks beside peers
    quick: bool  # the small form of these
    pair_seconds: float  # the most that one may take

    @cached_property
    def study(self) -> StudyFolder:
        """Where the arms go."""
        return StudyFolder(self.work / "study")

    @property
    def arms(self) -> list[tuple[Arm, int]]:
        """With their seeds."""
        return [(arm, seed) for arm in arms_of(self.config.study) for seed in self.config.study.seeds]

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured of the device so far."""
        path = self.out / "measured.json"
        return read_json(path) if path.exists() else {}

    def pieces(self) -> list[Piece]:
        """In their order."""

        def measurement(name: str, key: str, seconds: float, run: Callable[[Deadline], bool]) -> Piece:
            return Piece(name, lambda: key in self.measured, lambda: seconds, run)

        def training(arm: Arm, seed: int) -> Piece:
            which = arm, seed
            done, seconds = partial(self._has_arm, *which), partial(self._arm_seconds, *which)
            return Piece(archive_name(arm, seed), done, seconds, partial(self._arm, *which))

        return [
            measurement("device against CPU", "equality", 60, self._equality),
            measurement("time of a step", "speed", 45, self._speed),
            *(
                measurement(f"pairs: {name}", name, self.pair_seconds / 2, partial(self._pairs, name))
                for name in self.pairs
            ),
            Piece("phantoms and store", self._has_store, self._data_seconds, self._data),
            *(training(arm, seed) for arm, seed in self.arms),
            Piece("study and report", (self.out / "report.tar.gz").exists, lambda: 90.0, self._report),
        ]

    def put_back(self) -> None:
        """Unpack the arms that OUT holds and WORK does not; one that was cut off starts anew without its checkpoint."""
        for arm, seed in self.arms:
            archive, run = self._archive(arm, seed), self.study.run(arm, seed)
            if archive.exists() and not run.path.exists():
                run.path.mkdir(parents=True)
                with tarfile.open(archive) as file:
                    file.extractall(run.path, filter="data")
                if not self._has_arm(arm, seed):
                    shutil.rmtree(run.path)

    def interim_report(self) -> None:
        """The report of the arms that have come so far, where there is one and not all have."""
        scored = [self.study.run(arm, seed).scores.exists() for arm, seed in self.arms]
        if (self.out / "report.tar.gz").exists() or not any(scored) or not self._has_store():
            return
        self.study.path.mkdir(parents=True, exist_ok=True)
        make_plan(self.study, Store.open(self.work / "store"), self.config).write()
        self._pack_report(make_report(self.study.path), self.out / "report_so_far.tar.gz")
        print(f"A report of {sum(scored)} of {len(scored)} arms: {self.out / 'report_so_far.tar.gz'}")

    # ------------------------------------------------------------------------------------------ the device

    def _keep(self, key: str, value: object) -> bool:
        about = {
            "device": str(self.device),
            "hardware": describe_hardware(self.device),
            "torch": torch.__version__,
            "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        }
        write_json(self.out / "measured.json", self.measured | about | {key: value})
        print(json.dumps(value, indent=1), flush=True)
        return True

    def _equality(self, _deadline: Deadline) -> bool:
        small = {"train.patch": min(32, self.config.train.patch)}
        config = resolve_config(file_values=self.config.model_dump(mode="json"), options=small)
        return self._keep("equality", check_equality(config, self.device, steps=3))

    def _speed(self, _deadline: Deadline) -> bool:
        return self._keep("speed", measure_speed(self.config, self.device))

    def _pairs(self, name: str, deadline: Deadline) -> bool:
        """Run a benchmark beside its peer in a process of its own; what it prints and writes comes back."""
        module = f"benchmarks.bench_{name}"
        command = [sys.executable, "-m", module, "--device", str(self.device), *(["--quick"] if self.quick else [])]
        result: dict[str, Any] = {"command": " ".join(["python", *command[1:]])}
        if importlib.util.find_spec("monai") is None:
            result["skipped"] = "MONAI is not installed here; `make gpu-wheels` brings it"
        else:
            result |= self._run_pairs(name, command, limit := min(self.pair_seconds, max(deadline.left, 0.1)))
            if "failed" in result and limit < self.pair_seconds:
                return False  # for want of time; the next command has more
        return self._keep(name, result)

    def _run_pairs(self, name: str, command: Sequence[str], limit: float) -> dict[str, Any]:
        written, log = RESULTS / processor_kind(self.device) / f"{name}.json", self.work / f"pairs_{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {}
        started = time.time()
        with log.open("w", encoding="utf-8") as file:
            try:
                code = subprocess.run(command, check=False, stdout=file, stderr=file, timeout=limit).returncode
            except subprocess.TimeoutExpired:
                result["failed"] = f"did not end within {limit:.0f} s"
            else:
                if code:
                    result["failed"] = f"exit code {code}: {log.read_text(encoding='utf-8')[-800:]}"
        lines = log.read_text(encoding="utf-8").splitlines()
        result["lines"] = [line for line in lines if line.startswith("RATIO ")]
        if written.exists() and written.stat().st_mtime > started - 1:
            result["results"] = read_json(written)
        return result

    # ------------------------------------------------------------------------------------------ the study

    def _has_store(self) -> bool:
        if (self.out / "report.tar.gz").exists():
            return True  # nothing needs it any more
        path = self.work / "store"
        return (path / "manifest.json").exists() and len(Store.open(path).names("train")) > 0

    def _data_seconds(self) -> float:
        return 10 + 5.0 * self.cases / len(os.sched_getaffinity(0))

    def _data(self, _deadline: Deadline) -> bool:
        source = self.work / "phantom"
        for path in (source, self.work / "store"):
            shutil.rmtree(path, ignore_errors=True)  # of a command that was killed
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
        """For all of it, or for as much as is worth it: what is cut off goes on from its checkpoint."""
        run = self.study.run(arm, seed)
        status = run.read_status()
        steps = self.config.train.iterations - (status.step if status and run.last.exists() else 0)
        whole = steps * float(self.measured["speed"]["seconds_per_step"]) / _SHARE_OF_STEPS
        return min(whole, _LEAST_SECONDS) + self.reserve

    def _arm(self, arm: Arm, seed: int, deadline: Deadline) -> bool:
        run, store = self.study.run(arm, seed), Store.open(self.work / "store")
        deadline.reserve = self.reserve
        name = archive_name(arm, seed)
        try:
            status = run.read_status()
            if status is None or status.state not in {"finished", "failed"} or OUT_OF_MEMORY in status.message:
                config = arm_config(self.config, arm, seed)
                train(store.path, run.path, config, resume=True, stop=deadline, progress=_every(20.0, name))
        except InterruptedRunError as error:
            print(f"{error} Its checkpoint lies in {self.work}: keep that folder, or the arm starts anew.")
            _pack(run.path, self._archive(arm, seed))  # its curve
            return False
        except RunFailedError as error:
            print(f"{name}: {error}")
            if OUT_OF_MEMORY in str(error):
                raise
        predict_store(run.path, store, store.names("test"), run.predictions)
        evaluate(run.predictions, store.path, run.scores, self.config.study_evaluation)
        _pack(run.path, self._archive(arm, seed))
        return True

    def _report(self, _deadline: Deadline) -> bool:
        page = run_study(self.work / "store", self.study.path, self.config)
        self._pack_report(page, self.out / "report.tar.gz")
        (self.out / "report_so_far.tar.gz").unlink(missing_ok=True)
        print(results_page(self.study, self.measured))
        return True

    def _pack_report(self, page: Path, archive: Path) -> None:
        write_text(page.with_name("results.md"), results_page(self.study, self.measured))
        _pack(page.parent, archive)

    def _archive(self, arm: Arm, seed: int) -> Path:
        return self.out / f"{archive_name(arm, seed)}.tar.gz"


def archive_name(arm: Arm, seed: int) -> str:
    """Of an arm's piece, and of its archive."""
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
