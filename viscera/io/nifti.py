"""NIfTI in and out: the one door to nibabel.

Arrays keep the order of the file. Where they lie the header says (`Placement`): the sform where it is set, else the
qform, in mm whatever the unit of the file. SimpleITK takes the qform unless the sform's code is 1; so a prediction
repeats both as its scan has them, and any program shows the two in one place.
"""

import io
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable, LabelNumbers
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry, size_text
from viscera.core.machine_limits import memory_left
from viscera.core.scan import LabelArray, LabelMap, Volume, value_counts
from viscera.core.shape_hints import given_path, refuse_other_than
from viscera.core.wording import agreeing, counted
from viscera.io.files import write_bytes
from viscera.io.nifti_header import Placement, opened, read_to_end

log = logging.getLogger(__name__)
_PIECE = 1 << 17
_FIRST_VOXEL = 352  # bytes before it
_MOST_BEFORE = 2**28  # bytes: extensions of a header
_INT16, _UINT16 = np.iinfo(np.int16), np.iinfo(np.uint16)
_Numbers = npt.NDArray[np.unsignedinteger[Any]]  # of 8 or 16 bits
_QFORM_SKEW_DEGREES = 0.1  # a qform holds right angles only; beyond, a reader that takes it would misplace the voxels


def read_volume(path: str | Path, *, warn: bool = True) -> Volume:
    """Read a CT scan: whole HU, with slope and intercept applied, and lengths in mm.

    `.nii`, also packed (gzip, bzip2, xz, Zstandard where Python has it; its content says so), or a pair of `.hdr` and
    `.img`, by the name of either; NIfTI-1 or NIfTI-2, any orientation and byte order.

    Raises BadInputError for what is missing, truncated or not NIfTI; not three-dimensional, but for axes of length 1;
    NaN or infinite values, or such that int16 cannot hold and that are therefore no HU; a geometry without extent.
    """
    path = Path(path)
    stored = _read_stored(path)
    for warning in stored.placement.warnings(stored.geometry) if warn else ():
        log.warning("%s: %s", path, warning)
    is_hu = stored.array.dtype == np.int16 and not stored.is_scaled
    return Volume(stored.array if is_hu else _as_hu(stored, path), stored.geometry)


def _as_hu(stored: "_Stored", path: Path) -> npt.NDArray[np.int16]:
    """Scaled and rounded, plane by plane: as 64-bit floats a large scan takes gigabytes."""
    hu = np.empty(stored.array.shape, dtype=np.int16, order="F")
    low, high, bad = np.inf, -np.inf, 0
    for k in range(stored.array.shape[2]):
        values = np.rint(stored.values(np.s_[:, :, k]), dtype=np.float64)
        finite = np.isfinite(values)
        bad += values.size - int(finite.sum())
        low, high = min(low, values.min()), max(high, values.max())
        hu[:, :, k] = np.where(finite, values, 0).clip(_INT16.min, _INT16.max)
    if bad:
        raise BadInputError(
            f"{path}: {counted(bad, 'voxel')} {agreeing(bad)} NaN or infinite. Export the scan again, or leave it out."
        )
    if low < _INT16.min or high > _INT16.max:
        raise BadInputError(
            f"{path}: values from {low:g} to {high:g} are not Hounsfield units in 16 bits. "
            "Apply the rescale slope and intercept, and export again."
        )
    return hu


def read_labels(
    path: str | Path, mapping: Mapping[int, int] | LabelNumbers | None = None, *, classes: ClassTable | None = None
) -> LabelMap:
    """Read a label map, from files as `read_volume` does, of any number type that holds whole numbers.

    `mapping` takes the file's label numbers to class numbers, or to 255 where they stand for voxels that nobody
    labelled; without it the file must hold the numbers of `classes`, by default the paper's eight. `classes` says what
    the numbers of the label map stand for; with a mapping alone that is not known.

    Raises BadInputError as `read_volume`, and for fractions, label numbers that the mapping does not know, and class
    numbers that `classes` does not have; BadTypeError for a path, mapping or classes of another type.
    """
    path = given_path(path, "the label map")
    if classes is not None:
        refuse_other_than(ClassTable, classes, "classes")
    if mapping is None:  # else it need not be the paper's classes that the numbers become
        classes = classes or ABDOMEN
    array, geometry = _read_whole_numbers(path)
    if mapping is None:
        mapping = {label: label for label in range(len(classes or ABDOMEN))}
    known = mapping if isinstance(mapping, LabelNumbers) else LabelNumbers(_checked_mapping(mapping))
    _refuse_other_numbers(known.mapping.values(), classes)
    counts = value_counts(array)
    labels = {**known.mapping, **({} if known.ignored is None else {known.ignored: IGNORED})}
    unknown = [number for number in np.flatnonzero(counts).tolist() if number not in labels]
    if unknown:
        raise BadInputError(
            f"{path}: label numbers {', '.join(map(str, unknown))} are not in the table of labels "
            f"({', '.join(map(str, sorted(labels)))}). Add them to `labels` in dataset.json, or correct the "
            "file."
        )
    table = np.array([labels.get(number, number & 255) for number in range(len(counts))], dtype=np.uint8)
    return LabelMap(_translated(array, table), geometry, classes)


