"""Decoding compressed pixels in several processes: the decoders hold Python's lock, so threads gain nothing.

Processes of our own rather than a pool of `multiprocessing`: that would run the caller's script again where it has no
`if __name__ == "__main__"`. What a process does not deliver is left to the caller, who then meets the error itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from io import BufferedReader
from itertools import groupby
from pathlib import Path

from viscera.core.scan import HuArray
from viscera.io.dicom.dataset import DAMAGE, quiet_pydicom
from viscera.io.dicom.pixels import read_images
from viscera.io.dicom.series import Slice


def read_in_processes(slices: Sequence[Slice], hu_KJI: HuArray, processes: int) -> list[int]:
    """Fill `hu_KJI` (slices, rows, columns); returns the places that are still to be read."""
    shares = [range(first, len(slices), processes) for first in range(processes)]

    def fill(places: range) -> list[int]:
        return list(places)[_fill(slices, places, hu_KJI) :]

    with ThreadPoolExecutor(processes) as pool:
        return [k for rest in pool.map(fill, shares) for k in rest]


def _fill(slices: Sequence[Slice], places: Sequence[int], hu_KJI: HuArray) -> int:
    """Have one process read the slices at these places; returns how many it delivered."""
    task = json.dumps(
        [asdict(replace(slices[k], plane=None, acquisition=())) | {"path": str(slices[k].path)} for k in places]
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", __name__]
    try:
        with subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            output = process.stdout
            if process.stdin is None or not isinstance(output, BufferedReader):
                return 0
            try:
                process.stdin.write(task.encode())
                process.stdin.close()
                for done, k in enumerate(places):
                    if output.readinto(memoryview(hu_KJI[k]).cast("B")) != hu_KJI[k].nbytes:
                        return done
            finally:
                process.kill()
    except OSError:
        return 0
    return len(places)


def _serve() -> None:
    """Write the HU of the slices that standard input names, one after another, to standard output."""
    images = [
        Slice(**value | {"path": Path(value["path"]), "shape": tuple(value["shape"])}) for value in json.load(sys.stdin)
    ]
    with quiet_pydicom():
        for _, of_file in groupby(images, key=lambda image: image.path):
            for hu in read_images(list(of_file)):
                sys.stdout.buffer.write(hu.tobytes())


if __name__ == "__main__":
    try:
        _serve()
    except (OSError, *DAMAGE):
        sys.exit(1)
