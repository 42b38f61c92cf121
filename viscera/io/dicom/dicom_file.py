"""Opening one DICOM file with pydicom."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import SEEK_END
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.uid import MediaStorageDirectoryStorage as DirectoryStorage

from viscera.io.files import read_error

DAMAGE = (  # what pydicom raises on a damaged file
    *(InvalidDicomError, BytesLengthException, struct.error, zlib.error, EOFError, LookupError, ValueError, TypeError),
    *(AttributeError, NameError, NotImplementedError, OverflowError, RuntimeError),
    MemoryError,  # an element that says that it has gigabytes
    OSError,  # a sequence that ends early, also when its bytes were read before; an error of the system has a number
)
_PIXELS = 0x7FE00010
_LAST_OF_HEADER = _PIXELS - 16  # what stands behind the pixels, such as garbage, is read in no case
_PREFIX, _PREFIX_END = b"DICM", 132
_META_BEGINS = b"DICM\x02\x00\x00\x00UL\x04\x00"  # and 4 bytes of the length that follows
_MOST_META = 4096  # of it, where the transfer syntax stands
_MOST_INFLATED, _MOST_TIMES = 2**26, 20  # bytes of a deflated data set, or times those of its file
_PIECE = 2**20
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # of a data set without the 128 bytes and the prefix before it


class DamagedHeaderError(ValueError):
    """What our own reading says of a header, in words of ours: those of a library may quote what stands in it."""


class PixelElement(NamedTuple):
    """Where pixel data stand in a file that is not deflated, and the bytes they take as the file says."""

    offset: int
    length: int
    crc32: int  # of all that stands before them: whether it is still what was understood


_quiet = {"readers": 0}
_quiet_lock, _restore = Lock(), ExitStack()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's remarks about values that bend the standard: a series would bring thousands.

    All threads share `warnings` and loggers: the first that comes in silences them, the last that leaves restores them.
    """
    with _quiet_lock:
        _quiet["readers"] += 1
        if _quiet["readers"] == 1:
            logger = logging.getLogger("pydicom")
            _restore.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
            _restore.enter_context(warnings.catch_warnings(action="ignore"))
            _restore.enter_context(pydicom.config.disable_value_validation())
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet["readers"] -= 1
            if not _quiet["readers"]:
                _restore.close()


def start_of(path: Path) -> bytes:
    """The bytes of a file up to the end of DICOM's prefix; raises BadInputError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(_PREFIX_END)
    except OSError as error:
        raise read_error(path, error) from error


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's prefix; raises BadInputError where it cannot be opened."""
    return start_of(path)[128:] == _PREFIX


def may_be_dicom(start: bytes) -> bool:
    """Whether a file that starts so has DICOM's prefix, or begins like a data set that was stored without it."""
    return start[128:] == _PREFIX or start[:2] in _FIRST_GROUPS


def may_be_cut_off(start: bytes) -> bool:
    """Whether a file that starts so is too short for DICOM's prefix and may be the beginning of one: empty, no text."""
    return len(start) < _PREFIX_END and (not start or b"\0" in start)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR, the list of the files beside it; raises as `is_dicom`."""
    try:
        return path.is_file() and is_dicom(path) and is_directory(open_dataset(path, pixels=False))
    except DAMAGE:
        return False


def open_dataset(path: Path, *, pixels: bool, tags: Sequence[int] | None = None) -> FileDataset:
    """A file as pydicom reads it, with or without pixels, all or these tags only.

    Where the transfer syntax is not given, the one that was guessed is put in. Raises one of `DAMAGE`; an OSError is of
    the disk then.
    """
    return _opened(path, tags, _PIXELS if pixels else _LAST_OF_HEADER)[0]


def open_header(path: Path, tags: Sequence[int] | None = None) -> tuple[FileDataset, PixelElement | None]:
    """A file without pixels, as `open_dataset`, and where these stand; None where something else comes first."""
    return _opened(path, tags, _LAST_OF_HEADER)


def _opened(path: Path, tags: Sequence[int] | None, last: int) -> tuple[FileDataset, PixelElement | None]:
    wanted: list[BaseTag | int] | None = list(tags) if tags is not None else None
    pixels: list[PixelElement] = []
    with path.open("rb") as file:
        _refuse_inflating(file)

        def is_behind(tag: BaseTag, _kind: str | None, length: int) -> bool:
            if last < int(tag) == _PIXELS:
                offset = file.tell()
                file.seek(0)
                pixels.append(PixelElement(offset, length, zlib.crc32(file.read(offset))))
            return int(tag) > last

        try:
            dataset = read_partial(file, stop_when=is_behind, force=True, specific_tags=wanted)
        except OSError as error:
            if error.errno is None:
                raise EOFError(str(error)) from error
            raise
    if not dataset.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset, next(iter(pixels), None)


def _refuse_inflating(file: BinaryIO) -> None:
    """Raise DamagedHeaderError for a deflated data set far larger than its file; pydicom would inflate all of it."""
    head = file.read(_PREFIX_END - len(_PREFIX) + len(_META_BEGINS) + 4)
    length = int.from_bytes(head[-4:], "little") if head[128:-4] == _META_BEGINS else _MOST_META
    is_deflated = DeflatedExplicitVRLittleEndian.encode() in file.read(min(length, _MOST_META))
    if is_deflated and head[128:-4] != _META_BEGINS:
        raise DamagedHeaderError("it does not say how long its meta information is")
    size, inflating = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    most = max(_MOST_INFLATED, _MOST_TIMES * file.seek(0, SEEK_END)) if is_deflated else 0
    file.seek(len(head) + length if is_deflated else 0)
    while is_deflated and (piece := file.read(_PIECE)):
        while piece and not inflating.eof:
            size += len(inflating.decompress(piece, _PIECE))
            piece = inflating.unconsumed_tail
            if size > most:
                raise DamagedHeaderError(f"inflated, it is more than {_MOST_TIMES} times as large as its file")
    file.seek(0)


def is_encapsulated(syntax: UID) -> bool:
    """Whether a transfer syntax compresses pixels; what is no transfer syntax, as some files have it, does not."""
    return bool(syntax.is_transfer_syntax and syntax.is_encapsulated)


def is_directory(dataset: FileDataset) -> bool:
    """Whether this is a DICOMDIR."""
    return bool(dataset.file_meta.get("MediaStorageSOPClassUID") == DirectoryStorage)
