"""Where commands are injured: a folder that is set back to its beginning each time, and processes that are forked."""

import hashlib
import importlib
import io
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torture.commands import MAKE, Command, quickly
from torture.still_clock import still_clock
from torture.write_calls import Call, Died, Fault, WriteCalls, broken_rules, is_hidden, state_of
from viscera.core.errors import BadInputError
from viscera.io.verifying.file_judgement import BAD
from viscera.stages.verify import verify

GROWING = frozenset({"curve.jsonl"})  # written line by line
_NO_ARTIFACT = "nothing here that viscera wrote", "viscera keeps no checksum"
Digests = dict[str, str]  # of each file, by its path


class Ended(NamedTuple):
    """What became of a process."""

    code: int  # negative: the signal that ended it
    text: str  # that it printed
    value: Any = None  # that it gave back


def forked(function: Callable[[], Any], within: Path, log: Path) -> Ended:
    """Call a function in a fork of this process, in a folder; what it gives back, or an exit code where that is one."""
    with tempfile.TemporaryFile() as result:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _in_the_fork(function, within, log, result)
        _, status = os.waitpid(child, 0)
        result.seek(0)
        content = result.read()
    code = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8", errors="replace")
    return Ended(code, text, pickle.loads(content) if content else None)  # noqa: S301 - of our own fork


def _in_the_fork(function: Callable[[], Any], within: Path, log: Path, result: Any) -> NoReturn:  # noqa: ANN401 - a file
    code = 70
    try:
        os.chdir(within)
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        value = function()
        result.write(pickle.dumps(value))
        result.flush()
        code = value if isinstance(value, int) else 0
    except BaseException:  # noqa: BLE001 - the end of this process, whatever it is
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def called(function: Callable[[], Any], within: Path) -> Ended:
    """Call a function in this process; one that `Died` has, for all that the disk knows, been killed."""
    before, said = Path.cwd(), io.StringIO()
    os.chdir(within)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            value = function()
    except Died:
        return Ended(-signal.SIGKILL, said.getvalue())
    finally:
        os.chdir(before)
    return Ended(value if isinstance(value, int) else 0, said.getvalue(), value)


def killed_here() -> Any:  # noqa: ANN401 - it never returns
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


def digests(folder: Path) -> Digests:
    """SHA-256 of every file that is not hidden."""
    names = (name for name in state_of(folder) if not is_hidden(name))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}


def unsound(path: Path) -> list[str]:
    """What `viscera verify` says of an artifact that is not sound; nothing where there is no artifact."""
    try:
        found = verify(path)
    except BadInputError as error:
        return [] if any(each in str(error) for each in _NO_ARTIFACT) else [str(error)]
    return [f"{each.path}: {each.state} ({each.why})" for each in found if each.state in BAD]


@dataclass
class Whole:
    """A command that nothing disturbed."""

    calls: list[Call]
    start: Digests
    end: Digests
    versions: dict[str, set[str]]  # every content that a file had under a name that is not hidden, before and since
    rules: list[str]  # that it broke
    unsound: list[str]  # what `viscera verify` says before
    times: list[float]  # of the calls, seconds from the beginning


