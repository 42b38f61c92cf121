"""Files that a reader never sees half, and checksums: on any file system."""

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import BufferedReader
from pathlib import Path

from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.machine_errors import lacking
from viscera.io.disk import exchanged_names

log = logging.getLogger(__name__)
PARTS = ".parts"  # held while a part of a job array works, or an arm on Ray
_NOT_OURS = {PARTS, ".DS_Store", ".directory", ".snapshot", "@eaDir", "desktop.ini", "lost+found", "Thumbs.db"}
_FULL = {getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EFBIG")}  # not all systems have all
NOT_SUPPORTED = {
    getattr(errno, name, 0)
    for name in ("ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "ENOLCK", "EBADF", "ENOTTY", "ESTALE")
}
LOCKS = re.compile(r"\.(.+\.)?lock")  # files of `io.disk.folder_lock`
_LEFTOVERS = (".nfs", "._")  # of files that were deleted while open on NFS; of a Mac's attributes
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}-")  # as `temporary_beside` names them
_OPENED_BY_THE_SHELL = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_SHORT_NAME = 64  # bytes that every file system takes
# in place of giving a file its name, or of deleting one (None): `io.disk.file_sets` does so for several files at once
Placed = Callable[[Path | None, Path], None]
PLACED: ContextVar[Placed | None] = ContextVar("what is told of a file that is whole", default=None)
WINDOWS = os.name == "nt"  # which neither deletes nor replaces a file that somebody has open, a virus scanner say
_LETS_GO_AFTER_SECONDS = (0.05, 0.5, 2.0)
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
        temporary, placed = temporary_beside(target), PLACED.get()
        try:
            make_folder(target.parent)
            yield temporary
            fsync(temporary)
            (placed or move)(temporary, target)
        except BaseException:
            with suppress(OSError):  # gone already, or its folder was never there
                temporary.unlink()
            raise


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder, with the same suffix, and no longer than the file system takes."""
    kept = path.name
    while len(os.fsencode(kept)) + 10 > max(len(os.fsencode(path.name)), _SHORT_NAME):
        kept = kept[1:]
    return path.with_name(f".{secrets.token_hex(4)}-{kept}")


def move(source: Path, target: Path) -> None:
    """Rename a file or folder within its folder, in place of what is there, and have that written to the disk."""
    rename(source, target)
    with suppress(OSError):  # not all can; the file itself is on the disk
        fsync(target.parent)


def rename(source: Path, target: Path) -> None:
    """As `move`, but when it is written to the disk is left open."""
    for seconds in _LETS_GO_AFTER_SECONDS if WINDOWS else ():
        with suppress(PermissionError):
            _replace(source, target)
            return
        time.sleep(seconds)
    _replace(source, target)


def _replace(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except FileExistsError:  # file systems where a rename does not replace
        target.unlink()
        source.replace(target)


def discard(path: Path) -> None:
    """Delete a file, where there is one."""
    placed = PLACED.get()
    if placed is None:
        path.unlink(missing_ok=True)
    else:
        placed(None, path)


def put_folder(made: Path, folder: Path) -> None:
    """Give a folder that is whole its name, in place of what is there; `made` lies beside it, and is gone afterwards.

    At each moment the name is that of the one or of the other. Where the file system cannot exchange names (few), there
    is a moment at which it is free.
    """
    for each in (path for path in (*made.rglob("*"), made) if not path.is_symlink()):
        fsync(each)
    if not folder.exists():
        try:
            move(made, folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # of a folder that has come there meanwhile
                raise
        else:
            return
    try:
        exchanged_names.exchange(made, folder)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED | {errno.EXDEV}:
            raise
        before = temporary_beside(folder)
        rename(folder, before)
        try:
            rename(made, folder)
        except OSError:
            rename(before, folder)
            raise
        made = before
    with suppress(OSError):
        fsync(folder.parent)
    shutil.rmtree(made, ignore_errors=True)


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
            name not in _NOT_OURS
            and not name.startswith(_LEFTOVERS)
            and not LOCKS.fullmatch(name)
            and not _HALF_WRITTEN.match(name)
            for name in names
        )


def remove_leftovers(folder: Path, names: Collection[str]) -> None:
    """Delete what killed processes left half-written of these files or folders; only for who holds them alone."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if (found := _HALF_WRITTEN.match(path.name)) and path.name[found.end() :] in names:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


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


def append(path: Path, content: bytes) -> None:
    """Add bytes to the end of a file, in one go; where not all of them can be written it is as long as it was."""
    with path.open("ab", buffering=0) as file:  # a buffer would be written again when the file is closed
        length = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            with suppress(OSError):
                file.truncate(length)
            raise


def fsync(path: Path) -> None:
    """Have the operating system write a file or folder to the disk now, where its file system can."""
    try:
        descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)  # Windows flushes for who may write
    except PermissionError:
        if path.is_dir():  # Windows opens none, others none that may not be read
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def read_error(path: Path, error: OSError) -> BadInputError | RunFailedError:
    """The message for a file that could not be read; a RunFailedError where that is not the file's fault."""
    if too_little := lacking(error):
        return RunFailedError(f"{path}: {too_little}")
    if isinstance(error, FileNotFoundError):
        return BadInputError(f"{path}: there is no such file.")
    return BadInputError(f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions.")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether nothing more can be written, of any case."""
    return isinstance(error, OSError) and error.errno in _FULL


def is_unwritable(error: BaseException | None) -> bool:
    """Whether it was the disk that a file could not be written to, and no name of it: other cases fare no better."""
    return isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG


def refuse_unwritable(folder: Path, remedy: str = "Choose another folder.") -> None:
    """Raise BadInputError where a folder cannot be made or written to: before hours of work, not after."""
    with writing(folder, remedy):
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever keeps a file or folder from being read becomes an error that names it (`read_error`)."""
    try:
        yield
    except OSError as error:
        raise read_error(Path(error.filename or path), error) from error


@contextmanager
def writing(path: Path, remedy: str = "Choose another folder.") -> Iterator[None]:
    """Whatever keeps a file or folder from being written becomes a BadInputError that names it.

    A RunFailedError where there is too little memory, or too many files are open.
    """
    try:
        yield
    except OSError as error:
        if too_little := lacking(error):
            raise RunFailedError(f"{path}: {too_little}") from error
        message = f"{path}: cannot be written ({error.strerror or error}). {remedy}"
        if is_full_disk(error):
            message = (
                f"{path}: the disk is full ({error.strerror}). Free some space and run the same command again; "
                "what was there before is unchanged."
            )
        elif error.errno == errno.ENAMETOOLONG:
            message = f"{path}: the file system takes no name this long. Choose shorter names."
        raise BadInputError(message) from error
