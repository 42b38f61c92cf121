"""Who works in a folder whose file system has no locks: files that say so, kept fresh while their process lives.

LOCK.XXXXXXXX.lock   one of each holder: its machine and process, whether it holds beside others, and a count that rises
LOCK.turn.lock       a folder, made by who looks at these files and adds its own: making one succeeds once at a time

A process of this machine is asked for by its number. One of another machine is watched: if its count stands still for
`DEAD_S`, it is no more; so it is if its file has the same time, too, which it sets where the disk is full. Clocks are
not compared, so that they may differ, and jump.
"""

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from viscera.io.files import temporary_beside

log = logging.getLogger(__name__)
BEAT_S, DEAD_S = 5.0, 30.0
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Lease:
    """What a holder says of itself."""

    place: str  # machine, its start, and the space of process numbers
    process: int
    began: str  # of the process, as the machine counts
    shared: bool
    beat: int = 0


@dataclass(frozen=True)
class _Holder:
    path: Path
    lease: Lease
    text: str  # of its file, and when it was written: that differs from the last is all that is asked of it


@dataclass
class _Watch:
    """What files said at first and last, and since when, by a clock that does not jump."""

    first: dict[Path, str] = field(default_factory=dict)
    last: dict[Path, tuple[str, float]] = field(default_factory=dict)

    def stands_still_s(self, path: Path, text: str) -> float:
        """For how many seconds a file has said the same."""
        self.first.setdefault(path, text)
        if self.last.get(path, ("", 0.0))[0] != text:
            self.last[path] = text, time.monotonic()
        return time.monotonic() - self.last[path][1]

    def is_dead(self, holder: _Holder) -> bool:
        """Whether a holder is no more; its file is deleted then."""
        still_s = self.stands_still_s(holder.path, holder.text)
        is_here = holder.lease.place == _place()
        dead = _began(holder.lease.process) != holder.lease.began if is_here else still_s > DEAD_S
        if dead:
            holder.path.unlink(missing_ok=True)
        return dead

    def is_alive(self, holder: _Holder) -> bool:
        """Whether one that is not dead is known to live: of another machine, once its count was seen to rise."""
        return holder.lease.place == _place() or self.first.get(holder.path, holder.text) != holder.text


@contextmanager
def leased(lock: Path, *, wait_s: float, shared: bool) -> Iterator[None]:
    """Hold what a lock stands for, alone or beside others that share it.

    Raises BlockingIOError where another process holds it, and still does after `wait_s` seconds; and OSError where no
    file can be written. It may take `DEAD_S` to see that a process of another machine is no more.
    """
    own, lease = lock.with_name(f"{lock.name}.{secrets.token_hex(4)}.lock"), _own_lease(shared=shared)
    deadline, watch = time.monotonic() + wait_s, _Watch()
    while True:
        with _turn(lock, watch):
            holders = [each for each in _holders(lock) if not watch.is_dead(each)]
            others = [each for each in holders if not (shared and each.lease.shared)]
            if not others:
                _say(own, lease)
                break
        if time.monotonic() >= deadline and all(map(watch.is_alive, others)):
            raise BlockingIOError
        time.sleep(_LOOK_AGAIN_S)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(own, lease, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        own.unlink(missing_ok=True)


def is_leased(lock: Path) -> bool:
    """Whether a process holds what a lock stands for; it may take `DEAD_S` to see that it is no more."""
    watch = _Watch()
    while holders := [each for each in _holders(lock) if not watch.is_dead(each)]:
        if any(map(watch.is_alive, holders)):
            return True
        time.sleep(_LOOK_AGAIN_S)
    return False


def _holders(lock: Path) -> list[_Holder]:
    found = []
    form = re.compile(rf"{re.escape(lock.name)}\.[0-9a-f]{{8}}\.lock")
    for path in (each for each in lock.parent.iterdir() if form.fullmatch(each.name)):
        with suppress(OSError, ValueError, TypeError, RecursionError):  # gone meanwhile, or of something else
            with path.open(encoding="utf-8") as file:
                text, written = file.read(), os.fstat(file.fileno()).st_mtime_ns
            lease = Lease(**json.loads(text))
            if type(lease.process) is int:
                found.append(_Holder(path, lease, f"{text} {written}"))
    return found


@contextmanager
def _turn(lock: Path, watch: _Watch) -> Iterator[None]:
    turn = lock.with_name(f"{lock.name}.turn.lock")
    while True:
        try:
            turn.mkdir()
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if watch.stands_still_s(turn, str(turn.stat().st_ctime_ns)) > DEAD_S:  # of a process that was killed
                    turn.rmdir()
        time.sleep(_LOOK_AGAIN_S)
    try:
        yield
    finally:
        with suppress(OSError):
            turn.rmdir()


def _beat(own: Path, lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        if not own.exists():
            log.warning("%s: this process stood still, and another may work there now. Stop one of them.", own.parent)
            return
        lease = replace(lease, beat=lease.beat + 1)
        try:
            _say(own, lease)
        except OSError:  # a full disk has no room for a count, but for a time
            with suppress(OSError):
                os.utime(own)


def _say(own: Path, lease: Lease) -> None:
    temporary = temporary_beside(own)
    try:
        temporary.write_text(json.dumps(asdict(lease)), encoding="utf-8")
        temporary.replace(own)
    finally:
        temporary.unlink(missing_ok=True)


def _own_lease(*, shared: bool) -> Lease:
    return Lease(_place(), os.getpid(), _began(os.getpid()), shared)


@cache
def _place() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts) if len(parts) > 1 else f"{parts[0]}/{secrets.token_hex(4)}"  # else processes are watched


def _began(process: int) -> str:
    """When a process of this machine began; empty where there is none."""
    with suppress(OSError, IndexError):
        return (
            Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        )
    return ""
