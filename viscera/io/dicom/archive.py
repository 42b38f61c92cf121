"""A zip file as a folder, for as long as it is needed."""

import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.core.wording import counted
from viscera.io.dicom.dicom_file import start_of
from viscera.io.files import is_full_disk

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_BYTES = 32 * 2**30
_MOST_FILES = 100_000
_FREE_BYTES = 2**30  # to leave on the disk, or a tenth of what is free
_MOST_TIMES, _PACKED_BYTES = 100, 2**30  # as large as its file no archive of images is; looked at from this size on
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RecursionError)
_ENCRYPTED = 1
_LONGEST_NAME = 200


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip file."""
    return path.is_file() and start_of(path).startswith(_MAGIC)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder that a zip file holds, unpacked beside the system's temporary files and removed at the end.

    Anything that is not a zip file is given back as it is. Names that point out of the folder are kept inside it. Sizes
    are looked at before the first file is written, and no file grows beyond its own.

    Raises:
        BadInputError: a damaged or encrypted zip file, or one packed in a way that is not read; one that would fill the
            disk, or has no place for temporary files.
    """
    if not is_archive(path):
        yield path
        return
    with ExitStack() as cleanup:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="viscera-", ignore_cleanup_errors=True)
            name = cleanup.enter_context(temporary)
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                _refuse(path, members, shutil.disk_usage(name).free)
                for member in members:
                    member.filename = "/".join(part[-_LONGEST_NAME:] for part in member.filename.split("/"))
                    archive.extract(member, name)
        except BadInputError:  # a ValueError, too
            raise
        except NotImplementedError as error:
            raise BadInputError(
                f"{path}: packed in a way that is not read ({error}). Pack it with Deflate, or unpack it."
            ) from error
        except (*_DAMAGE, NotADirectoryError, IsADirectoryError) as error:
            raise BadInputError(f"{path}: a damaged zip file ({error}). Pack or copy it again.") from error
        except OSError as error:
            why = "the disk of temporary files is full" if is_full_disk(error) else f"no temporary files: {error}"
            raise BadInputError(
                f"{path}: cannot be unpacked, {why}. Set TMPDIR to a folder with more space, or unpack it yourself."
            ) from error
        yield Path(name)


def _refuse(path: Path, members: list[zipfile.ZipInfo], free: int) -> None:
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise BadInputError(f"{path}: encrypted. Give a zip file without a password, or unpack it.")
    files, size = len(members), sum(member.file_size for member in members)
    if size > max(_PACKED_BYTES, _MOST_TIMES * path.stat().st_size):
        raise BadInputError(
            f"{path}: unpacked, {counted(files, 'file')} of {size / 2**30:.1f} GiB, more than {_MOST_TIMES} times as "
            "much as the archive, as no images are. If you trust it, unpack it and give the folder of one series."
        )
    if files > _MOST_FILES or size > min(_MOST_BYTES, free - min(_FREE_BYTES, free // 10)):
        raise BadInputError(
            f"{path}: {counted(files, 'file')} of {size / 2**30:.1f} GiB unpacked; up to {_MOST_FILES} files of "
            f"{_MOST_BYTES // 2**30} GiB are unpacked, and {free / 2**30:.1f} GiB are free for temporary files."
            " Set TMPDIR to a larger folder, or unpack it yourself and give the folder of one series."
        )
