"""Files that a reader never sees half, folders that one process holds, checksums: on any file system.

What a file system lacks (locks, fsync of folders) is gone without, with one warning where that takes protection away.
"""

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from io import BufferedReader
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.file_lock import NoLocksError, try_lock

log = logging.getLogger(__name__)
_LOCK, PARTS = ".lock", ".parts"  # the latter: held while a part of a job array works, or an arm on Ray
_NOT_OURS = {_LOCK, PARTS, ".DS_Store", ".directory", ".snapshot", "@eaDir", "desktop.ini", "lost+found", "Thumbs.db"}
_FULL = {getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EFBIG")}  # not all systems have all
_NOT_SUPPORTED = {
    getattr(errno, name, 0)
    for name in ("ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "ENOLCK", "EBADF", "ENOTTY", "ESTALE")
}
_LEFTOVERS = (".nfs", "._")  # of files that were deleted while open on NFS; of a Mac's attributes
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}-")  # as `temporary_beside` names them
_OPENED_BY_THE_SHELL = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
TURN_S = 600  # that one process waits for another to write a list or a manifest
_LOOK_AGAIN_S = 0.05
_SHORT_NAME = 64  # bytes that every file system takes
_APPEARS_AFTER_SECONDS = (0.05, 0.5, 2.0)  # on network file systems, what another machine has just made


def cache_folder() -> Path:
    """Where this user keeps what can be made again: `$XDG_CACHE_HOME/viscera`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "viscera"


def open_file(path: Path, *, streams: bool = False) -> BufferedReader:
    """Open a file to read its bytes; with `streams`, what the shell has opened (`/dev/stdin`, `<(command)`) will do.

    Raises BadInputError where it is missing, a folder, no file at all (a pipe would block), or cannot be read.
    """
    with reading(path):
        mode = path.stat().st_mode
        is_open = streams and path.as_posix().startswith(_OPENED_BY_THE_SHELL)
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and not is_open:
            raise BadInputError(f"{path}: this is a pipe, socket or device; a file was expected. Write it into a file.")
        return path.open("rb")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on leaving without an error it is fsynced and renamed to `path`.

    The temporary name keeps the suffix. Where `path` is a link, it stays, and its target is what is replaced. When
    anything fails, `path` is as it was and the temporary file is gone. Raises BadInputError where the disk is full, the
    folder cannot be written to, or the name is too long.
    """
    with writing(path):
        with suppress(FileNotFoundError):
            path.lstat()  # a name that is too long is refused now, not after the work
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        temporary = temporary_beside(target)
        try:
            make_folder(target.parent)
            yield temporary
            fsync(temporary)
            move(temporary, target)
        finally:
            with suppress(OSError):  # gone already, or its folder was never there
                temporary.unlink()


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder, with the same suffix, and no longer than the file system takes."""
    kept = path.name
    while len(os.fsencode(kept)) + 10 > max(len(os.fsencode(path.name)), _SHORT_NAME):
        kept = kept[1:]
    return path.with_name(f".{secrets.token_hex(4)}-{kept}")


def move(source: Path, target: Path) -> None:
    """Rename a file or folder within its folder, in place of what is there, and have that written to the disk."""
    try:
        source.replace(target)
    except FileExistsError:  # file systems where a rename does not replace
        target.unlink()
        source.replace(target)
    with suppress(OSError):  # not all can; the file itself is on the disk
        fsync(target.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that another machine is just making is waited for."""
    for seconds in _APPEARS_AFTER_SECONDS:
        with suppress(FileExistsError, FileNotFoundError):
            path.mkdir(parents=True, exist_ok=True)
            return
        if path.exists():
            break
        time.sleep(seconds)
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def exclusive(folder: Path, *, wait_s: float = 0, lock: str = _LOCK, beside_others: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone; the operating system lets go of it when the process ends, however it ends.

    Where the file system has no locks, the folder is not protected, and a warning says so. Raises BadInputError where
    another process holds it, and still does after `wait_s` seconds, or it cannot be made or written to. Processes that
    hold it `beside_others` do so together, and none alone meanwhile. A folder has a `lock` for each purpose.
    """
    with ExitStack() as held:
        with writing(folder):
            make_folder(folder)
            try:
                descriptor = os.open(folder / lock, os.O_RDWR | os.O_CREAT, 0o666)
            except PermissionError:  # of another user in a shared folder
                descriptor = os.open(folder / lock, os.O_RDONLY)
            held.callback(os.close, descriptor)
            _lock(folder, descriptor, time.monotonic() + wait_s, shared=beside_others)
        yield


def _lock(folder: Path, descriptor: int, deadline: float, *, shared: bool) -> None:
    try:
        while True:
            try:
                return try_lock(descriptor, shared=shared)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    sentence = f"{folder}: another process is working on it. Wait for it, or stop it."
                    raise BadInputError(sentence) from error
            time.sleep(_LOOK_AGAIN_S)
    except NoLocksError as error:
        _warn_of_no_lock(folder, f"there are no locks here ({error})")
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _warn_of_no_lock(folder, f"its file system has no locks ({error.strerror})")


@cache
def _warn_of_no_lock(folder: Path, reason: str) -> None:
    log.warning("%s: %s. Do not run two commands on it at once.", folder, reason)


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder (`exclusive`), alone or beside others; False where that cannot be known."""
    for lock in (_LOCK, PARTS):
        with suppress(OSError, NoLocksError), ExitStack() as opened:
            descriptor = os.open(folder / lock, os.O_RDONLY)
            opened.callback(os.close, descriptor)
            try:
                try_lock(descriptor, shared=False)
            except BlockingIOError:
                return True
    return False


def is_occupied(path: Path) -> bool:
    """Whether something is there that is not an empty folder.

    What file managers and `exclusive` leave does not count, nor do files that are being written, or were when a process
    was killed. Raises BadInputError where it cannot be looked at.
    """
    with writing(path):
        if not path.is_dir():
            return path.exists()
        names = (entry.name for entry in path.iterdir())
        return any(
            name not in _NOT_OURS and not name.startswith(_LEFTOVERS) and not _HALF_WRITTEN.match(name)
            for name in names
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, atomically; bytes of file names that are no UTF-8 stay as they are."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def sha256(path: Path) -> str:
    """Checksum of a file's bytes, as hex; raises BadInputError as `open_file`."""
    with open_file(path) as file, reading(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Have the operating system write a file or folder to the disk now, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def read_error(path: Path, error: OSError) -> BadInputError:
    """The message for a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return BadInputError(f"{path}: there is no such file.")
    return BadInputError(f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions.")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether nothing more can be written, of any case."""
    return isinstance(error, OSError) and error.errno in _FULL


def refuse_unwritable(folder: Path, remedy: str = "Choose another folder.") -> None:
    """Raise BadInputError where a folder cannot be made or written to: before hours of work, not after."""
    with writing(folder, remedy):
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever keeps a file or folder from being read becomes a BadInputError that names it."""
    try:
        yield
    except OSError as error:
        raise read_error(Path(error.filename or path), error) from error


@contextmanager
def writing(path: Path, remedy: str = "Choose another folder.") -> Iterator[None]:
    """Whatever keeps a file or folder from being written becomes a BadInputError that names it."""
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror or error}). {remedy}"
        if is_full_disk(error):
            message = (
                f"{path}: the disk is full ({error.strerror}). Free some space and run the same command again; "
                "what was there before is unchanged."
            )
        elif error.errno == errno.ENAMETOOLONG:
            message = f"{path}: the file system takes no name this long. Choose shorter names."
        raise BadInputError(message) from error
