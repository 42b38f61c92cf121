"""Peak memory and time of the whole command `viscera predict`, as scans grow; and the memory of MONAI's pipeline.

    python -m benchmarks.bench_scale [--quick]

Each figure is of a process of its own, from start to end, by the operating system (`ru_maxrss`): imports, reading,
network, restoring, measuring and writing. The scan is a phantom of half the resolution, whose voxels are repeated, with
new noise in every slice, and which goes on upside down where it ends. The network is a very small one, trained for a
moment; `paper` is one of the paper's width in bfloat16, with as large an optimiser in its checkpoint, that computes the
same: its other weights are 0. At `downsample 1` the paper's width would take an hour for the whole scan: it gets the
first slices, and what the other voxels take (HU and label, 3 bytes) is added. MONAI's pipeline has the small network,
its documented transforms, and the label map, not the probabilities, brought back.
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
from torch import Tensor, nn

from benchmarks.pairs import Benchmark
from viscera.core.geometry import Geometry, Index3
from viscera.core.resolve import resolve_config
from viscera.engine.trained_model import build_network
from viscera.imaging.phantom import phantom_case
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
from viscera.stages.train import train

SPACING_MM = 0.75
GOAL_GIB = 2.0
BYTES_PER_VOXEL = 3  # HU and a label
MOST_TIME = 2.1  # of a scan with twice the slices
PUBLISHED = {  # not measured here
    "TotalSegmentator v3, 512×512×807": {
        "memory_gb": [8.6, 8.8],
        "cpu_s": {"default": 872, "small": 313, "--fast": 57},
        "source": "as given when this was set as the goal, November 2026; where it is published was not found",
    },
    "MONAI, slab-wise argmax": {
        "memory_gb": 7.7,
        "of": "100 classes, 384³ voxels, patches of 128³, memory of the GPU",
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


class How(NamedTuple):
    """What the network is given of a scan, and which network."""

    downsample: int
    is_paper: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    spacing_mm: float | None = None  # resampled to that instead


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
    }
    options |= {"train.patch": 16, "train.batch_size": 2, "train.iterations": 100, "train.learning_rate": 0.01}
    config = resolve_config(options=options | {"train.device": "cpu", "train.precision": "float32"})
    prepare(folder / "phantom", folder / "store", config.prepare)
    train(folder / "store", folder / "run", config)
    return folder / "run"


def widened(small: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights of a wide network that computes what a narrow one does, in the first channels of each layer."""
    wide = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for name, value in small.items():
        into = wide[name]
        if name.startswith("merge.") and name.endswith(".0.weight"):  # reads skipped and raised maps, one after another
            skipped, from_raised = value.shape[0], into.shape[0]
            into[:skipped, from_raised : from_raised + value.shape[1] - skipped] = value[:, skipped:]
            value, into = value[:, :skipped], into[:, :from_raised]  # noqa: PLW2901 - the rest of it
        into[tuple(slice(n) for n in value.shape)] = value
    return wide


def run_for(run: Path, how: How) -> Path:
    """The same run as if it had been trained so."""
    found = load_checkpoint(run / "last.pt")
    options: dict[str, Any] = {
        "prepare.downsample": how.downsample,
        "train.patch": 64,
        "train.filters": 32 if how.is_paper else 2,
        "train.device": "cpu",
        "train.precision": "bfloat16" if how.is_paper else "float32",
        "predict.grid": "spacing" if how.spacing_mm else "prepared",
    }
    config = resolve_config(options=options | dict(how.options))
    network = build_network(config.train)
    changed = replace(
        found, config=config, training_spacings_mm=((how.spacing_mm or SPACING_MM * how.downsample,) * 3,)
    )
    if how.is_paper:
        moments = {number: {"exp_avg": p.data, "exp_avg_sq": p.data} for number, p in enumerate(network.parameters())}
        changed = replace(changed, model=widened(found.model, network), optimizer={"state": moments})
    folder = Path(tempfile.mkdtemp(prefix="run_", dir=run.parent))
    save_checkpoint(folder / "last.pt", changed)
    return folder


def predicted(run: Path, scan: Path) -> Cost:
    """The whole command."""
    out = run.parent / "out" / f"{run.name}_{scan.name}"
    return cost_of(sys.executable, "-m", "viscera.cli", "predict", run, scan, out, "--quiet")


