"""Folders that one process holds: on any file system.

Where it has no locks, files say who holds what (`io.disk.lease`). Where these cannot be written, a warning says so.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.disk.file_lock import NoLocksError, try_lock
from viscera.io.disk.lease import is_leased, leased
from viscera.io.files import LOCKS, NOT_SUPPORTED, PARTS, WINDOWS, make_folder, writing

log = logging.getLogger(__name__)
_LOCK = ".lock"
TURN_S = 600  # that one process waits for another to write a list or a manifest
_LOOK_AGAIN_S = 0.05
_LOOKING = threading.Lock()  # to look is to lock for an instant: threads would take each other for a process at work
_INSTANT_S, _LOOK_S, _AT_ONCE_S = 0.3, 0.03, 0.002  # and processes: how long, and how often, one tries in spite of it


@contextmanager
def exclusive(folder: Path, *, wait_s: float = 0, lock: str = _LOCK, beside_others: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone; the operating system lets go of it when the process ends, however it ends.

    Raises BadInputError where another process holds it, and still does after `wait_s` seconds, or it cannot be made or
    written to. Processes that hold it `beside_others` do so together, and none alone meanwhile. A folder has a `lock`
    for each purpose.
    """
    with ExitStack() as held:
        with writing(folder):
            make_folder(folder)
            _take(held, folder, folder / lock, time.monotonic() + max(wait_s, _INSTANT_S), shared=beside_others)
        yield


@contextmanager
def alone_with(path: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Hold one file, or folder, that is to be written, as `exclusive` holds a folder.

    The lock's file lies beside it, maybe in a folder of the user's own, and is gone afterwards.
    """
    absolute = path.absolute()
    with _vanishing(path, absolute.with_name(f".{absolute.name}.lock"), wait_s, shared=False):
        yield


@contextmanager
def alone_in(folder: Path, purpose: str, *, wait_s: float = 0, beside_others: bool = False) -> Iterator[None]:
    """Hold what one command writes into a folder that may be the user's own; likewise.

    The lock's file of those that do so `beside_others` stays.
    """
    with _vanishing(folder, folder / f".{purpose}.lock", wait_s, shared=beside_others):
        yield


@contextmanager
def _vanishing(what: Path, lock: Path, wait_s: float, *, shared: bool) -> Iterator[None]:
    with ExitStack() as closed, ExitStack() as held:
        with writing(what):
            make_folder(lock.parent)
            deadline = time.monotonic() + max(wait_s, _INSTANT_S)
            while not _is_still(lock, _take(held, what, lock, deadline, shared=shared)):
                held.close()  # whoever held it has just deleted it
            if not shared:
                held.callback(_delete, lock)
                if WINDOWS:  # deletes it once it is closed, unless another process has opened it
                    closed.callback(_delete, lock)
        yield


def _delete(lock: Path) -> None:
    """Delete a lock's file, where that is permitted: in a folder that many users share it can be another's."""
    with suppress(OSError):
        lock.unlink()


def _take(held: ExitStack, what: Path, lock: Path, deadline: float, *, shared: bool) -> int:
    descriptor = _opened(lock, os.O_CREAT)
    held.callback(os.close, descriptor)
    try:
        why_not = _lock(descriptor, deadline, shared=shared)
        if why_not:
            wait_s = max(0.0, deadline - time.monotonic())
            _take_lease(held, leased(lock, wait_s=wait_s, shared=shared), what, why_not)
    except BlockingIOError as error:
        raise BadInputError(f"{what}: another process is working on it. Wait for it, or stop it.") from error
    return descriptor


def _opened(lock: Path, how: int = 0) -> int:
    try:
        return os.open(lock, os.O_RDWR | how, 0o666)
    except OSError as error:  # of another user in a shared folder, or on a disk that is read-only
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        try:
            return os.open(lock, os.O_RDONLY)
        except FileNotFoundError:
            raise error from None  # it may not be made here


def _take_lease(held: ExitStack, lease: AbstractContextManager[None], what: Path, why: str) -> None:
    try:
        held.enter_context(lease)
    except BlockingIOError:
        raise
    except OSError:
        _warn_of_no_lock(what, why)


def _is_still(lock: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    return False


def _lock(descriptor: int, deadline: float, *, shared: bool) -> str:
    """Lock an open file by the deadline; why there are no locks here, where there are none. Raises BlockingIOError.

    NFS locks a file alone only for who may write it. Others share its lock, so that whoever has it alone is seen, and
    is not let in; which of them goes first is left to leases.
    """
    began = time.monotonic()
    try:
        while True:
            try:
                try_lock(descriptor, shared=shared)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            else:
                return ""
            time.sleep(_AT_ONCE_S if time.monotonic() - began < _INSTANT_S else _LOOK_AGAIN_S)
    except NoLocksError as error:
        return f"there are no locks here ({error})"
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        if error.errno == errno.EBADF and not shared:  # on NFS, of a file that may only be read
            return _lock(descriptor, deadline, shared=True) or f"its lock is another user's ({error.strerror})"
        return f"its file system has no locks ({error.strerror})"


@cache
def _warn_of_no_lock(folder: Path, reason: str) -> None:
    log.warning("%s: %s. Do not run two commands on it at once.", folder, reason)


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder, or a file in it, alone or beside others; False where that cannot be known."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return any(_is_held(folder / each) for each in names if each == PARTS or LOCKS.fullmatch(each))


def _is_held(lock: Path) -> bool:
    with suppress(FileNotFoundError, PermissionError), _LOOKING, ExitStack() as opened:
        descriptor = _opened(lock)
        opened.callback(os.close, descriptor)
        try:
            return bool(_lock(descriptor, time.monotonic() + _LOOK_S, shared=False)) and is_leased(lock)
        except BlockingIOError:
            return True
    return False
