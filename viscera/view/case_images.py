"""Scans and label maps of a gallery on one grid per case, as the browser is sent them; the last ones stay in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import AIR_HU, LabelMap, Volume
from viscera.io.nifti import nifti_header
from viscera.io.remote.mirror_index import Seen
from viscera.view.gallery import Gallery, LabelLayer, ShownCase

Shown = TypeVar("Shown", Volume, LabelMap)
MOST_BYTES = 768 * 2**20  # of arrays that are kept
_BLANK = "The scan is not available: only labels are shown. Give it with --scans."
_INTERPOLATED = "It is interpolated to the grid of the labels."


class CaseImages:
    """Arrays with axes to the right, to the front and up; read when asked for, by whichever thread comes first."""

    def __init__(self, gallery: Gallery, most_bytes: int = MOST_BYTES) -> None:
        self.gallery = gallery
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[Any, ...], threading.Lock] = WeakValueDictionary()  # while they are held
        self._lock = threading.Lock()

    def case(self, number: int) -> ShownCase:
        """Raises BadInputError where there is none of that number."""
        if not 0 <= number < len(self.gallery.cases):
            raise BadInputError(f"there is no case {number}; there are {len(self.gallery.cases)}.")
        return self.gallery.cases[number]

    def exchange(self, number: int, case: ShownCase) -> None:
        """Show a case with other label maps from now on."""
        with self._lock:
            cases = list(self.gallery.cases)
            cases[number] = case
            self.gallery = replace(self.gallery, cases=tuple(cases))
            for key in [key for key in self._kept if key[:2] == ("labels", number)]:
                del self._kept[key]

    def version(self, number: int, layer: int) -> str:
        """Another one where a file of a label map was written anew; raises BadInputError where there is none."""
        return _version_of(self._layer(number, layer).files)

    def grid(self, number: int) -> Geometry:
        """The grid that a case is shown on: that of its first label map, or of its scan where it has none."""
        case = self.case(number)
        if not case.layers:
            return self._scan(number).geometry
        return self._label_map(number, 0).geometry

    def scan(self, number: int) -> Volume:
        """The scan on the case's grid; air where it is not available."""
        of = self.version(number, 0) if self.case(number).layers else ""
        return self._once(("shown", number, of), lambda: self._on_grid(number))

    def labels(self, number: int, layer: int) -> LabelMap:
        """A label map on the case's grid; raises BadInputError where it lies on another one."""
        grid, found = self.grid(number), self._label_map(number, layer)
        if grid.fits(found.geometry):
            return found
        case = self.case(number)
        raise BadInputError(
            f"{case.layers[layer].files[0]}: not on the grid of {case.layers[0].files[0]} "
            f"({found.geometry.difference(grid)}). It is not shown beside that."
        )

    def prepare(self, number: int) -> None:
        """Read a case before it is asked for; what cannot be read is said when it is."""
        with suppress(Exception):
            self.scan(number)

    def notes(self, number: int) -> list[str]:
        """What a person should know who looks at the scan."""
        case = self.case(number)
        if case.scan is None:
            return [_BLANK]
        notes = [case.scan.note] if case.scan.note else []
        if case.layers and not self._scan(number).geometry.fits(self.grid(number)):
            notes.append(_INTERPOLATED)
        return notes

    def is_without_own_scan(self, number: int) -> bool:
        """Whether a case's scan is missing, or is not on the grid of its labels."""
        return self.case(number).scan is None or not self._scan(number).geometry.fits(self.grid(number))

    def _on_grid(self, number: int) -> Volume:
        grid = self.grid(number)
        if self.case(number).scan is None:
            hu = np.broadcast_to(np.int16(AIR_HU), grid.shape)
            return Volume(hu, grid)
        scan = self._scan(number)
        return scan if scan.geometry.fits(grid) else interpolated(scan, grid)

    def _scan(self, number: int) -> Volume:
        layer = self.case(number).scan
        if layer is None:
            raise BadInputError(f"{self.case(number).name}: {_BLANK}")
        return self._once(("scan", number), lambda: layer.read().canonical())

    def _label_map(self, number: int, layer: int) -> LabelMap:
        wanted = self._layer(number, layer)

        def read() -> LabelMap:
            found = wanted.read()
            return found.canonical() if layer == 0 else found.in_order_of(self.grid(number))

        # by its files: a correction that is added in the meantime moves those after it
        of, version = ("labels", number, wanted.files), _version_of(wanted.files)
        with self._lock:
            for key in [key for key in self._kept if key[:-1] == of and key[-1] != version]:
                del self._kept[key]  # nobody asks for it again
        return self._once((*of, version), read)

    def _layer(self, number: int, layer: int) -> LabelLayer:
        layers = self.case(number).layers
        if not 0 <= layer < len(layers):
            raise BadInputError(f"{self.case(number).name}: there is no label map {layer}; there are {len(layers)}.")
        return layers[layer]

    def _once(self, key: tuple[Any, ...], make: Callable[[], Shown]) -> Shown:
        """What is kept under a key, or made now; threads that ask for the same wait for the first."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    kept: Shown = self._kept[key]
                    return kept
            made = make()
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._most_bytes:
                    self._kept.popitem(last=False)
            return made


def _version_of(files: tuple[Path, ...]) -> str:
    seen = (Seen.of(path) for path in files)
    return "-".join("" if each is None else f"{each.mtime_ns:x}.{each.size:x}" for each in seen)


def _size(shown: Volume | LabelMap) -> int:
    return (shown.hu if isinstance(shown, Volume) else shown.labels).nbytes


def interpolated(scan: Volume, grid: Geometry) -> Volume:
    """A scan on another grid, linearly between its voxels, plane by plane; beyond its edge as at it."""
    to_scan = np.linalg.inv(scan.geometry.affine) @ grid.affine
    hu = np.empty(grid.shape, dtype=np.int16, order="F")
    source = np.asarray(scan.hu, dtype=np.float32)
    for k in range(grid.shape[2]):
        offset = to_scan[:3, :3] @ (0, 0, k) + to_scan[:3, 3]
        how: dict[str, Any] = {"output_shape": (*grid.shape[:2], 1), "order": 1, "mode": "nearest"}
        hu[:, :, k] = np.rint(ndimage.affine_transform(source, to_scan[:3, :3], offset, **how)[:, :, 0])
    return Volume(hu, grid)


def nifti_pieces(volume: Volume) -> Iterator[bytes]:
    """A scan as an unpacked NIfTI file, a plane at a time."""
    yield nifti_header(volume.geometry.shape, np.int16, 1, volume.geometry, "viscera view")
    yield from planes(volume.hu)


def planes(array: npt.NDArray[Any]) -> Iterator[bytes]:
    """The voxels of an array (I, J, K), I fastest, a plane at a time."""
    for k in range(array.shape[2]):
        yield np.asfortranarray(array[:, :, k]).tobytes(order="F")


def length_of(volume: Volume) -> int:
    """Bytes of `nifti_pieces`."""
    header = nifti_header(volume.geometry.shape, np.int16, 1, volume.geometry, "viscera view")
    return len(header) + 2 * volume.hu.size
