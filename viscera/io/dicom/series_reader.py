"""A series as a Volume. Compressed ones in several processes: but for one, decoders hold Python's lock.

Processes of our own rather than a pool of `multiprocessing`: that would run the caller's script again where it has no
`if __name__ == "__main__"`. What a process does not deliver is read here, where its error is met.
"""

import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, cast

import numpy as np
from pydicom.uid import UID

from viscera.core.errors import BadInputError
from viscera.core.processes import in_threads, usable_processors
from viscera.core.scan import HuArray, Volume
from viscera.io.dicom.dicom_file import DAMAGE, is_encapsulated, quiet_pydicom
from viscera.io.dicom.dicom_header import Slice
from viscera.io.dicom.hounsfield_pixels import decodes_in_threads, read_images
from viscera.io.dicom.series_search import Series

log = logging.getLogger(__name__)
_THREADS = 4  # they wait for the disk
_IMAGES_A_PROCESS = 50  # below, starting one costs more than it saves
_MOST_AT_ONCE = 8


@quiet_pydicom()
def read_series(series: Series, *, warn: bool = True) -> Volume:
    """Read the pixels of a series from `find_series`; its files must still be there.

    Returns:
        HU as int16 (columns, rows, slices): `hu[:, :, k]` is the image in `series.sources[k]`, transposed.

    Raises:
        BadInputError: the series has a problem; pixels that cannot be decoded, or are no HU; too large for the memory.
    """
    if series.geometry is None:
        raise BadInputError(f"Series {series.title} cannot be read: {series.problem}.")
    for text in series.warnings if warn else ():
        log.warning("Series %s: %s", series.title, text)
    columns, rows, count = series.geometry.shape
    try:
        hu_KJI = np.empty((count, rows, columns), dtype=np.int16)
    except MemoryError as error:
        next(read_images(series.slices[:1]))  # rows and columns may lie
        size = f"{count} images of {rows} × {columns} pixels"
        raise BadInputError(f"Series {series.title}: {size} do not fit into the memory.") from error
    remaining: Sequence[int] = range(count)
    at_once, threads = min(len(usable_processors()), _MOST_AT_ONCE), _THREADS
    if is_encapsulated(UID(series.transfer_syntax)):
        threads = at_once
        processes = min(at_once, count // _IMAGES_A_PROCESS)
        in_threads = decodes_in_threads(series.transfer_syntax) and len(set(series.sources)) == count
        if processes > 1 and not in_threads:
            remaining = _read_in_processes(series.slices, hu_KJI, processes)
    _read(series.slices, remaining, hu_KJI, threads)
    return Volume(hu_KJI.transpose(2, 1, 0), series.geometry)


def _read(slices: Sequence[Slice], places: Sequence[int], hu_KJI: HuArray, threads: int) -> None:
    """Read the slices at these places, file by file."""
    by_file: dict[Path, list[int]] = defaultdict(list)
    for k in places:
        by_file[slices[k].path].append(k)

    def fill(of_file: list[int]) -> None:
        for k, image in zip(of_file, read_images([slices[k] for k in of_file]), strict=True):
            hu_KJI[k] = image

    for _ in in_threads(fill, by_file.values(), threads):
        pass


def _read_in_processes(slices: Sequence[Slice], hu_KJI: HuArray, processes: int) -> list[int]:
    """Fill `hu_KJI` (slices, rows, columns); returns the places that are still to be read."""
    parts = [range(first, len(slices), processes) for first in range(processes)]
    return [k for rest in in_threads(partial(_read_in_process, slices, hu_KJI), parts, processes) for k in rest]


def _read_in_process(slices: Sequence[Slice], hu_KJI: HuArray, places: range) -> range:
    """Have one process read the slices at these places; returns those that it did not deliver."""
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", __name__]
    done = 0
    with (
        suppress(OSError),
        subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
        ) as process,
    ):
        try:
            to_process, from_process = cast("tuple[IO[bytes], IO[bytes]]", (process.stdin, process.stdout))
            to_process.write(_told([slices[k] for k in places]))
            to_process.close()
            for k in places:
                content = from_process.read(hu_KJI[k].nbytes)
                if len(content) != hu_KJI[k].nbytes:
                    break
                hu_KJI[k] = np.frombuffer(content, np.int16).reshape(hu_KJI[k].shape)
                done += 1
        finally:
            process.kill()
    return places[done:]


def _told(images: Sequence[Slice]) -> bytes:
    """What a process needs to know of compressed images: where their pixels are, and how these become HU."""
    return json.dumps(
        [(os.fsencode(i.path).hex(), i.shape, i.frame, i.frames, i.slope, i.intercept, i.padding) for i in images]
    ).encode()


def _understood(content: bytes) -> list[Slice]:
    return [
        Slice(
            *(Path(os.fsdecode(bytes.fromhex(path))), tuple(shape), frame, frames),
            slope=slope,
            intercept=intercept,
            padding=padding and tuple(padding),
        )
        for path, shape, frame, frames, slope, intercept, padding in json.loads(content)
    ]


@quiet_pydicom()
def _serve() -> None:
    """Write the HU of the slices that standard input names, one after another, to standard output."""
    for _, of_file in groupby(_understood(sys.stdin.buffer.read()), key=lambda image: image.path):
        for hu in read_images(list(of_file)):
            sys.stdout.buffer.write(hu.tobytes())


if __name__ == "__main__":
    try:
        _serve()
    except DAMAGE:
        sys.exit(1)
