"""NIfTI in and out: the one door to nibabel.

Arrays keep the order of the file. The affine is nibabel's: the sform where it is set, else the qform. SimpleITK takes
the qform unless the sform's code is 1; so a prediction repeats both as its scan has them (`Placement`), and any program
shows the two in one place.
"""

import io
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.geometry import Affine, Geometry, Index3
from viscera.core.scan import LabelMap, Volume
from viscera.io.files import write_bytes

log = logging.getLogger(__name__)
_INT16 = np.iinfo(np.int16)
_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI2_HEADER_SIZE = 540
_QFORM_SKEW_DEGREES = 0.1  # a qform holds right angles only; beyond, a reader that takes it would misplace the voxels
_FORMS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True, eq=False)
class Placement:
    """How a NIfTI header says where its voxels lie, as it is stored: voxel size, unit, qform, sform and their codes."""

    header: nib.Nifti1Header

    @classmethod
    def read(cls, path: Path) -> "Placement":
        """Of a `.nii` or `.nii.gz` file that `read_volume` reads."""
        with igzip.open(path, "rb") if _is_compressed(path) else path.open("rb") as stream:
            content = stream.read(_NIFTI2_HEADER_SIZE)
        return cls(_image_class(content[:4]).header_class.from_fileobj(io.BytesIO(content)))

    def copy_to(self, header: nib.Nifti1Header) -> None:
        """Say the same in another header."""
        for field in _FORMS:
            header[field] = self.header[field]
        header["pixdim"][:4] = self.header["pixdim"][:4]
        header["xyzt_units"] = self.header["xyzt_units"] % 8  # those of space, not of time

    def warning(self, shape: Index3) -> str | None:
        """What a person should know who looks at the scan in another program."""
        codes = int(self.header["qform_code"]), int(self.header["sform_code"])
        if codes == (0, 0):
            return "the header does not say how the patient lies; I, J, K are taken to run left, front, up. Check it."
        if 0 in codes:
            return None
        qform, sform = (Geometry(shape, form) for form in (self.header.get_qform(), self.header.get_sform()))
        if sform.same_grid(qform, tolerance_mm=0.5 * min(sform.spacing_mm)):
            return None
        return "its qform and sform disagree; the sform is taken. Other programs may take the qform: check the place."


def read_volume(path: str | Path) -> Volume:
    """Read a CT scan.

    Scaling slope and intercept are applied, values rounded to whole HU; one trailing time point is accepted.

    Args:
        path: `.nii` or `.nii.gz`, NIfTI-1 or NIfTI-2, any orientation.

    Returns:
        The volume on the grid of the file.

    Raises:
        BadInputError: missing, truncated or not NIfTI; not three-dimensional; NaN or infinite values; values that
            int16 cannot hold and that are therefore no HU; a geometry without extent.
    """
    path = Path(path)
    stored, geometry = _read_stored(path)
    warning = Placement.read(path).warning(geometry.shape)
    if warning:
        log.warning("%s: %s", path, warning)
    if stored.array.dtype == np.int16 and not stored.is_scaled:
        return Volume(stored.array, geometry)
    return Volume(_as_hu(stored, path), geometry)


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
        raise BadInputError(f"{path}: {bad} voxels are NaN or infinite. Export the scan again, or leave it out.")
    if low < _INT16.min or high > _INT16.max:
        raise BadInputError(
            f"{path}: values from {low:g} to {high:g} are no Hounsfield units in 16 bits. "
            "Apply the rescale slope and intercept, and export again."
        )
    return hu


