"""The pixels of the images of one file as Hounsfield units: decoded, their bits sorted out, padding made air."""

import importlib
import importlib.util
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from viscera.core.errors import BadInputError
from viscera.core.scan import AIR_HU, HuArray
from viscera.core.wording import agreeing, counted
from viscera.io.dicom.dicom_file import DAMAGE, open_dataset
from viscera.io.dicom.dicom_header import ASSUMED_RESCALE, Header, Slice, UnusableSeriesError, known_name
from viscera.io.dicom.dicom_values import whole_of
from viscera.io.dicom.plain_pixels import Bits
from viscera.io.files import read_error

_PLAIN_AIR_HU = (AIR_HU, -900)  # padding with such a value is air already
_DARKER_THAN_AIR_HU = -1200  # nothing in a body or around it has this value over a whole area
_BRIGHTEST_HU = 3071  # of 12 bits; more is metal in an extended scale, or no HU
_AREA = 0.01  # of an image, that padding without the attribute covers
_UNITS = {  # letters alone; US is unspecified, others say that anonymisation removed it
    *("", "HU", "HUMOD", "HOUNSFIELD", "HOUNSFIELDUNIT", "HOUNSFIELDUNITS"),
    *("US", "UNSPECIFIED", "UNKNOWN", "NONE", "NA", "REMOVED", "ANONYMIZED", "ANONYMISED"),
}
_OTHER_UNITS = {"OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"}  # PS3.3, C.11.1.1.2
_NO_LETTERS = re.compile("[^A-Z]")
_RLE_RATIO = 64  # the most that RLE can compress
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_SHAPE, _BITS = ("Rows", "Columns"), ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_HAS_IMAGECODECS = importlib.util.find_spec("imagecodecs") is not None  # it comes with the extra `fast`
_JPEG_2000 = {JPEG2000, JPEG2000Lossless}
_TAGS = [Tag(name) for name in (*_SHAPE, *_BITS, *_OFFSETS, "PixelData")]
_INT16 = np.iinfo(np.int16)
_Mask = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------------ from headers


def check_values(headers: Sequence[Header]) -> list[str]:
    """What a user should know about the values of a series.

    Raises UnusableSeriesError where there is no plug-in for its compression, another unit, a table of values, no usable
    slope, or one of some files only.
    """
    for syntax in sorted({header.transfer_syntax for header in headers}):
        try:
            is_available = get_decoder(syntax).is_available
        except NotImplementedError as error:
            raise UnusableSeriesError(
                f"its pixels are coded as {known_name(syntax, 'a private transfer syntax')}, which is not read. Export "
                "it as Explicit VR Little Endian"
            ) from error
        if not is_available:
            raise UnusableSeriesError(
                f"its pixels are compressed ({known_name(syntax, syntax)}), and the plug-in for that is not installed: "
                "pip install 'viscera[dicom]'"
            )
    units = {header.unit for header in headers if _NO_LETTERS.sub("", header.unit.upper()) not in _UNITS}
    if units:
        named = ", ".join(sorted(units)) if units <= _OTHER_UNITS else "another unit"
        raise UnusableSeriesError(f"its values are in {named}, not in Hounsfield units")
    if any(header.has_table for header in headers):
        raise UnusableSeriesError("its values go through a table (Modality LUT), which is not read. Export it rescaled")
    images = [image for header in headers for image in header.slices]
    if not all(math.isfinite(i.slope) and i.slope != 0 and math.isfinite(i.intercept) for i in images):
        raise UnusableSeriesError(
            "a rescale slope of 0, or a slope or an intercept that is not a number. Export it again"
        )
    for name, assumed in ASSUMED_RESCALE.items():
        without = sum(name in image.not_given for image in images)
        if without and {getattr(image, name) for image in images} != {assumed}:
            raise UnusableSeriesError(
                f"{without} of {len(images)} images {agreeing(without, 'gives', 'give')} no rescale {name}, others do: "
                "they cannot be brought to one scale. Export it again"
            )
    missing = {name for image in images for name in image.not_given}
    count = len({image.path for image in images if image.not_given})
    files = f"{counted(count, 'file')} {agreeing(count, 'gives', 'give')}"
    if len(missing) == len(ASSUMED_RESCALE):
        return [f"{files} no rescale slope and intercept; their values are taken as they are."]
    return [
        f"{files} no rescale {name}; {ASSUMED_RESCALE[name]:g} is assumed. "
        "If their values are not HU, export the series again."
        for name in missing
    ]


