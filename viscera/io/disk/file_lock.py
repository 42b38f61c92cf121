"""Locks of files that end with their process: by `fcntl`, or on Windows, which has none, by portalocker."""

import importlib


class NoLocksError(Exception):
    """There is no library for locks here."""


def try_lock(descriptor: int, *, shared: bool) -> None:
    """Lock an open file now, for this process alone or beside others that share it.

    Raises BlockingIOError where another process holds it, OSError where the file system has no locks, and NoLocksError
    where Python has none and portalocker is not installed.
    """
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        _by_portalocker(descriptor, shared=shared)
        return
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _by_portalocker(descriptor: int, *, shared: bool) -> None:
    try:
        portalocker = importlib.import_module("portalocker")
    except ImportError as error:
        raise NoLocksError("portalocker is not installed") from error
    flags = portalocker.LockFlags
    try:
        portalocker.lock(descriptor, (flags.SHARED if shared else flags.EXCLUSIVE) | flags.NON_BLOCKING)
    except portalocker.AlreadyLocked as error:
        raise BlockingIOError(str(error)) from error
    except ImportError as error:  # a shared lock, without pywin32
        raise NoLocksError(str(error)) from error