def read_labels(
    path: str | Path,
    mapping: Mapping[int, int] | None = None,
    *,
    classes: ClassTable = ABDOMEN,
    ignored: int | None = None,
) -> LabelMap:
    """Read a label map.

    Args:
        path: as for `read_volume`; any number type that holds whole numbers.
        mapping: the file's label numbers to class numbers; without it the file must hold those of `classes`.
        classes: the paper's eight, or others; only without a mapping.
        ignored: the number of nnU-Net's `ignore`: voxels that nobody labelled.

    Raises:
        BadInputError: as `read_volume`; fractions; label numbers that the mapping does not know.
    """
    path = Path(path)
    array, geometry = _read_whole_numbers(path)
    mapping = mapping if mapping is not None else {c.label: c.label for c in classes.classes}
    high = int(array.max())
    table = np.full(high + 1, 255, dtype=np.uint8)
    for number, label in mapping.items():
        if 0 <= number <= high:
            table[number] = label
    unknown = [number for number in _numbers_in(array) if table[number] == 255]
    if ignored in unknown:
        raise BadInputError(
            f"{path}: {np.count_nonzero(array == ignored)} voxels have the number {ignored}, nnU-Net's `ignore`: they "
            "are not labelled. That is not supported: viscera learns from and scores whole label maps. Label these "
            "voxels, or leave the case out."
        )
    if unknown:
        raise BadInputError(
            f"{path}: label numbers {', '.join(map(str, unknown))} are not in the table of labels "
            f"({', '.join(map(str, sorted(mapping)))}). Add them to `labels` in dataset.json, or correct the file."
        )
    return LabelMap(table[array], geometry)


def read_mask(path: Path) -> LabelMap:
    """Read the mask of one organ: 1 where the file is above 0.

    Raises:
        BadInputError: as `read_volume`; fractions; more than one number above 0.
    """
    array, geometry = _read_whole_numbers(path)
    numbers = [str(number) for number in _numbers_in(array) if number > 0]
    if len(numbers) > 1:
        raise BadInputError(
            f"{path}: numbers {', '.join(numbers)} in a mask of one organ. Give one file an organ, or a label map."
        )
    return LabelMap((array > 0).astype(np.uint8), geometry)


def label_numbers_in(path: Path) -> list[int]:
    """The numbers that a label map shows, in order; raises as `read_labels`."""
    return _numbers_in(_read_whole_numbers(path)[0])


def _read_whole_numbers(path: Path) -> tuple[npt.NDArray[np.uint16], Geometry]:
    array, geometry = _read(path)
    if not np.issubdtype(array.dtype, np.integer):
        if not np.isfinite(array).all():
            raise BadInputError(f"{path}: a label map with NaN or infinite values. Export the labels again.")
        rounded = np.rint(array)
        if not np.allclose(array, rounded, atol=1e-3):
            raise BadInputError(
                f"{path}: the values are not whole numbers, so this is no label map. "
                "Was the scan given in place of the labels, or were they resampled with interpolation?"
            )
        array = rounded.astype(np.int64)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise BadInputError(
            f"{path}: label numbers run from {low} to {high}; a label map holds small numbers from 0 on."
        )
    return array.astype(np.uint16, copy=False), geometry


def _numbers_in(array: npt.NDArray[np.uint16]) -> list[int]:
    return [int(number) for number in np.flatnonzero(np.bincount(array.ravel()))]


def write_labels(path: Path, label_map: LabelMap, description: str = "viscera label map") -> None:
    """Write a label map as uint8 NIfTI-1, atomically; sform and qform agree, and a sheared grid has an sform only."""
    _write(path, label_map.labels, label_map.geometry, description)


def write_volume(path: Path, volume: Volume, description: str = "viscera CT") -> None:
    """Write a volume as int16 NIfTI-1, atomically; sform and qform agree, and a sheared grid has an sform only."""
    _write(path, volume.hu, volume.geometry, description)


@dataclass(frozen=True, eq=False)
class _Stored:
    """Voxels as they are in the file, and how they are scaled."""

    array: npt.NDArray[Any]
    slope: float
    intercept: float

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1, 0)

    def values(self, place: Any = ...) -> npt.NDArray[Any]:  # noqa: ANN401 - any index
        """What the voxels of a part of the array mean."""
        part: npt.NDArray[Any] = self.array[place]
        return part * np.float64(self.slope) + self.intercept if self.is_scaled else part

    @classmethod
    def of(cls, image: nib.Nifti1Image) -> "_Stored":
        return cls(image.dataobj.get_unscaled(), image.dataobj.slope, image.dataobj.inter)


