"""Seven organs of a 600-slice 512×512 series as DICOM-SEG, RTSTRUCT and .seg.nrrd: seconds, size and peak memory.

    python -m benchmarks.bench_dicom_out [--quick]

The bar for DICOM-SEG is 20 s. The organs are ellipsoids in a generated series; each spans a quarter of the slices.

Quick: 60 slices.
"""

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from tests.io.dicom_series import write_series
from viscera.core.anatomy import ABDOMEN
from viscera.core.geometry import Geometry, Index3
from viscera.core.machine_limits import peak_memory
from viscera.core.scan import LabelMap
from viscera.io.dicom.result_writers import Algorithm, dicom_seg_bytes, rtstruct_bytes
from viscera.io.dicom.source_images import SourceImages
from viscera.io.seg_nrrd import seg_nrrd_bytes

SHAPE, QUICK_SHAPE = (512, 512, 600), (512, 512, 60)


def organs(shape: Index3) -> npt.NDArray[np.uint8]:
    """(I, J, K) with one ellipsoid an organ."""
    labels = np.zeros(shape, dtype=np.uint8)
    apart, reach_k = 70 * shape[2] // SHAPE[2], 75 * shape[2] // SHAPE[2]
    for organ in ABDOMEN.organs:
        centre = np.array([100 + 45 * organ.label, 250 + 10 * organ.label, apart * organ.label])
        reach = np.array([60, 60, reach_k])
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach, shape)
        i, j, k = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        inside = ((i - centre[0]) / 60) ** 2 + ((j - centre[1]) / 60) ** 2 + ((k - centre[2]) / reach_k) ** 2 <= 1
        labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]][inside] = organ.label
    return labels


def series(folder: Path, shape: Index3) -> SourceImages:
    """Headers of an image per slice, from one that was written and read."""
    geometry = Geometry(shape, np.array([[-0.8, 0, 0, 200], [0, -0.8, 0, 200], [0, 0, 1, -300], [0, 0, 0, 1.0]]))
    one = Geometry((*shape[:2], 1), geometry.affine)
    first = SourceImages.read(write_series(folder, one)).headers[0]
    headers = []
    for number in range(shape[2]):
        header = copy.deepcopy(first)
        header.ImagePositionPatient = [-200, -200, -300 + number]
        header.SOPInstanceUID = f"1.2.3.{number + 1}"
        headers.append(header)
    return SourceImages(
        tuple(headers), geometry, (), tuple((x, y, z) for x, y, z in (h.ImagePositionPatient for h in headers))
    )


def main() -> None:
    """Measure and record."""
    quick = is_quick(__doc__)
    shape = QUICK_SHAPE if quick else SHAPE
    model = Algorithm("0" * 64, "1.0")
    with tempfile.TemporaryDirectory() as folder:
        sources = series(Path(folder), shape)
    label_map = LabelMap(organs(shape), sources.geometry)
    figures: dict[str, object] = {"slices": shape[2], "bar_dicom_seg_seconds": 20}
    writers: dict[str, Callable[[], bytes]] = {
        "dicom_seg": lambda: dicom_seg_bytes(label_map, sources, model),
        "rtstruct": lambda: rtstruct_bytes(label_map, sources, model),
        "seg_nrrd": lambda: seg_nrrd_bytes(label_map),
    }
    for name, write in writers.items():
        started = time.perf_counter()
        size = len(write())
        figures[f"{name}_seconds"] = round(time.perf_counter() - started, 2)
        figures[f"{name}_mb"] = round(size / 1e6, 2)
    figures["peak_memory_mib"] = round(peak_memory() / 2**20)
    record("dicom_out", figures, folder=None if quick else RESULTS)


if __name__ == "__main__":
    main()
