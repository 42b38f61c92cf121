"""A shim below everything that Python writes with: each call that changes the disk under a folder is counted.

One of them can fail, as on a full disk or a broken one, or be the last of its process. It lies under `io`, `os` and
`pathlib`, not in viscera, so that no write in Python passes it by, and none of viscera's cleanup after the last call
reaches the disk. What compiled libraries write themselves does pass by: `calls_missed_by` finds that on the disk.
"""

import errno
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import mock

from viscera.io.disk import exchanged_names

Kind = Literal["dies", "full", "broken"]
KINDS: tuple[Kind, ...] = ("dies", "full", "broken")
_TAKES_SPACE = {"open", "unnamed", "write", "mkdir", "allocate", "fsync"}  # what a full disk refuses
_REAL_OPEN, _REAL_OS_OPEN = io.open, os.open
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Died(BaseException):
    """The process is no more. Within one process it is raised by every further call, so that no cleanup is done."""


@dataclass(frozen=True)
class Call:
    """One call that changes the disk, by paths relative to the folder that is watched."""

    # open, unnamed (of a file without a name), write, fsync, rename, exchange, unlink, mkdir, rmdir, link, truncate,
    # allocate
    what: str
    path: str
    to: str = ""  # of a rename, an exchange or a link

    @property
    def takes_space(self) -> bool:
        """Whether a full disk refuses it."""
        return self.what in _TAKES_SPACE


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call, from 0 on."""

    at: int
    kind: Kind


def _die_here() -> NoReturn:
    raise Died


@dataclass
class WriteCalls:
    """The calls under a folder so far. Where a fault is given, it happens; `die` ends the process in its own way."""

    root: Path
    fault: Fault | None = None
    die: Callable[[], NoReturn] = _die_here
    on_visible: Callable[[str, Path], None] | None = None  # told of each file before it gets a name that is not hidden
    calls: list[Call] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # of each, as `time.monotonic` has it
    is_dead: bool = False
    busy: int = 0  # within one of them: what the interpreter reports of it is counted already

    def inside(self, path: Any) -> str | None:  # noqa: ANN401 - whatever names a file
        """A path relative to the folder; None outside of it."""
        if isinstance(path, int):
            try:
                path = _name_of(path)
            except OSError:
                return None
        text, root = os.path.abspath(os.fsdecode(path)), str(self.root)  # noqa: PTH100 - links stay
        return os.path.relpath(text, root) if text == root or text.startswith(root + os.sep) else None

    @contextmanager
    def counted(self, what: str, path: str, to: str = "", half: Callable[[], object] | None = None) -> Iterator[None]:
        """Count a call, and let happen to it what shall: of a write, `half` comes to the disk before."""
        call, number = Call(what, path, to), len(self.calls)
        if self.is_dead:
            raise Died
        self.calls.append(call)
        self.times.append(time.monotonic())
        fault = self.fault
        if fault is not None and number >= fault.at:
            if fault.kind == "dies":
                self.is_dead = True
                if half is not None:
                    half()
                self.die()
            is_full = fault.kind == "full" and call.takes_space
            if is_full or (fault.kind == "broken" and number == fault.at):
                if half is not None:
                    half()
                number = errno.ENOSPC if is_full else errno.EIO
                raise OSError(number, os.strerror(number), path)
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    @contextmanager
    def watching(self) -> Iterator["WriteCalls"]:
        """Be under everything, as long as the `with` lasts."""
        with ExitStack() as patches:
            for module, name, function in self._patches():
                patches.enter_context(mock.patch.object(module, name, function))
            for name in ("_USE_CP_SENDFILE", "_USE_CP_COPY_FILE_RANGE"):  # copies pass through files of Python then
                if hasattr(shutil, name):
                    patches.enter_context(mock.patch.object(shutil, name, new=False))
            yield self

    def _patches(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        import builtins  # noqa: PLC0415 - to be patched

        yield io, "open", self._open
        yield builtins, "open", self._open
        yield os, "open", self._os_open
        yield os, "fsync", self._of_descriptor("fsync", os.fsync)
        yield os, "ftruncate", self._of_descriptor("truncate", os.ftruncate)
        yield os, "write", self._of_descriptor("write", os.write)
        yield os, "posix_fallocate", self._of_descriptor("allocate", os.posix_fallocate)
        for name in ("unlink", "remove", "mkdir", "rmdir", "truncate"):
            yield os, name, self._of_path("unlink" if name == "remove" else name, getattr(os, name))
        for name in ("rename", "replace", "link"):
            yield os, name, self._of_two("link" if name == "link" else "rename", getattr(os, name))
        yield os, "symlink", self._symlink(os.symlink)
        yield exchanged_names, "exchange", self._of_two("exchange", exchanged_names.exchange)

    def _of_descriptor(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *arguments: Any) -> Any:  # noqa: ANN401 - as the real one
            path = self.inside(descriptor)
            if path is None:
                return real(descriptor, *arguments)
            with self.counted(what, path):
                return real(descriptor, *arguments)

        return call

    def _of_path(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, dir_fd: int | None = None, **more: Any) -> Any:  # noqa: ANN401
            where = more if dir_fd is None else {**more, "dir_fd": dir_fd}
            own = self.inside(path if dir_fd is None else _under(dir_fd, path))
            if own is None:
                return real(path, *arguments, **where)
            with self.counted(what, own):
                return real(path, *arguments, **where)

        return call

    def _of_two(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
            own, to = self.inside(source), self.inside(target)
            if own is None and to is None:
                return real(source, target, *arguments, **more)
            with self.counted(what, own or str(source), to or str(target)):
                if self.on_visible is not None:
                    for name, path in ((to, source), *(((own, target),) if what == "exchange" else ())):
                        self._tell(name, Path(path))
                return real(source, target, *arguments, **more)

        return call

    def _tell(self, name: str | None, path: Path) -> None:
        if name is None or self.on_visible is None:
            return
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        for each in files:
            own = os.path.normpath(f"{name}/{os.path.relpath(each, path)}")
            if not is_hidden(own):
                self.on_visible(own, each)

    def _symlink(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, name: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
            own = self.inside(name)
            if own is None:
                return real(target, name, *arguments, **more)
            with self.counted("link", own):
                return real(target, name, *arguments, **more)

        return call

    def _os_open(self, path: Any, flags: int, *arguments: Any, **more: Any) -> int:  # noqa: ANN401 - as the real one
        own = self.inside(path if more.get("dir_fd") is None else _under(more["dir_fd"], path))
        if own is None or not flags & _WRITES:
            return _REAL_OS_OPEN(path, flags, *arguments, **more)
        with self.counted("unnamed" if flags & os.O_DIRECTORY else "open", own):
            return _REAL_OS_OPEN(path, flags, *arguments, **more)

    def _open(  # noqa: PLR0913, PLR0917 - as the real one
        self,
        file: Any,  # noqa: ANN401
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - one of many kinds of file
        own = self.inside(file) if set(mode) & set("wax+") else None
        if own is None or opener is not None:  # which is counted itself
            return _REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        with nullcontext() if isinstance(file, int) else self.counted("open", own):
            raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.watch = self, own
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _Raw(io.FileIO):
    """A file whose writes are counted; of one that fails the first half comes to the disk."""

    watch: tuple[WriteCalls, str]

    def write(self, content: Any, /) -> int:  # noqa: ANN401 - any buffer
        """As a file's."""
        calls, path = self.watch
        view = memoryview(content).cast("B")

        def half() -> None:
            super(_Raw, self).write(view[: len(view) // 2])

        with calls.counted("write", path, half=half):
            return super().write(view)

    def truncate(self, size: int | None = None, /) -> int:
        """As a file's."""
        calls, path = self.watch
        with calls.counted("truncate", path):
            return super().truncate(size)


def _name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _under(folder: int, name: Any) -> str:  # noqa: ANN401 - whatever names a file
    return f"{_name_of(folder)}/{os.fsdecode(name)}"


def is_hidden(path: str) -> bool:
    """Whether a file is of a process at work: a part of its path begins with a dot."""
    return any(part.startswith(".") for part in Path(path).parts)


def state_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below a folder: its number on the file system, size and time."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            found[os.path.relpath(path, root)] = status.st_ino, status.st_size, status.st_mtime_ns
    return found


@dataclass
class _Replay:
    """What is known of the files below a folder from the calls alone."""

    written: set[str] = field(default_factory=set)
    not_synced: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def take(self, call: Call, may_grow: frozenset[str]) -> None:
        name = Path(call.path).name
        if call.what == "open":
            if not is_hidden(call.path) and name not in may_grow:
                self.faults.append(f"{call.path}: opened to be written under its own name, where readers see it half")
            self.written.add(call.path)
        elif call.what in {"write", "truncate", "allocate"}:
            self.written.add(call.path)
            self.not_synced.add(call.path)
        elif call.what == "fsync":
            self.not_synced.discard(call.path)
        elif call.what in {"rename", "exchange", "link"}:
            self._move(call)

    def _move(self, call: Call) -> None:
        folder = str(Path(call.to).parent)
        moved = {each for each in self.not_synced if _is_in(each, call.path)}
        if call.to.endswith(".pt"):  # which is of a step that the curve has seen
            moved |= {each for each in self.not_synced if str(Path(each).parent) == folder and not is_hidden(each)}
        if moved and not is_hidden(call.to):
            self.faults.append(f"{call.to}: in place before it was on the disk ({', '.join(sorted(moved))})")
        for known in (self.written, self.not_synced):
            ours = {each for each in known if _is_in(each, call.path)}
            theirs = {each for each in known if _is_in(each, call.to)}
            if call.what != "link":
                known.difference_update(ours)
            known.difference_update(theirs)
            known.update(call.to + each[len(call.path) :] for each in ours)
            if call.what == "exchange":
                known.update(call.path + each[len(call.to) :] for each in theirs)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def broken_rules(
    calls: WriteCalls, before: Mapping[str, tuple[int, int, int]], may_grow: frozenset[str] = frozenset()
) -> list[str]:
    """What a command did that it must not.

    That is: writes that were not counted, half files where readers see them, names that a file got before it was on the
    disk. `before` is the `state_of` the folder as the command began; files called as `may_grow` grow line by line.
    """
    replay = _Replay()
    for call in calls.calls:
        replay.take(call, may_grow)
    now = state_of(calls.root)
    changed = {path for path, state in now.items() if before.get(path) != state}
    missed = sorted(changed - replay.written)
    return [*replay.faults, *(f"{path}: written by a call that was not counted" for path in missed)]
