"""Two processes in one folder: the same command twice, a reader beside a writer; clocks that jump; no locks.

One waits for the other or is refused by name, nothing is mixed, and what comes out is the same to the byte as of one
process alone.
"""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from torture.commands import COMMANDS, Command, call
from torture.outcome import Outcome
from torture.stand import Ended, Stand, Whole, digests, unsound

_REFUSALS = ("another process is working on it", "exists", "is not as viscera wrote it")
LEAST = 6  # of each


@dataclass(frozen=True)
class Reader:
    """What reads what a command writes."""

    name: str
    of: tuple[str, ...]  # names of the commands
    read: Callable[[], int]


def _view(path: str) -> int:
    from viscera.core.errors import VisceraError  # noqa: PLC0415 - as in `torture.commands`
    from viscera.view.case_images import CaseImages  # noqa: PLC0415
    from viscera.view.open_gallery import open_gallery  # noqa: PLC0415

    try:
        gallery = open_gallery(Path(path))
        images = CaseImages(gallery)
        for number, case in enumerate(gallery.cases):
            images.grid(number)
            for layer in range(len(case.layers)):
                images.labels(number, layer)
    except VisceraError as error:
        print(f"viscera: {error}")
        return error.exit_code
    return 0


_TRAINS = ("train", "train on", "train from another")
READERS = (
    Reader("verify store", ("prepare", "prepare again"), lambda: call("verify", "store")),
    Reader("train", ("prepare again",), lambda: call(
        "train", "store", "elsewhere", "--device=cpu", "--patch=8", "--batch-size=2", "--filters=2", "--iterations=1",
        "--set", "train.levels=2")),
    Reader("view store", ("prepare", "prepare again"), lambda: _view("store")),
    Reader("verify run", _TRAINS, lambda: call("verify", "run")),
    Reader("predict", _TRAINS, lambda: call("predict", "run", "store/cases/phantom_000/labels_original.nii.gz",
                                            "elsewhere", "--overwrite", "--device=cpu")),
    Reader("card", _TRAINS, lambda: call("card", "run", "--out=elsewhere")),
    Reader("export", _TRAINS, lambda: call("export", "run", "elsewhere", "--to=safetensors")),
    Reader("verify predictions", ("predict", "predict again", "correct", "correct again"),
           lambda: call("verify", "out")),
    Reader("evaluate", ("predict again",), lambda: call("evaluate", "out", "raw/labelsTr", "--out=elsewhere/s.csv")),
    Reader("view predictions", ("predict", "predict again", "correct", "correct again"), lambda: _view("out")),
    Reader("verify study", ("study", "study on", "fuse", "report", "report again"), lambda: call("verify", "study")),
    Reader("report", ("study on", "fuse"), lambda: call("report", "study")),
    Reader("view study", ("study on", "fuse"), lambda: _view("study")),
    Reader("verify export", ("export again",), lambda: call("verify", "exported")),
)  # fmt: skip


def at_once(stand: Stand, functions: Sequence[Callable[[], Any]], delays_s: Sequence[float]) -> list[Ended]:
    """Call functions in forks of this process, each after a delay, and wait for all."""
    children = []
    for number, (function, delay_s) in enumerate(zip(functions, delays_s, strict=True)):
        child = os.fork()
        if child == 0:
            time.sleep(delay_s)
            stand.in_the_fork(function, f"log{number}")
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    texts = [
        (stand.home / f"log{number}").read_text(encoding="utf-8", errors="replace") for number in range(len(codes))
    ]
    return [Ended(code, text) for code, text in zip(codes, texts, strict=True)]


def twice(
    stand: Stand, command: Command, whole: Whole, delay_s: float, how: Callable[[], Any] = nullcontext
) -> Iterator[str]:
    """The same command twice in one folder, the second after a while; what is wrong then."""

    def run() -> int:
        with how():
            return command.run()

    stand.set_back()
    ended = at_once(stand, [run, run], [0, delay_s])
    if not any(each.code == 0 for each in ended):
        yield f"none came to its end: {[each.text.strip()[-200:] for each in ended]}"
    for each in ended:
        if each.code not in {0, 3} or "Traceback" in each.text:
            yield f"ended with {each.code}: {each.text.strip()[-500:]}"
        elif each.code and not any(known in each.text for known in _REFUSALS):
            yield f"refused without saying why: {each.text.strip()[-300:]}"
    if command.name.startswith("correct"):  # both are kept
        kept = len(list(stand.work.glob("out/corrections/history/*.json"))) - command.name.endswith("again")
        if kept != sum(each.code == 0 for each in ended):
            yield f"{kept} corrections are kept, of {[each.code for each in ended]}"
    else:
        yield from _other_than(stand, command, whole)