def _checked_mapping(mapping: object) -> Mapping[int, int]:
    pairs = list(mapping.items()) if isinstance(mapping, Mapping) else []
    wrong = [pair for pair in pairs if any(isinstance(n, bool) or not isinstance(n, Integral) for n in pair)]
    if wrong or not isinstance(mapping, Mapping):
        found = f"{wrong[0][0]!r}: {wrong[0][1]!r}" if wrong else type(mapping).__name__
        raise BadTypeError(
            f"mapping: {found}; the file's label numbers and what they become were expected, both whole numbers, as in "
            "{0: 0, 8: 1}."
        )
    return mapping


def _refuse_other_numbers(numbers: Iterable[int], classes: ClassTable | None) -> None:
    most = IGNORED if classes is None else len(classes)
    beyond = [number for number in numbers if not 0 <= number < most and number != IGNORED]
    if beyond:
        raise BadInputError(
            f"mapping: a label becomes {beyond[0]}; the classes are 0 to {most - 1}, and {IGNORED} stands for voxels "
            "that nobody labelled."
        )


def _translated(numbers: _Numbers, table: LabelArray) -> LabelArray:
    """The label of each number, plane by plane: as an index, a whole array takes eight times its memory."""
    if numbers.dtype == np.uint8 and np.array_equal(table, np.arange(len(table))):
        return numbers.astype(np.uint8, copy=False)
    labels = np.empty(numbers.shape, dtype=np.uint8, order="F")
    for k in range(numbers.shape[2]):
        np.take(table, numbers[:, :, k].T, out=labels[:, :, k].T)
    return labels


def read_mask(path: Path) -> LabelMap:
    """Read the mask of one organ: 1 where the file is above 0; raises as `read_labels`, and for several numbers."""
    array, geometry = _read_whole_numbers(path)
    numbers = [str(number) for number in np.flatnonzero(value_counts(array)) if number > 0]
    if len(numbers) > 1:
        raise BadInputError(
            f"{path}: numbers {', '.join(numbers)} in a mask of one organ. Give one file an organ, or a label map."
        )
    return LabelMap((array > 0).astype(np.uint8), geometry)


def label_numbers_in(path: Path) -> list[int]:
    """The numbers that a label map shows, in order; raises as `read_labels`."""
    numbers: list[int] = np.flatnonzero(value_counts(_read_whole_numbers(path)[0])).tolist()
    return numbers


def _read_whole_numbers(path: Path) -> tuple[_Numbers, Geometry]:
    """As they are where they are bytes; else checked and rounded, plane by plane."""
    stored = _read_stored(path)
    if stored.array.dtype == np.uint8 and not stored.is_scaled:
        return stored.array, stored.geometry
    numbers = np.empty(stored.geometry.shape, dtype=np.uint16, order="F")
    low, high, are_finite, are_whole = np.inf, -np.inf, True, True
    for k in range(numbers.shape[2]):
        values = stored.values(np.s_[:, :, k])
        if not np.issubdtype(values.dtype, np.integer):
            are_finite = are_finite and bool(np.isfinite(values).all())
            rounded = np.rint(values)
            are_whole = are_whole and np.allclose(values, rounded, atol=1e-3)
            values = rounded
        low, high = min(low, values.min()), max(high, values.max())
        if are_finite and low >= 0 and high <= _UINT16.max:
            numbers[:, :, k] = values
    if not are_finite:
        raise BadInputError(f"{path}: a label map with NaN or infinite values. Export the labels again.")
    if not are_whole:
        raise BadInputError(
            f"{path}: the values are not whole numbers, so this is not a label map. "
            "Was the scan given in place of the labels, or were they resampled with interpolation?"
        )
    if low < 0 or high > _UINT16.max:
        raise BadInputError(
            f"{path}: label numbers run from {low:.0f} to {high:.0f}; a label map holds small numbers from 0 on."
        )
    return numbers, stored.geometry


@dataclass(frozen=True, eq=False)
class _Stored:
    """Voxels as they are in the file, how they are scaled, and where they lie."""

    array: npt.NDArray[Any]
    slope: float
    intercept: float
    placement: Placement
    geometry: Geometry  # by the placement

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1, 0)

    def values(self, place: Any = ...) -> npt.NDArray[Any]:  # noqa: ANN401 - any index
        """What the voxels of a part of the array mean."""
        part: npt.NDArray[Any] = self.array[place]
        return part * np.float64(self.slope) + self.intercept if self.is_scaled else part