# ------------------------------------------------------------------------------------------ pixels


def read_images(images: Sequence[Slice]) -> Iterator[HuArray]:
    """(rows, columns) int16 HU of images of one file, in their order.

    Raises BadInputError for pixels that cannot be decoded, have another size than the header says, or are no HU.
    """
    path = images[0].path
    try:
        if (plain := images[0].plain) is not None:
            with path.open("rb", buffering=0) as file:
                if plain.stand_in(file):
                    for image in images:
                        yield _hounsfield(plain.words(file, image.frame, image.shape), plain.bits, image)
                    return
        dataset = open_dataset(path, pixels=True, tags=_TAGS)
        bits = Bits.of(dataset)
        _refuse_size(dataset, images[0], bits)
        for image, words in zip(images, _decoded(dataset, images, bits), strict=True):
            yield _hounsfield(words.astype(words.dtype.newbyteorder("="), copy=False), bits, image)
    except BadInputError:
        raise
    except OSError as error:
        raise read_error(path, error) from error
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or "more than the memory can hold"
        raise BadInputError(
            f"{path}: the pixels cannot be decoded ({reason}). Export the series again, or decompress it first."
        ) from error


def _refuse_size(dataset: FileDataset, image: Slice, bits: Bits) -> None:
    """Refuse rows and columns that do not fit the pixel data; bytes too many that make no row or column are common."""
    if (whole_of(dataset, "Rows"), whole_of(dataset, "Columns")) != image.shape:
        raise ValueError("the file is cut off, or was changed meanwhile")
    held, pixel = len(dataset.get("PixelData") or b""), bits.allocated // 8
    size = math.prod(image.shape) * image.frames * pixel
    is_rle = dataset.file_meta.TransferSyntaxUID == RLELossless
    excess = held - size
    is_filling = 0 <= excess <= pixel or (0 < excess < size // 2 and all(excess % (n * pixel) for n in image.shape))
    fits = size <= _RLE_RATIO * held if is_rle else is_filling
    if bits.in_words and not (held and fits):
        raise ValueError(
            f"{held} bytes, where {image.shape[0]} rows of {image.shape[1]} pixels of {bits.allocated} bits take {size}"
        )


def _decoded(dataset: FileDataset, images: Sequence[Slice], bits: Bits) -> Iterator[npt.NDArray[np.integer]]:
    """The words of each image by pydicom's decoders, which meet only what was understood of the header.

    JPEG 2000 goes by OpenJPEG where it can, which takes about a tenth less time than GDCM.
    """
    decoder, frames = get_decoder(dataset.file_meta.TransferSyntaxUID), [image.frame for image in images]
    if len(frames) == 1 and decodes_in_threads(decoder.UID):
        with suppress(*DAMAGE):
            return iter([_jpeg_2000(dataset, images[0], bits)])
    rows, columns = images[0].shape
    described: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "number_of_frames": images[0].frames,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": bits.allocated,
        "bits_stored": bits.allocated if bits.in_words else bits.low + bits.stored,
        "pixel_representation": 0 if bits.in_words else int(bits.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": dataset["PixelData"].VR,
        "view_only": True,
    }
    if _OFFSETS[0] in dataset:
        described["extended_offsets"] = _offsets(dataset)
    plugin = "pylibjpeg"
    if len(frames) == 1 and decoder.UID in _JPEG_2000 and plugin in decoder.available_plugins:
        with suppress(*DAMAGE):
            return iter([decoder.as_array(dataset.PixelData, index=frames[0], decoding_plugin=plugin, **described)[0]])
    return (words for words, _ in decoder.iter_array(dataset.PixelData, indices=frames, **described))


def _offsets(dataset: FileDataset) -> tuple[bytes, bytes] | None:
    return (dataset[_OFFSETS[0]].value, dataset[_OFFSETS[1]].value) if _OFFSETS[0] in dataset else None


def decodes_in_threads(syntax: str) -> bool:
    """Whether threads decode single images of this transfer syntax at once: pydicom's decoders hold Python's lock."""
    return _HAS_IMAGECODECS and syntax in _JPEG_2000


def _jpeg_2000(dataset: FileDataset, image: Slice, bits: Bits) -> npt.NDArray[np.integer]:
    """By the OpenJPEG of imagecodecs, a sixth faster than pylibjpeg's; raises one of `DAMAGE` where that may differ."""
    offsets = _offsets(dataset)
    stream = get_frame(dataset.PixelData, image.frame, number_of_frames=image.frames, extended_offsets=offsets)
    words: npt.NDArray[np.integer] = importlib.import_module("imagecodecs").jpeg2k_decode(stream)
    if words.shape != image.shape or get_j2k_parameters(stream).get("is_signed") != bits.signed:
        raise ValueError("another size or sign than the header says")
    return words


def _hounsfield(words: npt.NDArray[Any], bits: Bits, image: Slice) -> HuArray:
    """Words of pixel data (rows, columns) as int16 HU, rounded; padding becomes air, other values refused."""
    stored = bits.values(words)
    limits = [float(limit) * image.slope + image.intercept for limit in (stored.min(), stored.max())]
    hu: npt.NDArray[Any]
    if image.slope == 1 and image.intercept.is_integer() and _INT16.min <= limits[0] and limits[1] <= _INT16.max:
        hu = stored.astype(np.int16)
        hu += np.int64(image.intercept).astype(np.int16)  # sums wrap round to what they are
    else:
        hu = np.rint(stored * image.slope + image.intercept)
    for padding in (_said_padding, _unsaid_padding):
        if (mask := padding(words, bits, hu, image)) is not None:
            hu[mask] = AIR_HU
    if hu.dtype != np.int16 and (hu.min() < _INT16.min or hu.max() > _INT16.max):
        raise BadInputError(
            f"{image.path}: values from {hu.min():g} to {hu.max():g} are not Hounsfield units in 16 bits. "
            "Export the series again."
        )
    return hu.astype(np.int16, copy=False)


# ------------------------------------------------------------------------------------------ padding


def _said_padding(words: npt.NDArray[Any], bits: Bits, hu: npt.NDArray[Any], image: Slice) -> _Mask | None:
    """Pixels with the value, or in the range, that the header calls padding, and that are not air already.

    In the whole word, or in its stored bits. It is compared bit by bit: -2000 and 63536 are the same 16 bits, whichever
    the header says.
    """
    if image.padding is None:
        return None
    said = _in_range(words, image.padding, bits.allocated)
    lowest = -(1 << (bits.stored - 1)) if bits.signed else 0
    if bits.stored < bits.allocated and all(lowest <= value < lowest + (1 << bits.stored) for value in image.padding):
        said |= _in_range(bits.values(words), image.padding, bits.stored)
    said &= (hu < _PLAIN_AIR_HU[0]) | (hu > _PLAIN_AIR_HU[1])
    possible = said & (hu >= AIR_HU) & (hu <= _BRIGHTEST_HU)
    if image.padding[0] == image.padding[1] and possible.any():  # tissue may have it, too; padding reaches the edge
        from scipy import ndimage  # noqa: PLC0415 - a third of the time to load this room, and seldom needed

        pieces, _ = ndimage.label(said)
        edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
        possible &= ~np.isin(pieces, edge[edge > 0])
    return said & ~possible  # a range of possible values is one that lies


def _in_range(values: npt.NDArray[Any], limits: tuple[int, int], bits: int) -> _Mask:
    """Of the two ways round from one limit to the other, modulo 2 to the power of `bits`, the shorter one is meant."""
    mask = (1 << bits) - 1
    low, high = (limit & mask for limit in limits)
    if (high - low) & mask > mask // 2 + 1:
        low, high = high, low
    unsigned = values.view(f"u{values.dtype.itemsize}")
    if low == high:
        return np.asarray(unsigned & mask == low)
    return np.asarray((unsigned.astype(np.int64) - low) & mask <= (high - low) & mask)


def _unsaid_padding(words: npt.NDArray[Any], bits: Bits, hu: npt.NDArray[Any], image: Slice) -> _Mask | None:
    """Areas of one value that is darker than air, or would be if 16 bits that are said to be unsigned were signed."""
    may_wrap = not bits.signed and bits.stored == bits.allocated == 16 and image.slope == 1
    may_wrap = may_wrap and hu.max() > _BRIGHTEST_HU
    if not may_wrap and hu.min() >= _DARKER_THAN_AIR_HU:
        return None
    dark = hu < _DARKER_THAN_AIR_HU
    if may_wrap:
        wrapped = (words >= 1 << 15) & (hu > _BRIGHTEST_HU) & (hu < (1 << 16) + _DARKER_THAN_AIR_HU)
        dark |= wrapped if not wrapped.all() else False
    if not dark.any():
        return None
    _, place, counts = np.unique(hu[dark], return_inverse=True, return_counts=True)
    dark[dark] = counts[place] >= _AREA * hu.size
    return dark
