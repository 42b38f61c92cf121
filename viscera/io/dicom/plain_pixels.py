"""Pixels that stand uncompressed in their file, and the stored values in their words."""

import zlib
from dataclasses import dataclass
from io import SEEK_END, FileIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from viscera.io.dicom.dicom_file import PixelElement, is_encapsulated
from viscera.io.dicom.dicom_values import whole_of

_PLAIN = {ImplicitVRLittleEndian, ExplicitVRLittleEndian}
_WORD = np.dtype("<u2")


@dataclass(frozen=True)
class Bits:
    """Where the stored value stands in a word of the pixel data."""

    allocated: int  # of a word
    stored: int  # of these, how many hold the value
    low: int  # the lowest of them
    signed: bool  # whether the value is in two's complement
    in_words: bool  # whether decoding gives whole words; the codecs of JPEG give values

    @classmethod
    def of(cls, dataset: FileDataset) -> "Bits":
        """As the header says (PS3.5, 8.1.1); what it does not, or cannot, say is taken for the usual."""
        syntax = dataset.file_meta.TransferSyntaxUID
        allocated = whole_of(dataset, "BitsAllocated") or 16
        stored = whole_of(dataset, "BitsStored") or allocated
        if not 1 <= stored <= allocated:
            stored = allocated
        high = whole_of(dataset, "HighBit")
        low = high + 1 - stored if high is not None and stored - 1 <= high < allocated else 0
        signed = whole_of(dataset, "PixelRepresentation") == 1
        return cls(allocated, stored, low, signed, in_words=syntax == RLELossless or not is_encapsulated(syntax))

    def values(self, words: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The stored values, freed from whatever stands in the other bits."""
        if not self.in_words:
            return words >> self.low if self.low else words
        above, beside = self.allocated - self.low - self.stored, self.allocated - self.stored
        if not self.signed and not self.low:
            return words & ((1 << self.stored) - 1) if above else words
        moved = words << above if above else words  # numbers wrap round: what stands above is gone
        values = moved.view(f"{'i' if self.signed else 'u'}{words.dtype.itemsize}")
        return values >> beside if beside else values


@dataclass(frozen=True)
class PlainPixels:
    """Words of 16 bits, lowest byte first, that the images of a file can be taken from as they stand there."""

    element: PixelElement
    bits: Bits

    @classmethod
    def of(cls, dataset: FileDataset, element: PixelElement | None, pixels: int) -> "PlainPixels | None":
        """None where pixel data are coded otherwise, or are not so many pixels."""
        if element is None or dataset.file_meta.TransferSyntaxUID not in _PLAIN:
            return None
        bits = Bits.of(dataset)
        is_whole = bits.allocated == 8 * _WORD.itemsize and element.length == pixels * _WORD.itemsize
        return cls(element, bits) if is_whole else None

    def stand_in(self, file: FileIO) -> bool:
        """Whether they still do: the bytes before them, and the size of the file, are as they were."""
        is_known = zlib.crc32(file.read(self.element.offset)) == self.element.crc32
        return is_known and file.seek(0, SEEK_END) >= self.element.offset + self.element.length

    def words(self, file: FileIO, frame: int, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
        """(rows, columns) of one image; raises ValueError where the file is cut off meanwhile."""
        words = np.empty(shape, dtype=_WORD)
        file.seek(self.element.offset + frame * words.nbytes)
        if file.readinto(words.data) != words.nbytes:
            raise ValueError("the file is cut off, or was changed meanwhile")
        return words