def _other_than(stand: Stand, command: Command, whole: Whole) -> Iterator[str]:
    now = {name: each for name, each in digests(stand.work).items() if not name.startswith("elsewhere")}
    other = sorted(name for name in {*now, *whole.end} if now.get(name) != whole.end.get(name))
    if other:
        yield f"these differ: {', '.join(other[:5])}"
    yield from unsound(stand.work / command.looked_at)


def beside(stand: Stand, command: Command, whole: Whole, reader: Reader, delay_s: float) -> Iterator[str]:
    """A reader beside a command that writes; what is wrong then."""
    stand.set_back()
    ended = at_once(stand, [command.run, reader.read], [0, delay_s])
    for each, who in zip(ended, (command.name, reader.name), strict=True):
        if each.code not in {0, 3} or "Traceback" in each.text or "defect" in each.text:
            yield f"{who} ended with {each.code}: {each.text.strip()[-500:]}"
    if ended[0].code:
        yield f"{command.name} ended with {ended[0].code}: {ended[0].text.strip()[-300:]}"
    if reader.name.startswith("verify"):
        known = {each.partition(": ")[0].rpartition("/work/")[2] for each in whole.unsound}
        for line in ended[1].text.splitlines():
            path, _, said = line.partition(": ")
            if said.startswith(("damaged", "missing")) and path not in known:
                yield f"{reader.name} took what was being written for damaged: {line}"
    yield from _other_than(stand, command, whole)


@contextmanager
def backwards() -> Iterator[None]:
    """Within, the clock of the day goes backwards."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600.0
        return now[0]

    with mock.patch("time.time", earlier):
        yield


def strange_times(stand: Stand, command: Command, whole: Whole, order: random.Random) -> Iterator[str]:
    """A command on files of the next century and of before 1970, while the clock goes backwards; what is wrong then."""
    stand.set_back()
    for path in stand.work.rglob("*"):
        when = order.choice([-86_400.0, 0.0, 1.0, 4e9, time.time() + 1e6])
        os.utime(path, (when, when), follow_symlinks=False)

    def run() -> int:  # and again, where all is done
        with backwards():
            return command.run() or command.again()

    ended = stand.run(run)
    if ended.code:
        yield f"ended with {ended.code}: {ended.text.strip()[-300:]}"
    yield from _other_than(stand, command, whole)


def _tries(stand: Stand, command: Command, whole: Whole, order: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Without end: what was tried, and what was wrong."""
    takes = max(whole.times, default=0.1)
    readers = [each for each in READERS if command.name in each.of]
    while True:
        delay_s = order.choice([0.0, order.uniform(0, takes)])
        yield f"twice, {delay_s:.4f} s later", list(twice(stand, command, whole, delay_s))
        for reader in readers:
            delay_s = order.uniform(0, takes)
            yield f"{reader.name} after {delay_s:.4f} s", list(beside(stand, command, whole, reader, delay_s))
        delay_s = order.choice([0.0, order.uniform(0, takes)])
        yield f"twice without locks, {delay_s:.4f} s later", list(twice(stand, command, whole, delay_s, without_locks))
        yield "with strange times", list(strange_times(stand, command, whole, order))


def trial(seconds: float, seed: int) -> Outcome:
    """Each pair a few times, at moments of chance, and more while there is time."""
    outcome, order = Outcome("two_at_once"), random.Random(seed)
    end = time.monotonic() + seconds
    counts: dict[str, int] = {}
    with Stand.opened() as stand:
        for number, command in enumerate(COMMANDS):
            until = time.monotonic() + (end - time.monotonic()) / (len(COMMANDS) - number)
            stand.begin(command)
            whole = stand.whole(command)
            for tried, (what, wrong) in enumerate(_tries(stand, command, whole, order), start=1):
                kind = what.partition(",")[0].partition(" after ")[0]
                counts[kind] = counts.get(kind, 0) + 1
                outcome.faults += 1
                outcome.lost += bool(wrong)
                outcome.failures += [f"{command.name}, {what}: {each}" for each in wrong]
                if tried >= LEAST and time.monotonic() > until:
                    break
    outcome.figures = {kind: f"{count:,} times" for kind, count in counts.items()}
    return outcome


@contextmanager
def without_locks() -> Iterator[None]:
    """Within, the file system has no locks, as some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with mock.patch("fcntl.flock", refuse):
        yield
