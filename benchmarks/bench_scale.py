"""Peak memory and time of the whole command `viscera predict`, as scans grow; and the memory of MONAI's pipeline.

    python -m benchmarks.bench_scale [--quick]

Each figure is of a process of its own, from start to end, by the operating system (`ru_maxrss`): imports, reading,
network, restoring, measuring and writing. The scan is a phantom of half the resolution, whose voxels are repeated, with
new noise in every slice, and which goes on upside down where it ends. The network is a very small one, trained for a
moment: what grows with the scan is all but the network, and `network_32_filters` says what the paper's adds. MONAI's
pipeline has the same network, its documented transforms, and the label map, not the probabilities, brought back.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from isal import igzip

from benchmarks.pairs import Benchmark
from viscera.core.geometry import Geometry, Index3
from viscera.core.resolve import resolve_config
from viscera.engine.predictor import build_network
from viscera.imaging.phantom import phantom_case
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
from viscera.stages.train import train

SPACING_MM = 0.75
GOAL_GIB = 2.0
MOST_TIME = 2.1  # of a scan with twice the slices
PUBLISHED = {  # not measured here
    "TotalSegmentator v3, 512×512×807": {
        "memory_gb": [8.6, 8.8],
        "cpu_s": {"default": 872, "small": 313, "--fast": 57},
        "source": "as given when this was set as the goal, November 2026; where it is published was not found",
    },
    "MONAI, slab-wise argmax": {
        "memory_gb": 7.7,
        "of": "100 classes, 384³ voxels, windows of 128³, memory of the GPU",
        "source": "https://github.com/Project-MONAI/MONAI/pull/9071, of 2026-08-25, open",
    },
}
_MEASURED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_maxrss, time.perf_counter() - started, used.ru_utime + used.ru_stime]))
"""


class Cost(NamedTuple):
    """Of one command."""

    peak_gib: float
    seconds: float
    cpu_s: float


class Grid(NamedTuple):
    """What the network is given of a scan."""

    downsample: int
    spacing_mm: float | None = None  # resampled to that instead
    cleanup: bool = False


def cost_of(*command: object) -> Cost:
    """Run a command. A small process starts it: memory of this one would count as the command's."""
    given = [sys.executable, "-S", "-c", _MEASURED, *map(str, command)]
    code, peak_kib, seconds, cpu_s = json.loads(subprocess.run(given, check=True, capture_output=True).stdout)
    if code:
        raise RuntimeError(f"{command[0]} ended with {code}")
    return Cost(round(peak_kib / 2**20, 3), round(seconds, 1), round(cpu_s, 1))