def _read(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    stored, geometry = _read_stored(path)
    return stored.values(), geometry


def _read_stored(path: Path) -> tuple[_Stored, Geometry]:
    try:
        stored, affine = _open(path)
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise BadInputError(f"{path}: this is a folder, a NIfTI file was expected.") from error
    except (EOFError, zlib.error, OSError, ValueError, igzip.BadGzipFile, IsalError) as error:  # type: ignore[misc] # isal types its error class as an instance
        raise BadInputError(
            f"{path}: truncated or damaged ({error}). Copy or export the file again, or leave it out."
        ) from error
    except (MemoryError, OverflowError) as error:
        raise BadInputError(
            f"{path}: the header asks for more than the memory holds. If the scan is not that large, the header is "
            "damaged: copy or export the file again, or leave it out."
        ) from error
    except (ImageFileError, HeaderDataError, WrapStructError) as error:
        raise BadInputError(f"{path}: this is not a NIfTI file ({error}). Give a .nii or .nii.gz file.") from error
    array = stored.array
    if array.dtype.kind not in "iuf":
        raise BadInputError(f"{path}: voxels of type {array.dtype}; plain numbers were expected. Export it again.")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape:
        raise BadInputError(f"{path}: an array of shape {array.shape}; one three-dimensional scan was expected.")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BadInputError(f"{path}: the header's geometry has no extent (affine {affine.tolist()}). Export it again.")
    geometry = Geometry((array.shape[0], array.shape[1], array.shape[2]), affine)
    return _Stored(array, stored.slope, stored.intercept), geometry


def _open(path: Path) -> tuple[_Stored, Affine]:
    if not _is_compressed(path):
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Pair):  # CIFTI, for one, lies in files that end alike
            raise ImageFileError(f"it is a {type(image).__name__}")
        return _Stored.of(image), np.asarray(image.affine, dtype=np.float64)
    with igzip.open(path, "rb") as stream:
        image_class = _image_class(stream.read(4))
    with igzip.open(path, "rb") as stream:
        image = image_class.from_stream(stream)
        stored, affine = _Stored.of(image), np.asarray(image.affine, dtype=np.float64)
        while stream.read(1 << 20):  # to the end, where gzip's checksum is compared
            pass
        return stored, affine


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _image_class(header_size: bytes) -> type[nib.Nifti1Image]:
    sizes = {int.from_bytes(header_size, "little"), int.from_bytes(header_size, "big")}
    return nib.Nifti2Image if _NIFTI2_HEADER_SIZE in sizes else nib.Nifti1Image  # type: ignore[no-any-return]


def labels_to_bytes(
    label_map: LabelMap,
    description: str = "viscera label map",
    *,
    compressed: bool = True,
    placement: Placement | None = None,
) -> bytes:
    """What `write_labels` writes: a whole `.nii.gz`, or `.nii`; with a `placement`, its qform and sform as they are."""
    return _to_bytes(label_map.labels, label_map.geometry, description, compressed=compressed, placement=placement)


def _write(path: Path, array: npt.NDArray[Any], geometry: Geometry, description: str) -> None:
    write_bytes(path, _to_bytes(array, geometry, description, compressed=path.suffix.lower() == ".gz"))


def _to_bytes(
    array: npt.NDArray[Any],
    geometry: Geometry,
    description: str,
    *,
    compressed: bool,
    placement: Placement | None = None,
) -> bytes:
    image = nib.Nifti1Image(array, geometry.affine if placement is None else None)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description[:79].encode()
    if placement is not None:
        placement.copy_to(image.header)
    else:
        image.set_sform(geometry.affine, code="scanner")
        is_skewed = geometry.skew_degrees > _QFORM_SKEW_DEGREES
        image.set_qform(None if is_skewed else geometry.affine, code="unknown" if is_skewed else "scanner")
    content: bytes = image.to_bytes()
    return igzip.compress(content, compresslevel=2, mtime=0) if compressed else content
