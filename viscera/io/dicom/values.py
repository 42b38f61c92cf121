"""What the stored values of a series mean: whether they are Hounsfield units, and how they become some."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from viscera.core.errors import BadInputError
from viscera.core.scan import HuArray
from viscera.io.dicom.header import Header
from viscera.io.dicom.series import Slice
from viscera.io.dicom.unusable import UnusableSeriesError

_UNITS = {"", "HU", "US", "HU_MOD"}  # US: not specified
_INT16 = np.iinfo(np.int16)


def refuse_values(headers: Sequence[Header]) -> None:
    """Refuse a series whose pixels cannot be decoded here, or mean something other than Hounsfield units.

    Raises:
        UnusableSeriesError: no plug-in for its compression; another unit; a table of values; no usable slope; several
            frames of reference.
    """
    for syntax in sorted({header.transfer_syntax for header in headers}):
        _refuse_syntax(UID(syntax))
    units = {header.unit for header in headers} - _UNITS
    if units:
        raise UnusableSeriesError(f"its values are in {', '.join(sorted(units))}, not in Hounsfield units")
    if any(header.has_table for header in headers):
        raise UnusableSeriesError("its values go through a table (Modality LUT), which is not read. Export it rescaled")
    images = [image for header in headers for image in header.slices]
    if not all(math.isfinite(i.slope) and i.slope != 0 and math.isfinite(i.intercept) for i in images):
        raise UnusableSeriesError("a rescale slope of 0, or one that is no number. Export it again")
    if len({header.frame_of_reference for header in headers}) > 1:
        raise UnusableSeriesError("its images have several frames of reference: their positions cannot be compared")


def value_warnings(headers: Sequence[Header]) -> list[str]:
    """What a user should know about the values of a series that can be read."""
    bare = sum(not header.is_rescaled for header in headers)
    return [f"{bare} files give no rescale slope and intercept; their values are taken as they are."] if bare else []


def hounsfield(stored: npt.NDArray[Any], image: Slice) -> HuArray:
    """Stored values as int16 HU, rounded; padding that int16 cannot hold becomes its lowest or highest value.

    Args:
        stored: (rows, columns), any number type.
        image: its slope, intercept and padding.

    Raises:
        BadInputError: values outside int16 that are no padding.
    """
    is_shift = image.slope == 1 and image.intercept.is_integer() and abs(image.intercept) <= _INT16.max
    if is_shift and stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        hu: npt.NDArray[Any] = stored + np.int32(image.intercept)
    else:
        hu = np.rint(stored * image.slope + image.intercept)
    if hu.min() < _INT16.min or hu.max() > _INT16.max:
        low, high = image.padding or (1, 0)
        outside = ((hu < _INT16.min) | (hu > _INT16.max)) & ~((stored >= low) & (stored <= high))
        if outside.any():
            raise BadInputError(
                f"{image.path}: values from {hu.min():g} to {hu.max():g} are no Hounsfield units in 16 bits. "
                "Export the series again."
            )
        hu = hu.clip(_INT16.min, _INT16.max)
    return hu.astype(np.int16)


def _refuse_syntax(syntax: UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnusableSeriesError(
            f"its pixels are coded as {syntax.name}, which is not read. Export it as Explicit VR Little Endian"
        ) from error
    if not decoder.is_available:
        raise UnusableSeriesError(
            f"its pixels are compressed ({syntax.name}), and the plug-in for that is not installed: "
            "pip install 'viscera[dicom]'"
        )
