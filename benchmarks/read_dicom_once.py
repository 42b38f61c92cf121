"""One reader lists and reads one series, in a process that loads nothing else: a line of JSON.

    python -m benchmarks.read_dicom_once viscera FOLDER

Peak memory is that of this process when the voxels are there, and of all processes that it started: of these the system
tells the largest, which counts for each of them.
"""

import json
import os
import resource
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def peak_gib() -> float:
    """Of this process since its program began; `ru_maxrss` may be that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


Reading = tuple[Callable[[], Any], Callable[[Any], Any]]


def by_viscera(folder: str) -> Reading:
    """What reads, and what gives the voxels (slices, rows, columns) of what was read."""
    from viscera.io.scans import read_volume  # noqa: PLC0415 - only what is measured is loaded

    return lambda: read_volume(folder), lambda volume: volume.hu.transpose(2, 1, 0)


def by_simpleitk(folder: str, setting: str) -> Reading:
    """The same by SimpleITK, as its documentation reads a series, or with another `setting`."""
    import SimpleITK as sitk  # noqa: N813, PLC0415 - its usual name

    def read() -> Any:  # noqa: ANN401 - of a package without types
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
        if setting == "threads":
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                images = pool.map(lambda name: sitk.ReadImage(name, imageIO="GDCMImageIO")[:, :, 0], names)
                return sitk.JoinSeries(list(images))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        if setting == "GDCMImageIO":
            reader.SetImageIO(setting)
            reader.LoadPrivateTagsOff()
            reader.MetaDataDictionaryArrayUpdateOff()
        return reader.Execute()

    return read, sitk.GetArrayViewFromImage


def main(reader: str, folder: str) -> None:
    """Seconds without loading the package, CPU seconds, peak GiB, and a checksum of the voxels."""
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event == "subprocess.Popen" else None)
    read, voxels_of = by_viscera(folder) if reader == "viscera" else by_simpleitk(folder, reader)
    began, began_cpu = time.perf_counter(), time.process_time()
    scan = read()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    peak, children = peak_gib(), resource.getrusage(resource.RUSAGE_CHILDREN)
    voxels = voxels_of(scan)
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds + children.ru_utime + children.ru_stime,
        "peak_gib": peak + len(started) * children.ru_maxrss / 2**20,
        "processes": 1 + len(started),
        "voxels": [list(voxels.shape), zlib.crc32(voxels)],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
