"""A zip file as a folder, for as long as it is needed."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.files import read_error, write_error

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_BYTES = 32 * 2**30
_MOST_FILES = 100_000
_FREE_BYTES = 2**30  # to leave on the disk


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip file.

    Raises:
        BadInputError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(4) in _MAGIC
    except OSError as error:
        raise read_error(path, error) from error


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder that a zip file holds, unpacked beside the system's temporary files and removed at the end.

    Anything that is not a zip file is given back as it is. Names that point out of the folder are kept inside it.

    Raises:
        BadInputError: a damaged or encrypted zip file; one that would fill the disk. Sizes are looked at before the
            first file is written, and no file grows beyond its own.
    """
    if not path.is_file() or not is_zip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="viscera-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                _refuse_size(path, archive, shutil.disk_usage(folder).free)
                archive.extractall(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            raise BadInputError(f"{path}: a damaged zip file ({error}). Pack or copy it again.") from error
        except RuntimeError as error:  # zipfile's word for a password
            raise BadInputError(f"{path}: {error}. Give a zip file without a password, or unpack it.") from error
        except OSError as error:
            raise write_error(folder, error) from error
        yield folder


def _refuse_size(path: Path, archive: zipfile.ZipFile, free: int) -> None:
    files, size = len(archive.infolist()), sum(member.file_size for member in archive.infolist())
    if files > _MOST_FILES or size > min(_MOST_BYTES, free - _FREE_BYTES):
        raise BadInputError(
            f"{path}: {files} files of {size / 2**30:.1f} GiB unpacked; up to {_MOST_FILES} files of "
            f"{_MOST_BYTES // 2**30} GiB are unpacked, and {free / 2**30:.1f} GiB are free for temporary files. Unpack "
            "it yourself and give the folder of one series."
        )
