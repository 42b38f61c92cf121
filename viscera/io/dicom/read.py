"""A series as a Volume."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from viscera.core.errors import BadInputError
from viscera.core.scan import HuArray, Volume
from viscera.io.dicom.dataset import quiet_pydicom
from viscera.io.dicom.pixels import read_images
from viscera.io.dicom.series import Series, Slice
from viscera.io.dicom.workers import read_in_processes

log = logging.getLogger(__name__)
_THREADS = 4  # they wait for the disk; decoding holds Python's lock
_IMAGES_A_PROCESS = 50  # below, starting one costs more than it saves
_MOST_PROCESSES = 8


def read_series(series: Series) -> Volume:
    """Read the pixels of a series.

    Args:
        series: from `find_series`; its files must still be there.

    Returns:
        HU as int16 (columns, rows, slices): `hu[:, :, k]` is the image in `series.sources[k]`, transposed.

    Raises:
        BadInputError: the series has a problem; pixels that cannot be decoded, or are no HU.
    """
    if series.geometry is None:
        raise BadInputError(f"Series {series.title} cannot be read: {series.problem}.")
    for text in series.warnings:
        log.warning("Series %s: %s", series.title, text)
    columns, rows, count = series.geometry.shape
    hu_KJI = np.empty((count, rows, columns), dtype=np.int16)
    with quiet_pydicom():
        remaining: Sequence[int] = range(count)
        processes = min(_cores(), _MOST_PROCESSES, count // _IMAGES_A_PROCESS)
        if processes > 1 and series.slices[0].is_compressed:
            remaining = read_in_processes(series.slices, hu_KJI, processes)
        _read(series.slices, remaining, hu_KJI)
    return Volume(hu_KJI.transpose(2, 1, 0), series.geometry)


def _read(slices: Sequence[Slice], places: Sequence[int], hu_KJI: HuArray) -> None:
    """Read the slices at these places, file by file."""
    by_file: dict[Path, list[int]] = defaultdict(list)
    for k in places:
        by_file[slices[k].path].append(k)

    def fill(of_file: list[int]) -> None:
        for k, image in zip(of_file, read_images([slices[k] for k in of_file]), strict=True):
            hu_KJI[k] = image

    pool = ThreadPoolExecutor(_THREADS)
    try:
        for _ in pool.map(fill, by_file.values()):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
