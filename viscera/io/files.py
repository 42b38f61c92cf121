"""Writing so that a reader never sees half a file, folders held by one process, and checksums."""

import errno
import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from viscera.core.errors import BadInputError

_LOCK = ".lock"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on leaving without an error it is fsynced and renamed to `path`.

    The temporary name keeps the suffix. Where `path` is a link, it stays, and its target is what is replaced. When
    anything fails, `path` is as it was and the temporary file is gone.

    Raises:
        BadInputError: the disk is full, or the folder cannot be written to.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):  # gone already, or its folder was never there
            temporary.unlink()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; the operating system lets go of it when the process ends, however it ends.

    Raises:
        BadInputError: another process holds it, or the folder cannot be made or written to.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise BadInputError(f"{folder}: another process is working on it. Wait for it, or stop it.") from error
        raise write_error(folder, error) from error
    return descriptor


def is_occupied(path: Path) -> bool:
    """Whether something is there that is not an empty folder; the lock of `exclusive` does not count."""
    return path.exists() and (not path.is_dir() or any(entry.name != _LOCK for entry in path.iterdir()))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, atomically; bytes of file names that are no UTF-8 stay as they are."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def sha256(path: Path) -> str:
    """Checksum of a file's bytes, as hex.

    Raises:
        BadInputError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_error(path, error) from error


def fsync(path: Path) -> None:
    """Have the operating system write a file or folder to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_error(path: Path, error: OSError) -> BadInputError:
    """The message for a file that could not be read."""
    return BadInputError(f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions.")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether nothing more can be written, of any case."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def refuse_unwritable(folder: Path) -> None:
    """Raise BadInputError where a folder cannot be made or written to: before hours of work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(folder, error) from error


def write_error(path: Path, error: OSError) -> BadInputError:
    """The message for a file or folder that could not be written."""
    if is_full_disk(error):
        return BadInputError(
            f"{path}: the disk is full ({error.strerror}). Free some space and run the same command again; "
            "what was there before is unchanged."
        )
    return BadInputError(f"{path}: cannot be written ({error.strerror or error}). Choose another folder.")