def write_scan(path: Path, shape: Index3) -> None:
    """A scan of the phantom as large as wanted."""
    i, j, k = shape
    half = phantom_case(7, 0, (i // 2, j // 2, max(i, 3 * k // 4) // 3)).volume.hu
    there_and_back = [*range(half.shape[2]), *reversed(range(half.shape[2]))]
    header, geometry = nib.Nifti1Header(), Geometry.from_spacing(shape, (SPACING_MM,) * 3)
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(geometry.affine, code="scanner")
    header.set_qform(geometry.affine, code="scanner")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    random = np.random.default_rng(0)
    with igzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for at in range(k):
            plane = half[:, :, there_and_back[at // 2 % len(there_and_back)]].repeat(2, axis=0).repeat(2, axis=1)
            file.write((plane + random.integers(-12, 13, (i, j), dtype=np.int16)).T.tobytes())


def small_run(folder: Path) -> Path:
    """A small network, trained for a moment."""
    make_phantoms(folder / "phantom", 2, 1, (48, 48, 36))
    options: dict[str, Any] = {
        "prepare.downsample": 1,
        "prepare.test_fraction": 0,
        "train.filters": 2,
        "train.levels": 3,
    }
    options |= {"train.patch": 16, "train.batch_size": 2, "train.iterations": 100, "train.learning_rate": 0.01}
    config = resolve_config(options=options | {"train.device": "cpu", "train.precision": "float32"})
    prepare(folder / "phantom", folder / "store", config.prepare)
    train(folder / "store", folder / "run", config)
    return folder / "run"


def run_for(run: Path, grid: Grid, filters: int | None = None) -> Path:
    """The same run as if it had been trained on that grid; with so many filters it is untrained."""
    found = load_checkpoint(run / "last.pt")
    organs = ("all",) if grid.cleanup else ()
    options: dict[str, Any] = {
        "prepare.downsample": grid.downsample,
        "train.patch": 64,
        "train.filters": filters or 2,
        "train.levels": 4 if filters else 3,
        "train.device": "cpu",
        "train.precision": "float32",
        "predict.grid": "spacing" if grid.spacing_mm else "prepared",
        "predict.overlap": 0.0 if grid.downsample == 1 else 0.5,
        "predict.cleanup.largest_component": organs,
        "predict.cleanup.fill_holes": organs,
    }
    config = resolve_config(options=options)
    model = build_network(config.train).state_dict() if filters else found.model
    spacing_mm = grid.spacing_mm or SPACING_MM * grid.downsample
    folder = run.parent / f"run_{grid.downsample}_{grid.spacing_mm}_{grid.cleanup}_{filters}"
    folder.mkdir()
    changed = replace(found, model=model, config=config, training_spacings_mm=((spacing_mm,) * 3,))
    save_checkpoint(folder / "last.pt", changed)
    return folder


def predicted(run: Path, scan: Path) -> Cost:
    """The whole command."""
    out = run.parent / "out" / f"{run.name}_{scan.name}"
    return cost_of(sys.executable, "-m", "viscera.cli", "predict", run, scan, out, "--quiet")


def monai(run: Path, scan: Path, out: Path) -> None:
    """What MONAI's documentation arranges for this, with the network of a run; in a process of its own."""
    t: Any = importlib.import_module("monai.transforms")
    inferers: Any = importlib.import_module("monai.inferers")
    checkpoint = load_checkpoint(run / "last.pt")
    network = build_network(checkpoint.config.train).eval()
    network.load_state_dict(checkpoint.model)
    spacing_mm = checkpoint.training_spacings_mm[0]
    before = t.Compose(
        [
            *(t.LoadImaged("image"), t.EnsureChannelFirstd("image")),
            *(t.Orientationd("image", axcodes="RAS", labels=None), t.Spacingd("image", spacing_mm, mode="bilinear")),
            t.ScaleIntensityRanged("image", a_min=-500, a_max=500, b_min=0, b_max=1, clip=True),
        ]
    )
    after = t.Compose(
        [
            t.AsDiscreted("pred", argmax=True),
            t.Invertd("pred", transform=before, orig_keys="image", nearest_interp=True),
            t.SaveImaged("pred", output_dir=out, output_dtype=np.uint8, resample=False, print_log=False),
        ]
    )
    data = before({"image": str(scan)})
    with torch.inference_mode():
        data["pred"] = inferers.SlidingWindowInferer((64,) * 3, 4, 0.25, mode="gaussian")(
            data["image"].unsqueeze(0), network
        )[0]
    after(data)


def measure(benchmark: Benchmark, folder: Path) -> None:
    """All figures."""
    run = small_run(folder)

    def scan_of(shape: Index3) -> Path:
        return folder / f"ct_{'_'.join(map(str, shape))}.nii.gz"

    edges, most = ((128,), 128) if benchmark.quick else ((128, 256), 1177)
    shapes: list[Index3] = [*((n, n, 128) for n in edges), (512, 512, (most + 1) // 2), (512, 512, most)]
    grids = {"downsample_4": Grid(4)}
    if not benchmark.quick:
        shapes.append((512, 512, 400))
        grids |= {"downsample_4_cleaned": Grid(4, cleanup=True), "downsample_1": Grid(1), "spacing_0.8": Grid(1, 0.8)}
    for shape in shapes:
        write_scan(scan_of(shape), shape)
    runs = {name: run_for(run, grid) for name, grid in grids.items()}
    costs = {"×".join(map(str, shape)): predicted(runs["downsample_4"], scan_of(shape))._asdict() for shape in shapes}
    half, whole = (costs["×".join(map(str, shape))]["cpu_s"] for shape in shapes[len(edges) : len(edges) + 2])
    benchmark.notes["by_size_at_downsample_4"] = costs
    benchmark.notes["twice_the_slices"] = {"times_the_cpu_time": round(whole / half, 2), "goal": MOST_TIME}
    largest = scan_of((512, 512, most))
    others: dict[str, Any] = {
        name: predicted(runs[name], largest)._asdict() for name in grids if name != "downsample_4"
    }
    if not benchmark.quick:
        paper = predicted(run_for(run, Grid(8), filters=32), scan_of((512, 512, 400)))
        others["network_32_filters, 512×512×400 at downsample 8"] = paper._asdict()
    benchmark.notes[f"512×512×{most}"] = {"goal_gib": GOAL_GIB, **others}
    benchmark.notes["published_not_measured_here"] = PUBLISHED
    same = scan_of((512, 512, most if benchmark.quick else 400))
    on_3_mm = run_for(run, Grid(4, 3.0))
    ours = predicted(on_3_mm, same)
    peer = cost_of(sys.executable, "-m", "benchmarks.bench_scale", "monai", on_3_mm, same, folder / "monai")
    settings = "RAS, 3 mm, roi 64, overlap 0.25, gaussian, argmax, Invertd nearest"
    seconds = {"ours": ours.seconds, "peer": peer.seconds}
    benchmark.pair(
        "predict_memory_vs_monai",
        ours.peak_gib,
        peer.peak_gib,
        goal=2,
        unit="GiB",
        peer_settings=settings,
        seconds=seconds,
    )


def main() -> None:
    """Measure and record; or be MONAI's process."""
    warnings.simplefilter("ignore")  # of the peer, about itself
    if sys.argv[1:2] == ["monai"]:
        monai(*map(Path, sys.argv[2:5]))
        return
    benchmark = Benchmark.of_command_line("scale", __doc__, peers=["monai", "nibabel"])
    with tempfile.TemporaryDirectory() as folder:
        measure(benchmark, Path(folder))
    benchmark.write()


if __name__ == "__main__":
    main()
