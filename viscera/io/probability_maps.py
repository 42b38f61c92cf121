"""Maps of what a network says of every voxel, beside its label map: NIfTI on the scan's own grid, in its voxel order.

NAME.probabilities.nii.gz  uint16 (I, J, K, L), of each class, in 65535ths; the highest is that of the label map's class
NAME.entropy.nii.gz        uint8 (I, J, K), how undecided the network is, from 0 to 1 in 255ths

They come plane by plane and can take gigabytes, so they are gathered in a file without a name, and packed from there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import igzip

from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry, size_text
from viscera.core.scan import LabelArray
from viscera.io.files import make_folder, temporary_beside, writing
from viscera.io.nifti import nifti_header
from viscera.io.nifti_header import Placement, opened, read_to_end

MAPS = {"probabilities": ".probabilities.nii.gz", "entropy": ".entropy.nii.gz"}  # name of the format to ending
LEVELS = 65535  # of a probability
_PIECE = 1 << 20


def is_map(path: Path) -> bool:
    """Whether a file is such a map by its name, and no label map."""
    return path.name.lower().endswith(tuple(MAPS.values()))


class MapSpool:
    """Volumes on a scan's grid as they come: planes along the canonical K axis, from the lowest up."""

    def __init__(self, folder: Path, geometry: Geometry, volumes: int, dtype: type[np.unsignedinteger[Any]]) -> None:
        """Take the place in a folder that the file needs; raises BadInputError where there is no such place."""
        self._geometry, self._volumes, self._dtype = geometry, volumes, np.dtype(dtype)
        self._order = AxisOrder.to_canonical(geometry)
        self._given = 0
        with writing(folder):
            make_folder(folder)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
            try:
                os.posix_fallocate(self._file.fileno(), 0, self._dtype.itemsize * int(np.prod(self._shape)))
            except OSError:
                self._file.close()
                raise

    @property
    def _shape(self) -> tuple[int, ...]:
        return (*self._geometry.shape, self._volumes)

    def put(self, planes_VIJ: npt.NDArray[np.unsignedinteger[Any]]) -> None:
        """The next plane of each volume.

        It is written in one piece where the file has it so; else the file is mapped, and for so long only, so that its
        pages are no memory of this process.
        """
        if self._order.source_axes[2] == 2:
            k = self._geometry.shape[2]
            at = k - 1 - self._given if self._order.flipped[2] else self._given
            for volume, plane_IJ in enumerate(planes_VIJ):
                content = self._order.undo(plane_IJ[..., None]).tobytes(order="F")
                self._file.seek((volume * k + at) * len(content))
                self._file.write(content)
        else:
            mapped = np.memmap(self._file, self._dtype, "r+", shape=self._shape, order="F")
            for volume, plane_IJ in enumerate(planes_VIJ):
                self._order.apply(mapped[..., volume])[:, :, self._given] = plane_IJ
        self._given += 1

    def pack(self, path: Path, description: str, slope: float, placement: Placement | None) -> Path:
        """A NIfTI file with a temporary name beside `path`; raises BadInputError where the disk is full."""
        shape = self._shape if self._volumes > 1 else self._geometry.shape
        header = nifti_header(shape, self._dtype, slope, self._geometry, description, placement)
        temporary = temporary_beside(path)
        try:
            with (
                writing(path),
                temporary.open("wb") as file,
                igzip.IGzipFile("", fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed,
            ):
                packed.write(header)
                self._file.seek(0)
                shutil.copyfileobj(self._file, packed, _PIECE)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return temporary

    def close(self) -> None:
        """Give the place back."""
        self._file.close()


def quantised(probabilities_LIJ: npt.NDArray[np.float32], labels_IJ: LabelArray) -> npt.NDArray[np.uint16]:
    """Probabilities in 65535ths, such that the first highest is that of the label.

    Rounding makes equals of values that differ by less. The label's then gets what it lacks: a 65535th at most, where
    it is the most probable one.
    """
    levels = (probabilities_LIJ * np.float32(LEVELS) + np.float32(0.5)).astype(np.uint16)
    wrong = levels.argmax(axis=0) != labels_IJ
    if wrong.any():
        some, own = levels[:, wrong].astype(np.int32), labels_IJ[wrong].astype(np.intp)[None]
        earlier = np.arange(len(some))[:, None] < own
        np.put_along_axis(some, own, (some + earlier).max(axis=0, keepdims=True).clip(max=LEVELS), axis=0)
        levels[:, wrong] = some.astype(np.uint16)
    return levels


def probabilities_beside(label_map: Path, name: str) -> Path:
    """Where the probabilities of a case's label map would stand."""
    return label_map.with_name(f"{name}{MAPS['probabilities']}")


def stored_planes(path: Path, geometry: Geometry, classes: int) -> Iterator[tuple[int, int, npt.NDArray[np.uint16]]]:
    """Class, index along K and the (I, J) 65535ths there, class by class, of a file as it is written here.

    Raises BadInputError where it is damaged, or is no such file of a label map on this grid and of so many classes.
    """
    with opened(path) as (header, stream):
        shape, expected = header.get_data_shape(), (*geometry.shape, classes)
        if shape != expected or header.get_data_dtype() != np.uint16:
            raise BadInputError(
                f"{path}: {header.get_data_dtype()} of {size_text(shape)} values; uint16 of {size_text(expected)} was "
                "expected, as `viscera predict --format nifti,probabilities` writes it. Predict again."
            )
        stream.seek(header.get_data_offset())
        i, j, k = geometry.shape
        order = header.get_data_dtype()
        for label in range(classes):
            for at in range(k):
                content = bytearray()
                while len(content) < 2 * i * j and (piece := stream.read(2 * i * j - len(content))):
                    content += piece
                if len(content) < 2 * i * j:
                    raise EOFError(f"the voxels end at plane {at} of class {label}")
                yield label, at, np.frombuffer(content, order).reshape((i, j), order="F")
        read_to_end(stream)
