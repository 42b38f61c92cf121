"""Spoilt files of every kind that viscera reads: each ends in a result or a `VisceraError`, in time, in little memory.

`python -m torture hostile_files` tries them for its share of the time, in processes of their own, so that one that
crashes is counted and the next one goes on. What fails can be repeated: the same seed, target and number give the same
bytes, as far as the corpus before it was the same.
"""

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TextIO

from torture.bombs import BOMBS, Bomb
from torture.hostile_seeds import Artifacts, make_artifacts
from torture.hostile_targets import REFUSALS, TARGETS, Target, mutation_of
from torture.mutations import mutated_bytes
from torture.outcome import Outcome
from viscera.core.errors import VisceraError

MOST_S = 2.0  # of the processor, for one file
MOST_MIB = 1024  # of memory, beyond what the process holds
_HANGS_S = 30.0  # by the clock: it waits for something
_POOL = 24  # spoilt contents of one file that brought a new answer, to be spoilt further
_MOST_KEPT = 2**17  # bytes
_EVERY = 400  # inputs between two reports
_SAY = 100  # and between two accounts of a process
_ROOM = 2**28  # bytes
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class TooLongError(BaseException):
    """Raised inside a reader that takes too long; no reader catches it."""


@dataclass
class Found:
    """What became of many files."""

    inputs: int = 0
    results: int = 0  # files that were read after all
    answers: set[str] = field(default_factory=set)  # kinds of refusals
    worst_s: float = 0.0
    slowest: str = ""
    worst_mib: float = 0.0
    largest: str = ""
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Those of another process as well."""
        self.inputs, self.results = self.inputs + other.inputs, self.results + other.results
        self.answers |= other.answers
        self.failures += other.failures
        if other.worst_s > self.worst_s:
            self.worst_s, self.slowest = other.worst_s, other.slowest
        if other.worst_mib > self.worst_mib:
            self.worst_mib, self.largest = other.worst_mib, other.largest


@contextlib.contextmanager
def limited(mib: int = MOST_MIB) -> Iterator[None]:
    """Within, this process gets no more memory than it has and `mib` beside it; warnings and logs are not shown."""
    before, held = resource.getrlimit(resource.RLIMIT_AS), _of_status("VmSize") or 0
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        if held and sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, ((held + (mib << 10)) << 10, before[1]))
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        logging.disable(level)


def _of_status(name: str) -> int | None:
    """KiB of this process, as the system has them; None where it does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(_STATUS.read_text(encoding="ascii").split(f"{name}:")[1].split()[0])
    return None


@contextlib.contextmanager
def _timed(most_s: float) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooLongError

    numbers = {signal.SIGPROF: (signal.ITIMER_PROF, most_s), signal.SIGALRM: (signal.ITIMER_REAL, _HANGS_S)}
    handlers = {number: signal.signal(number, stop) for number in numbers}
    try:
        for timer, seconds in numbers.values():
            signal.setitimer(timer, seconds)
        yield
    finally:
        for timer, _ in numbers.values():
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def judged(name: str, read: Callable[[], object], found: Found, most_s: float = MOST_S) -> None:
    """Have one file read, and note how that ended, how long it took and what memory."""
    REFUSALS.clear()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")  # the peak begins anew
    held, began, why = _of_status("VmRSS"), time.process_time(), ""
    try:
        with _timed(most_s):
            read()
    except VisceraError as error:
        REFUSALS.append(str(error))
    except TooLongError:
        why = f"longer than {most_s:g} s of the processor: {_place(sys.exc_info()[2])}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a reader raises
        text = " ".join(str(error).split())[:160]
        why = f"{type(error).__name__}: {text} at {_place(error.__traceback__)}"
    seconds, peak = time.process_time() - began, _of_status("VmHWM")
    mib = (peak - held) / 1024 if peak is not None and held is not None else 0.0
    found.inputs += 1
    found.results += not REFUSALS and not why
    found.answers |= {_kind(text) for text in REFUSALS}
    if seconds > found.worst_s:
        found.worst_s, found.slowest = seconds, name
    if mib > found.worst_mib:
        found.worst_mib, found.largest = mib, name
    if not why and seconds > most_s:
        why = f"{seconds:.1f} s of the processor"
    if why:
        found.failures.append(f"{name}: {why}")


def _place(trace: object) -> str:
    """The last lines of viscera, and the last one."""
    frames = traceback.extract_tb(trace)  # type: ignore[arg-type]
    ours = [frame for frame in frames if "/viscera/" in frame.filename]
    last = [*ours[-2:], *[frame for frame in frames[-1:] if frame not in ours[-2:]]]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(last))


