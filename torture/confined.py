"""What confines a process, on Linux: small and read-only disks of its own, few files, little memory, no rights.

What is called here holds for the process that calls it and those that it starts: fork first (`in_child`).
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 8, 24
_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 1, 2, 3  # capabilities to pass over the permissions of files
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_V3 = 0x20080522
NOBODY = 65534


class NotPermittedError(Exception):
    """This machine does not let a process confine itself so."""


class Ended(NamedTuple):
    """How a child ended."""

    code: int  # exit code; -9 and the like where a signal ended it
    seconds: float
    mebibytes: float  # largest resident set


def in_child(work: Callable[[], int | None], most_s: float = 120) -> Ended:
    """Do something in a fork of this process; it is killed where it takes longer than it may."""
    started = time.monotonic()
    with warnings.catch_warnings(action="ignore"):  # of other threads, which the child does without
        child = os.fork()
    if child == 0:
        code = 70
        try:
            code = work() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # noqa: BLE001 - as the interpreter would
            traceback.print_exc()
            code = 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
                    stream.flush()
            os._exit(code)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > most_s:
            os.kill(child, signal.SIGKILL)
            most_s = float("inf")
        time.sleep(0.005)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - started, usage.ru_maxrss / 1024)


def _libc() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise NotPermittedError("no Linux")
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise NotPermittedError(f"{what}: {os.strerror(ctypes.get_errno())}")


def own_mounts() -> None:
    """From here on what is mounted is seen by this process and its children alone; raises NotPermittedError."""
    libc, uid, gid = _libc(), os.getuid(), os.getgid()
    if uid == 0:
        _checked(libc.unshare(_CLONE_NEWNS), "unshare")
    else:
        _checked(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    _checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")


def small_disk(folder: Path, size: int) -> None:
    """A disk of so many bytes in place of a folder."""
    options = f"size={size},mode=0755".encode()
    _checked(_libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options), f"tmpfs at {folder}")


def made_read_only(folder: Path) -> None:
    """Nothing below a folder can be written to any more."""
    libc, path = _libc(), os.fsencode(folder)
    _checked(libc.mount(path, path, None, _MS_BIND | _MS_REC, None), f"bind {folder}")
    _checked(libc.mount(None, path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None), f"remount {folder}")


def free_bytes(folder: Path) -> int:
    """What the disk of a folder has room for."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill_up(folder: Path, left: int) -> Path:
    """Write a file so large that the disk of a folder has room for so many bytes more."""
    path = folder / ".ballast"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free_bytes(folder) - left))
    return path


def _keep_capabilities(kept: int) -> None:
    """Of all capabilities keep those whose bits are set, also in programs that are started."""
    libc = _libc()
    number = _SYS_CAPSET.get(os.uname().machine)
    if number is None:
        raise NotPermittedError(f"no number of capset on {os.uname().machine}")
    for each in range(41):
        if not kept >> each & 1:
            libc.prctl(_PR_CAPBSET_DROP, each, 0, 0, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _checked(libc.syscall(number, header, data), "capset")


def bound_by_permissions() -> None:
    """Root, too, may do with files what their permissions say."""
    if os.getuid() == 0:
        _keep_capabilities(_capabilities() & ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH | 1 << _FOWNER))


def _capabilities() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapPrm:")), 16)


def as_nobody() -> None:
    """Root becomes a user whom limits bind, and who can read all that root can, so that Python finds its modules."""
    if os.getuid() == 0:
        libc = _libc()
        _checked(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        _keep_capabilities(1 << _DAC_READ_SEARCH)


def address_space() -> int:
    """Bytes that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def little_memory(more: int) -> None:
    """Let this process map so many bytes more than it has."""
    limit = address_space() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def few(what: int, number: int) -> None:
    """A limit of `resource`, such as RLIMIT_NOFILE."""
    resource.setrlimit(what, (number, number))