def _voxels(stream: IO[bytes], header: nib.Nifti1Header) -> npt.NDArray[Any]:
    """As they are in the file, read in pieces, as most packed streams would hold all of it once more.

    What is converted plane by plane is mapped for so long instead, where the file is not packed: it may take several
    times the memory of what is made of it. What is handed out never is: a file that is rewritten would change it, and
    one that is cut short end the process. A packed stream is read to its end, where checksums are compared.
    """
    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
    size, is_packed = math.prod(shape) * dtype.itemsize, not isinstance(stream, io.BufferedReader)
    if is_packed and offset > _MOST_BEFORE:
        raise ValueError(f"its voxels begin at byte {offset}")
    if not is_packed and (there := os.fstat(stream.fileno()).st_size - offset) < size:
        raise EOFError(f"{max(there, 0)} of the {size} bytes that the voxels take")
    if not is_packed and dtype.itemsize > 2:
        with suppress(ValueError, OSError):  # a file system without maps
            return np.memmap(stream, dtype, "c", offset, shape, "F")
    if size > (memory_left() or math.inf):
        raise MemoryError  # now, and not when the machine has no memory left
    array = np.empty(shape, dtype, order="F")
    view, done = array.reshape(-1, order="F").view(np.uint8).data, 0
    stream.seek(offset)
    while piece := stream.read(min(_PIECE, len(view) - done)):
        view[done : done + len(piece)] = piece
        done += len(piece)
    if done < len(view):
        raise EOFError(f"{done} of the {len(view)} bytes that the voxels take")
    if is_packed:
        read_to_end(stream)
    return array


def _read_stored(path: Path) -> _Stored:
    with opened(path) as (header, stream), np.errstate(over="ignore"):
        array = _voxels(stream, header)
        slope, intercept = header.get_slope_inter()
    if array.dtype.kind not in "iuf":
        raise BadInputError(f"{path}: voxels of type {array.dtype}; plain numbers were expected. Export it again.")
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape:
        raise BadInputError(
            f"{path}: an array of {size_text(array.shape)} values; one three-dimensional scan was expected."
        )
    placement = Placement(header)
    affine = placement.affine
    if affine is None:
        raise BadInputError(
            f"{path}: the header's geometry is damaged or has no extent (sform code {header['sform_code']}, qform code "
            f"{header['qform_code']}, voxels of {header['pixdim'][1:4].tolist()}). Export it again."
        )
    geometry = Geometry((array.shape[0], array.shape[1], array.shape[2]), affine)
    return _Stored(array, 1.0 if slope is None else slope, intercept or 0.0, placement, geometry)


def write_nifti(path: Path, content: LabelMap | Volume, description: str = "viscera") -> None:
    """Write a label map (uint8) or scan (int16), atomically; as `nifti_bytes`."""
    write_bytes(path, nifti_bytes(content, description, compressed=path.suffix.lower() == ".gz"))


def nifti_bytes(
    content: LabelMap | Volume, description: str, *, compressed: bool = True, placement: Placement | None = None
) -> bytes:
    """A whole `.nii.gz`, or `.nii`, of NIfTI-1.

    With a `placement`, its qform and sform as they are; else both agree, and a sheared grid has an sform only.
    """
    geometry, array = content.geometry, content.labels if isinstance(content, LabelMap) else content.hu
    image = nib.Nifti1Image(array, geometry.affine if placement is None else None)
    _describe(image.header, geometry, description, placement)
    if not compressed:
        return bytes(image.to_bytes())
    packed = io.BytesIO()
    with igzip.IGzipFile(fileobj=packed, mode="wb", compresslevel=2, mtime=0) as stream:  # slice by slice
        image.to_stream(stream)
    return packed.getvalue()


def nifti_header(
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    slope: float,
    geometry: Geometry,
    description: str,
    placement: Placement | None = None,
) -> bytes:
    """What stands before the voxels of a `.nii` whose values are so many times what is stored."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_slope_inter(slope, 0)
    header["vox_offset"] = _FIRST_VOXEL
    _describe(header, geometry, description, placement)
    content: bytes = header.binaryblock
    return content.ljust(_FIRST_VOXEL, b"\0")


def _describe(header: nib.Nifti1Header, geometry: Geometry, description: str, placement: Placement | None) -> None:
    """Where the voxels lie, and what they are."""
    header.set_xyzt_units("mm")
    header["descrip"] = description[:79].encode()
    if placement is not None:
        placement.copy_to(header)
        return
    header.set_sform(geometry.affine, code="scanner")
    is_skewed = geometry.skew_degrees > _QFORM_SKEW_DEGREES
    header.set_qform(None if is_skewed else geometry.affine, code="unknown" if is_skewed else "scanner")
