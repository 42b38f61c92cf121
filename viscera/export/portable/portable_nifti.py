"""NIfTI-1 files in and out: `.nii` and `.nii.gz`. Pairs of .hdr and .img, NIfTI-2, DICOM and NRRD are not read."""

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_HEADER_BYTES, _FIRST_VOXEL = 348, 352
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_LAST_FIRST_VOXEL = 2**28  # bytes before it, of extensions of the header
_INT16 = 4
_MM = {1: 1000.0, 3: 0.001}  # of NIfTI's units of length; the others are mm, or unknown
_LEAST_DETERMINANT = 1e-4  # of the directions of the axes; below, they lie in one plane


class Refused(Exception):  # noqa: N818 - what the user reads
    """What cannot be segmented, as a sentence that names the file and says what to do."""


class Scan(NamedTuple):
    """HU (I, J, K) int16 in the order of the file, voxel index to RAS+ in mm (4, 4), and the header as it was."""

    hu: Array
    affine: Array
    header: bytes


def read_nifti(path: Path) -> Scan:
    """A CT scan, slice by slice; raises Refused for what is no such file, damaged, or has no HU."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            return _read(path, stream)
    except FileNotFoundError:
        refuse(path, "there is no such file.")
    except (OSError, EOFError, zlib.error) as error:
        refuse(path, f"cannot be read, or is damaged ({error}). Copy or export the file again.")


def refuse(path: Path, sentence: str) -> NoReturn:
    """Raise Refused of a file."""
    raise Refused(f"{path}: {sentence}")


def _read(path: Path, stream: Any) -> Scan:  # noqa: ANN401 - a file, packed or not
    header = stream.read(_HEADER_BYTES)
    order = next((each for each in "<>" if header[:4] == struct.pack(f"{each}i", _HEADER_BYTES)), None)
    if order is None or header[344:347] != b"n+1":
        refuse(path, "this is not a single NIfTI-1 file (.nii or .nii.gz), which is all that is read here. Convert it.")
    (number, *sizes), kind = (
        struct.unpack_from(f"{order}8h", header, 40),
        struct.unpack_from(f"{order}h", header, 70)[0],
    )
    sizes = sizes[: max(0, number)]
    if len(sizes) < 3 or any(n < 1 for n in sizes) or any(n > 1 for n in sizes[3:]) or kind not in _TYPES:
        refuse(path, f"one three-dimensional scan of plain numbers was expected; {sizes} of type {kind} was found.")
    i, j, k = shape = tuple(sizes[:3])
    offset, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    if slope == 0 or not np.isfinite(slope):
        slope, intercept = 1.0, 0.0
    affine = _affine_of(header, order, shape)
    if affine is None:
        refuse(path, "the header's geometry is damaged or has no extent. Export it again.")
    if not 0 <= offset <= _LAST_FIRST_VOXEL:
        refuse(path, f"its voxels begin at byte {offset:g}, so its header is damaged. Copy or export the file again.")
    stream.seek(int(offset) or _FIRST_VOXEL)
    dtype, hu = np.dtype(order + _TYPES[kind]), np.empty(shape, np.int16, order="F")
    for at in range(k):
        content = stream.read(i * j * dtype.itemsize)
        if len(content) < i * j * dtype.itemsize:
            refuse(path, "truncated. Copy or export the file again.")
        plane = np.frombuffer(content, dtype).reshape(j, i).T
        if kind != _INT16 or (slope, intercept) != (1, 0):
            plane = np.rint(plane * np.float64(slope) + np.float64(intercept))
            if not np.isfinite(plane).all() or plane.min() < -32768 or plane.max() > 32767:
                refuse(path, "its values are not HU: NaN, infinite, or beyond 16 bits. Export the scan again.")
        hu[:, :, at] = plane
    return Scan(hu, affine, header)


def _affine_of(header: bytes, order: str, shape: tuple[int, ...]) -> Array | None:
    """By the sform where it is set and sound, else the qform, else the voxel size alone; in mm."""
    size = np.array(struct.unpack_from(f"{order}8f", header, 76))
    qform_code, sform_code = struct.unpack_from(f"{order}2h", header, 252)
    unit = _MM.get(header[123] % 8, 1.0)
    forms = []
    if sform_code:
        forms.append(np.array(struct.unpack_from(f"{order}12f", header, 280)).reshape(3, 4))
    if qform_code:
        forms.append(_qform(np.array(struct.unpack_from(f"{order}6f", header, 256)), size))
    if not sform_code and not qform_code:
        directions = np.diag(size[1:4]) @ np.diag([-1.0, 1.0, 1.0])
        forms.append(np.column_stack([directions, -directions @ (np.array(shape) - 1) / 2]))
    for form in forms:
        affine = np.vstack([form * unit, [0, 0, 0, 1]])
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        is_sound = np.isfinite(affine).all() and lengths.all()
        if is_sound and abs(np.linalg.det(affine[:3, :3] / lengths)) >= _LEAST_DETERMINANT:
            return affine
    return None


def _qform(values: Array, size: Array) -> Array:
    """(3, 4) of a quaternion's last three parts and an offset."""
    (b, c, d), offset = values[:3], values[3:]
    length = b * b + c * c + d * d
    if length > 1:  # by rounding
        b, c, d = values[:3] / np.sqrt(length)
    a = np.sqrt(max(0.0, 1 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    rotation = rotation @ np.diag(size[1:4] * [1, 1, -1 if size[0] < 0 else 1])
    return np.column_stack([rotation, offset])


def write_labels(path: Path, labels: Array, like: bytes) -> None:
    """A label map (I, J, K) uint8 whose header says where it lies as that of its scan does; whole, or not at all."""
    order = "<" if like[:4] == struct.pack("<i", _HEADER_BYTES) else ">"
    header = bytearray(like)
    for first, length in ((4, 36), (56, 14), (120, 3), (124, 16), (148, 104), (328, 16)):  # what else it says
        header[first : first + length] = bytes(length)
    struct.pack_into(f"{order}8h", header, 40, 3, *labels.shape, 1, 1, 1, 1)
    struct.pack_into(f"{order}3h", header, 68, 0, 2, 8)  # intent none, uint8, 8 bits
    struct.pack_into(f"{order}3f", header, 108, _FIRST_VOXEL, 1, 0)
    header[123] %= 8
    header[148:168] = b"viscera ONNX export".ljust(20, b"\0")
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            stream: Any = gzip.GzipFile("", "wb", 2, file, 0) if path.suffix.lower() == ".gz" else file
            stream.write(bytes(header) + bytes(_FIRST_VOXEL - _HEADER_BYTES))
            for at in range(labels.shape[2]):
                stream.write(labels[:, :, at].tobytes(order="F"))
            if stream is not file:
                stream.close()
        temporary.replace(path)
    except OSError as error:
        refuse(path, f"cannot be written ({error.strerror or error}).")
    finally:
        temporary.unlink(missing_ok=True)
