"""One labelled scan of 512×512×400 (`.nii.gz`) to what training reads, a quarter of its grid: time beside MONAI.

    python -m benchmarks.bench_prepare [--quick]

Ours is `viscera prepare`: HU and labels on the coarse grid, voxel counts, checksums, and the labels on the scan's own
grid, written and synced. The peer is MONAI's cache on disk, `PersistentDataset`, with its documented transforms to the
same spacing, with one thread and with one a processor. The files are in the cache of the operating system, and each run
starts with an empty folder.

Quick: 256×256×100 voxels, MONAI with a thread a processor, and not the command in a process of its own.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isal import igzip

from benchmarks.pairs import Benchmark
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.io.nifti import write_nifti
from viscera.stages.prepare import prepare

FACTOR, SPACING_MM, NOISE_HU = 4, (0.75, 0.75, 1.0), 12
GOAL = 3
DOCUMENTED = "PersistentDataset; LoadImaged, EnsureChannelFirstd, Orientationd, Spacingd (bilinear, nearest)"
KINDS = {
    "documented": DOCUMENTED,
    "types": f"{DOCUMENTED}, with labels loaded as uint8 and resampled in float32",
    "area": "PersistentDataset; likewise with Resized (area, nearest) in place of Spacingd",
}
PROCESSORS = len(os.sched_getaffinity(0))


def make_case(folder: Path, shape: tuple[int, int, int]) -> None:
    """A body of smooth tissue with noise in air with noise, and seven ellipsoids, in nnU-Net's layout."""
    rng = np.random.default_rng(0)
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    hu, labels = (np.zeros(shape, dtype=dtype, order="F") for dtype in (np.int16, np.uint8))
    noise = rng.normal(0, NOISE_HU, (8, *shape[:2]))
    body = (i[:, None] / 0.85) ** 2 + (j / 0.65) ** 2 < 1
    tissue = np.where(body, 60 + 40 * np.sin(9 * i)[:, None] * np.cos(7 * j), -1000)
    for n, z in enumerate(k):
        hu[:, :, n] = np.rint(tissue + np.roll(noise[n % 8], n, axis=0))
        for label in range(1, len(CLASS_NAMES)):
            x, y, up = 0.5 * np.sin(label), 0.4 * np.cos(2 * label), 0.6 * np.sin(3 * label)
            apart = ((i[:, None] - x) / 0.18) ** 2 + ((j - y) / 0.15) ** 2 + ((z - up) / 0.3) ** 2
            labels[:, :, n][apart < 1] = label
    geometry = Geometry(shape, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0]))
    for name, content in (("imagesTr/case_0000", Volume(hu, geometry)), ("labelsTr/case", LabelMap(labels, geometry))):
        (folder / name).parent.mkdir(parents=True)
        write_nifti(folder / f"{name}.nii.gz", content)
    table = {name: number for number, name in enumerate(CLASS_NAMES)}
    about = {"channel_names": {"0": "CT"}, "labels": table, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def ours(source: Path, store: Path) -> object:
    """The stage that `viscera prepare` calls."""
    return prepare(source, store, PrepareConfig(downsample=FACTOR, test_fraction=0))


def monai(source: Path, cache: Path, setting: str, threads: int) -> object:
    """MONAI's cache on disk of the same case; returns what training would read."""
    from monai import data, transforms  # noqa: PLC0415 - 15 s to import

    torch.set_num_threads(threads)
    both = ["image", "label"]
    load: list[Any] = [transforms.LoadImaged(both)]
    resample: Any = transforms.Spacingd(
        both, pixdim=[FACTOR * each for each in SPACING_MM], mode=("bilinear", "nearest")
    )
    if setting != "documented":
        load = [transforms.LoadImaged("image", dtype=np.float32), transforms.LoadImaged("label", dtype=np.uint8)]
        resample = transforms.Spacingd(
            both, [FACTOR * each for each in SPACING_MM], mode=("bilinear", "nearest"), dtype=np.float32
        )
    if setting == "area":
        shape = np.ceil(np.array(json.loads((source / "shape.json").read_text())) / FACTOR).astype(int).tolist()
        resample = transforms.Resized(both, spatial_size=shape, mode=("area", "nearest"))
    steps = transforms.Compose(
        [*load, transforms.EnsureChannelFirstd(both), transforms.Orientationd(both, axcodes="RAS"), resample]
    )
    files = {"image": source / "imagesTr/case_0000.nii.gz", "label": source / "labelsTr/case.nii.gz"}
    return data.PersistentDataset([files], steps, cache_dir=cache)[0]


def in_a_process(*arguments: str) -> tuple[float, float]:
    """Seconds of a Python command, and the peak GiB of its process."""
    began = time.perf_counter()
    code = (
        "import runpy, sys; from benchmarks.read_dicom_once import peak_gib; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('peak', peak_gib())"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, float(done.stdout.split()[-1])


def seconds_of(run: Callable[[], object], repeats: int = 3) -> float:
    """The least of several."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(min(times), 3)


def unpacking(folder: Path) -> dict[str, float]:
    """Seconds that unpacking the scan takes alone."""
    packed = (folder / "imagesTr/case_0000.nii.gz").read_bytes()
    return {
        "isal, as we do": seconds_of(lambda: igzip.decompress(packed)),
        "zlib, as nibabel does": seconds_of(lambda: gzip.decompress(packed), 1),
    }


def main() -> None:
    """Make the case, time both, and the command in a process of its own."""
    benchmark = Benchmark.of_command_line("prepare", __doc__, ["monai", "nibabel", "isal"])
    shape = (256, 256, 100) if benchmark.quick else (512, 512, 400)
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), count()
        make_case(folder / "source", shape)
        (folder / "source" / "shape.json").write_text(json.dumps(shape), encoding="utf-8")

        def fresh(run: Callable[..., object], *arguments: object) -> Callable[[], object]:
            return lambda: run(folder / "source", folder / f"out{next(numbers)}", *arguments)

        benchmark.time(
            f"prepare_vs_monai_{shape[0]}",
            fresh(ours),
            {
                f"{text}; {threads} threads": fresh(monai, kind, threads)
                for kind, text in KINDS.items()
                for threads in ((PROCESSORS,) if benchmark.quick else (1, PROCESSORS))
            },
            goal=GOAL,
            peer_settings=DOCUMENTED,
            repeats=3,
            seconds_to_unpack_the_scan=unpacking(folder / "source"),
        )
        if not benchmark.quick:
            command_and_memory(benchmark, folder)
    benchmark.write()


def command_and_memory(benchmark: Benchmark, folder: Path) -> None:
    """`viscera prepare` in a process of its own, and its peak memory, also of 1177 slices."""
    command = partial(in_a_process, "viscera.cli", "prepare")
    seconds, peak = command(str(folder / "source"), str(folder / "by_command"), "--test-fraction", "0")
    make_case(folder / "long", (512, 512, 1177))
    long_seconds, long_peak = command(str(folder / "long"), str(folder / "long_store"), "--test-fraction", "0")
    benchmark.notes["command"] = {
        "512×512×400": {"seconds": round(seconds, 2), "peak_gib": round(peak, 2)},
        "512×512×1177": {"seconds": round(long_seconds, 2), "peak_gib": round(long_peak, 2)},
    }


if __name__ == "__main__":
    main()