def monai(settings: str, run: Path, scan: Path, out: Path) -> None:
    """What MONAI's documentation arranges for this, with the network of a run; in a process of its own."""
    t: Any = importlib.import_module("monai.transforms")
    inferers: Any = importlib.import_module("monai.inferers")
    checkpoint = load_checkpoint(run / "last.pt")
    network = build_network(checkpoint.config.train).eval()
    network.load_state_dict(checkpoint.model)
    to_spacing: dict[str, Any] = {"pixdim": checkpoint.training_spacings_mm[0], "mode": "bilinear"}
    inferer: dict[str, Any] = {"roi_size": (64,) * 3, "sw_batch_size": 4, "overlap": 0.25, "mode": "gaussian"}
    if settings != "default":
        to_spacing["dtype"] = torch.float32  # float64 by default
        inferer |= {"sw_batch_size": 1, "buffer_steps": 4, "buffer_dim": -1}
    before = t.Compose(
        [
            *(t.LoadImaged("image"), t.EnsureChannelFirstd("image")),
            *(t.Orientationd("image", axcodes="RAS", labels=None), t.Spacingd("image", **to_spacing)),
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
        data["pred"] = inferers.SlidingWindowInferer(**inferer)(data["image"].unsqueeze(0), network)[0]
    after(data)


MONAI = {  # what else was done to lower its memory
    "default": "RAS, 3 mm, roi 64, overlap 0.25, gaussian, 4 patches per pass, argmax before Invertd nearest",
    "lean": "the same, Spacingd in float32 (not float64), 1 patch per pass, buffer_steps 4 along the last axis",
}


def measure(benchmark: Benchmark, folder: Path) -> None:
    """All figures."""
    run = small_run(folder)
    paths: dict[Index3, Path] = {}

    def cost(how: How, shape: Index3) -> dict[str, float]:
        if shape not in paths:
            paths[shape] = folder / f"ct_{'_'.join(map(str, shape))}.nii.gz"
            write_scan(paths[shape], shape)
        found = predicted(run_for(run, how), paths[shape])._asdict()
        print("×".join(map(str, shape)), how, found)
        if not benchmark.quick:
            benchmark.write(complete=False)
        return found

    most = 128 if benchmark.quick else 1177
    native: Index3 = (512, 512, most)
    paper, by_sub_volumes = How(4, not benchmark.quick), ("predict.mode", "sub_volumes")
    without_overlap = (by_sub_volumes, ("predict.overlap", 0.0))
    is_cleaned = (by_sub_volumes, ("predict.cleanup.largest_component", ("all",)))
    half, whole = (cost(paper, (512, 512, slices)) for slices in ((most + 1) // 2, most))
    benchmark.notes["twice_the_slices"] = {
        "slices": [(most + 1) // 2, most],
        "times_the_cpu_time": round(whole["cpu_s"] / half["cpu_s"], 2),
        "goal": MOST_TIME,
        "of": "the whole command; auto, downsample 4, " + ("small network" if benchmark.quick else "the paper's width"),
    }
    largest: dict[str, Any] = {"goal_gib": GOAL_GIB, "auto, half the slices": half, "auto": whole}
    benchmark.notes[f"512×512×{most}"] = largest
    if not benchmark.quick:
        largest["sub_volumes without overlap"] = cost(How(4, True, without_overlap), native)
        largest["small network, sub_volumes, cleaned"] = cost(How(4, options=is_cleaned), native)
        first = cost(How(1, True, without_overlap), (512, 512, 64))
        added = BYTES_PER_VOXEL * 512 * 512 * (most - 64) / 2**30
        estimated = {"estimated_peak_gib": round(first["peak_gib"] + added, 3), "of_64_slices": first}
        largest["sub_volumes without overlap, downsample 1"] = estimated
    benchmark.notes["published_not_measured_here"] = PUBLISHED
    of_peer: Index3 = (512, 512, most if benchmark.quick else 400)
    how = How(4, spacing_mm=3.0)
    ours, at = cost(how, of_peer), run_for(run, how)
    peers = {
        name: cost_of(sys.executable, "-m", "benchmarks.bench_scale", "monai", name, at, paths[of_peer], folder / name)
        for name in (["default"] if benchmark.quick else MONAI)
    }
    best = min(peers, key=lambda name: peers[name].peak_gib)
    benchmark.pair(
        "predict_memory_vs_monai",
        ours["peak_gib"],
        peers[best].peak_gib,
        goal=2,
        unit="GiB",
        peer_settings=MONAI[best],
        seconds={"ours": ours["seconds"], "peer": peers[best].seconds},
        other_settings_of_the_peer={MONAI[name]: peer.peak_gib for name, peer in peers.items() if name != best},
    )


def main() -> None:
    """Measure and record; or be MONAI's process."""
    warnings.simplefilter("ignore")  # of the peer, about itself
    if sys.argv[1:2] == ["monai"]:
        monai(sys.argv[2], *map(Path, sys.argv[3:6]))
        return
    benchmark = Benchmark.of_command_line("scale", __doc__, peers=["monai", "nibabel"])
    with tempfile.TemporaryDirectory() as folder:
        measure(benchmark, Path(folder))
    benchmark.write()


if __name__ == "__main__":
    main()
