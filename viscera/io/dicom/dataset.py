"""Opening one DICOM file with pydicom."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from viscera.io.files import read_error

# what pydicom raises on a damaged file
DAMAGE = (
    InvalidDicomError,
    BytesLengthException,
    AttributeError,
    EOFError,
    LookupError,
    NameError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_PREFIX = b"DICM"
_PREFIX_END = 132
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # of a data set without the 128 bytes and the prefix before it


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's remarks about values that bend the standard: a series would bring thousands."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's prefix.

    Raises:
        BadInputError: it cannot be opened.
    """
    return _start(path)[128:] == _PREFIX


def may_be_dicom(path: Path) -> bool:
    """Whether a file has DICOM's prefix, or begins like a data set that was stored without it.

    Raises:
        BadInputError: it cannot be opened.
    """
    start = _start(path)
    return start[128:] == _PREFIX or start[:2] in _FIRST_GROUPS


def may_be_cut_off(path: Path) -> bool:
    """Whether a file is too short for DICOM's prefix, and may be the beginning of one: empty, or no text.

    Raises:
        BadInputError: it cannot be opened.
    """
    start = _start(path)
    return len(start) < _PREFIX_END and (not start or b"\0" in start)


def open_dataset(path: Path, *, pixels: bool, tags: Sequence[int] | None = None) -> FileDataset:
    """A file as pydicom reads it; where the transfer syntax is not given, the one that was guessed is put in.

    Args:
        path: the file.
        pixels: whether to read on into the pixel data.
        tags: read no others.

    Raises:
        Exception: one of `DAMAGE`, or an OSError.
    """
    wanted = list(tags) if tags is not None else None
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True, specific_tags=wanted)
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PREFIX_END)
    except OSError as error:
        raise read_error(path, error) from error