def _kind(text: str) -> str:
    """A refusal without what differs from file to file."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+|\([^()]*\)|/\S+", "#", text)[:80]


class Fuzzer:
    """Targets in folders of their own, and what to spoil of each."""

    def __init__(self, artifacts: Artifacts, work: Path, seed: int, targets: Sequence[Target] = TARGETS) -> None:
        self.seed = seed
        self.found = Found()
        self._known: set[str] = set()  # answers
        self._folders: dict[str, Path] = {}
        self._originals: dict[str, dict[Path, bytes]] = {}
        self._files: dict[str, Sequence[Path]] = {}
        self._pools: dict[Path, list[bytes]] = defaultdict(list)
        for target in targets:
            folder = self._folders[target.name] = work / target.name.replace(" ", "_")
            folder.mkdir(parents=True)
            self._files[target.name] = files = target.make(artifacts, folder)
            self._originals[target.name] = {path: path.read_bytes() for path in dict.fromkeys(files)}
        self.targets = [target for target in targets if self._files[target.name]]

    def schedule(self) -> list[Target]:
        """In which order the targets have their turns."""
        most = max(target.weight for target in self.targets)
        return [target for turn in range(most) for target in self.targets if target.weight > turn]

    def read_whole(self, target: Target) -> None:
        """Have a file read that nobody spoilt."""
        target.read(self._folders[target.name], self._files[target.name][0])

    def one(self, target: Target, number: int) -> None:
        """Spoil one file, have it read, and put it back."""
        chance = Random(f"{self.seed} {target.name} {number}")
        files, originals = self._files[target.name], self._originals[target.name]
        path = chance.choice(files)
        pool = [originals[path], *self._pools[path]]
        base = originals[path] if chance.random() < 0.5 else chance.choice(pool)
        try:
            content = (target.mutate or mutation_of(path))(chance, base)
        except Exception:  # noqa: BLE001 - what was spoilt before has lost the form that this wants
            content = mutated_bytes(chance, base)
        try:
            path.write_bytes(content)
            at = f"{target.name} {number} ({path.name})"
            judged(at, lambda: target.read(self._folders[target.name], path), self.found, target.most_s)
        finally:
            for each, original in originals.items():
                each.write_bytes(original)
        new = self.found.answers - self._known
        self._known |= new
        if new and len(content) < _MOST_KEPT:
            pool = self._pools[path]
            pool.append(content)
            del pool[:-_POOL]


def tried(artifacts: Artifacts, work: Path, inputs: int, seed: int, targets: Sequence[Target] = TARGETS) -> Found:
    """So many spoilt files, in this process."""
    fuzzer = Fuzzer(artifacts, work, seed, targets)
    order = fuzzer.schedule()
    with limited():
        for number in range(inputs):
            fuzzer.one(order[number % len(order)], number)
    return fuzzer.found


def exploded(bomb: Bomb, work: Path) -> Found:
    """One bomb, in this process."""
    found = Found()
    with limited():
        _explode(bomb, work, found)
    return found


def _explode(bomb: Bomb, work: Path, found: Found) -> None:
    with TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        with contextlib.suppress(MemoryError):
            bomb.make(folder)
        judged(f"bomb {bomb.name}", lambda: bomb.read(folder), found)
        if any(Path(name).rglob("canary")):
            found.failures.append(f"bomb {bomb.name}: what stood in the file was run")


def trial(seconds: float, seed: int) -> Outcome:
    """Bombs first, then spoilt files until the time is over."""
    found, ends, number = Found(), time.monotonic() + seconds, 0
    with TemporaryDirectory(dir=_in_memory()) as name:
        work = Path(name)
        with limited(2**20):
            artifacts = make_artifacts(work / "made")
        while number < len(BOMBS):
            number = _in_a_process(partial(_explode_all, work, number), "bombs", found, number)
        number = 0
        while time.monotonic() < ends:
            go_on = partial(_go_on, artifacts, work / f"from_{number}", seed, number, ends)
            number = _in_a_process(go_on, f"number {number}", found, number)
    outcome = Outcome(
        "hostile_files", inputs=found.inputs, tracebacks=len(found.failures), failures=found.failures[:50]
    )
    outcome.worst_s, outcome.worst_mib = found.worst_s, found.worst_mib
    outcome.figures = {
        "files that were read after all": str(found.results),
        "kinds of refusals": str(len(found.answers)),
        "files that ask for very much": str(len(BOMBS)),
        "slowest": found.slowest,
        "largest": found.largest,
        "limits": f"{MOST_S:g} s of the processor (a whole report 10 s), {MOST_MIB} MiB",
    }
    return outcome


def _in_memory() -> str | None:
    """A file system without a disk, where there is one with room."""
    place = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
    return place if os.access(place, os.W_OK) and shutil.disk_usage(place).free > _ROOM else None


def _explode_all(work: Path, number: int, pipe: TextIO) -> None:
    """What asks for very much, from a number on."""
    for at, bomb in enumerate(BOMBS[number:], start=number):
        print("begun", at, f"bomb {bomb.name}", file=pipe)
        found = Found()
        _explode(bomb, work, found)
        _say(found, pipe)


def _go_on(artifacts: Artifacts, work: Path, seed: int, number: int, ends: float, pipe: TextIO) -> None:
    """Spoilt files from a number on, until the time is over."""
    fuzzer = Fuzzer(artifacts, work, seed)
    order = fuzzer.schedule()
    report = next((target for target in fuzzer.targets if not target.weight), None)
    if report is not None:
        fuzzer.read_whole(report)  # what is slow the first time alone
    while time.monotonic() < ends:
        target = order[number % len(order)]
        if report is not None and number % _EVERY == 0:
            target = report
        print("begun", number, target.name, file=pipe)
        fuzzer.one(target, number)
        number += 1
        if number % _SAY == 0:
            _say(fuzzer.found, pipe)
            fuzzer.found = Found()
    _say(fuzzer.found, pipe)


def _say(found: Found, pipe: TextIO) -> None:
    print("found", json.dumps({**asdict(found), "answers": sorted(found.answers)}), file=pipe)


def _in_a_process(work: Callable[[TextIO], None], name: str, found: Found, number: int = 0) -> int:
    """Work in a process of its own; a crash is a failure of what had begun. Returns the number to go on with."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException), os.fdopen(into, "w", buffering=1) as pipe, limited():
            work(pipe)
            code = 0
        os._exit(code)
    os.close(into)
    with os.fdopen(out) as pipe:
        for line in pipe:
            kind, _, rest = line.strip().partition(" ")
            if kind == "begun":
                at, _, what = rest.partition(" ")
                number, name = int(at) + 1, f"{what} {at}"
            else:
                said = json.loads(rest)
                found.add(Found(**{**said, "answers": set(said["answers"])}))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        found.inputs += 1
        found.failures.append(f"{name}: the process ended with {status}")
    return number