@dataclass
class Stand:
    """The folder, and what commands begin with."""

    home: Path
    forks: bool = True  # each command has a process of its own; else it dies by an exception that nothing survives
    in_one_process: bool = True  # a study
    made: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def opened(cls, *, forks: bool = True) -> Iterator["Stand"]:
        """A new one."""
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            stand = cls(Path(os.path.realpath(folder)), forks)
            (stand.home / "base").mkdir()
            yield stand

    @property
    def work(self) -> Path:
        """The folder that commands run in, always the same: some write it down."""
        return self.home / "work"

    def run(self, function: Callable[[], Any], *, learn: bool = False) -> Ended:
        """Call a function in the folder; to `learn` is to load what its process loaded, so that others need not."""

        def run() -> Any:  # noqa: ANN401 - whatever it gives
            with still_clock(), quickly(in_one_process=self.in_one_process):
                value = function()
                return (value, sorted(sys.modules)) if learn else value

        ended = forked(run, self.work, self.home / "log") if self.forks else called(run, self.work)
        if not learn or ended.value is None:
            return ended
        value, modules = ended.value
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
        return Ended(value if isinstance(value, int) else 0, ended.text, value)

    def _make(self, name: str) -> None:
        """What commands begin with, and before it what it is made of."""
        if name in self.made:
            return
        needs, make = MAKE[name]
        for each in needs.split():
            self._make(each)
        self._set("", needs.split())
        ended = self.run(make)
        if ended.code:
            raise RuntimeError(f"{name}: {ended.text}")
        shutil.move(self.work / name, self.home / "base" / name)
        self.made.add(name)

    def _set(self, snapshot: str, names: Sequence[str] = ()) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if snapshot:
            shutil.copytree(self.home / snapshot, self.work, symlinks=True)
            return
        self.work.mkdir()
        for name in names:
            shutil.copytree(self.home / "base" / name, self.work / name)

    def begin(self, command: Command) -> None:
        """Make what a command begins with, and keep it."""
        for name in command.needs:
            self._make(name)
        self._set("", command.needs)
        ended = self.run(lambda: command.before() and None)
        if ended.code:
            raise RuntimeError(f"{command.name}: {ended.text}")
        shutil.rmtree(self.home / "start", ignore_errors=True)
        shutil.copytree(self.work, self.home / "start", symlinks=True)

    def set_back(self) -> None:
        """As it was when the command began."""
        self._set("start")

    def whole(self, command: Command) -> Whole:
        """Run a command that nothing disturbs, and watch it."""
        self.set_back()
        before, start = state_of(self.work), digests(self.work)
        versions: dict[str, set[str]] = {name: {digest} for name, digest in start.items()}

        def on_visible(name: str, path: Path) -> None:
            versions.setdefault(name, set()).add(hashlib.sha256(path.read_bytes()).hexdigest())

        def run() -> Any:  # noqa: ANN401 - what was counted
            began = time.monotonic()
            with WriteCalls(self.work, on_visible=on_visible).watching() as calls:
                code = command.run()
            return code, calls.calls, versions, broken_rules(calls, before, GROWING), [t - began for t in calls.times]

        ended = self.run(run, learn=True)
        code, calls, versions, rules, times = ended.value or (ended.code, [], {}, [], [])
        if code or ended.code:
            raise RuntimeError(f"{command.name}: {ended.text}")
        end = digests(self.work)
        self.set_back()
        return Whole(calls, start, end, versions, rules, unsound(self.work / command.looked_at), times)

    def injured(self, command: Command, fault: Fault) -> Ended:
        """Run a command with a fault, from its beginning."""
        self.set_back()

        def run() -> int:
            calls = WriteCalls(self.work, fault, killed_here) if self.forks else WriteCalls(self.work, fault)
            with calls.watching():
                return command.run()

        return self.run(run)

    def in_the_fork(self, function: Callable[[], Any], log: str) -> NoReturn:
        """Call a function in the folder, in a group of processes of its own, and end this process."""
        os.setsid()

        def run() -> Any:  # noqa: ANN401 - whatever it gives
            with still_clock(), quickly(in_one_process=self.in_one_process):
                return function()

        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            _in_the_fork(run, self.work, self.home / log, nowhere)

    def killed(self, command: Command, after_s: float, *, with_all: bool) -> tuple[int, int]:
        """Run a command, and kill it after a time, alone or with all the processes that it started.

        Its exit code, and the number of the session that its processes belong to.
        """
        self.set_back()

        child = os.fork()
        if child == 0:
            self.in_the_fork(command.run, "log")
        time.sleep(after_s)
        if with_all:
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), child

    def neither_old_nor_new(self, command: Command, whole: Whole) -> Iterator[str]:
        """Files with a content that they never had in the command that nothing disturbed, and those that are gone."""
        now = digests(self.work)
        for name, digest in now.items():
            may_grow = Path(name).name in GROWING and name in whole.versions.keys() | whole.end.keys()
            if digest not in whole.versions.get(name, set()) and not may_grow:
                yield f"{name}: neither old nor new"
        yield from (f"{name}: gone" for name in whole.start.keys() & whole.end.keys() - now.keys())
        if command.at_once:
            own, old, new = (_within(command.artifact, each) for each in (now, whole.start, whole.end))
            if own not in (old, new):
                yield f"{command.artifact}: some of it is old and some is new"


def _within(folder: str, files: Digests) -> Digests:
    return {name: digest for name, digest in files.items() if name == folder or name.startswith(f"{folder}/")}
