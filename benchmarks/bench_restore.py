"""Back to the scan's grid: time, and the peak memory of `predict` on a scan of 512×512×600 voxels.

    python -m benchmarks.bench_restore [--quick]

Beside it, in the same run, what was there before: dense matrices along each axis, on the probabilities of the whole
network's grid. The network is an exact function of HU that costs next to nothing; without downsampling its windows do
not overlap, to save time. Times are CPU times; each peak is that of a process of its own, which reads the scan and
writes the label map.

Quick: a scan of 128×128×150 voxels, no factor of 4, one repeat. Peaks are then mostly those of the imports.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.quick import parser_of
from benchmarks.record import RESULTS, record
from viscera.core.anatomy import ABDOMEN, NUM_CLASSES
from viscera.core.config import Config
from viscera.core.geometry import Geometry, Index3
from viscera.core.machine_limits import peak_memory
from viscera.core.resolve import resolve_config
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.engine import trained_model
from viscera.engine.sliding_window import probability_planes
from viscera.engine.trained_model import Model
from viscera.imaging.resample import GridChange, restore_labels, restore_planes, restored_planes
from viscera.io.checkpoint import Checkpoint, save_checkpoint
from viscera.io.nifti import write_nifti
from viscera.stages.predict import predict

SPACING_MM = (0.8, 0.8, 1.0)
ORGANS = (  # centre and radii as shares of the scan's edges
    ((0.50, 0.45, 0.50), (0.02, 0.02, 0.45)),
    ((0.45, 0.50, 0.55), (0.10, 0.02, 0.04)),
    ((0.32, 0.55, 0.65), (0.17, 0.18, 0.15)),
    ((0.73, 0.42, 0.66), (0.07, 0.09, 0.09)),
    ((0.63, 0.58, 0.62), (0.10, 0.10, 0.10)),
    ((0.38, 0.63, 0.55), (0.03, 0.04, 0.05)),
    ((0.54, 0.53, 0.52), (0.12, 0.03, 0.05)),
)


class Size(NamedTuple):
    """How much is measured."""

    scan: Index3
    timed: Index3  # what is restored alone
    factors: tuple[int, ...]
    repeats: int


FULL = Size((512, 512, 600), (512, 512, 200), (1, 2, 4), 3)
QUICK = Size((128, 128, 150), (128, 128, 50), (1, 2), 1)


class Levels(nn.Module):
    """The class whose HU level, evenly spaced from -500 to 500, is closest."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, I, J, K) to logits (B, 8, I, J, K)."""
        return torch.cat([-200 * (x - label / 7) ** 2 for label in range(NUM_CLASSES)], dim=1)

    def load_state_dict(self, *_: object) -> None:
        """It has no weights."""


def organs(shape: Index3) -> LabelArray:
    """Ellipsoids, as large as organs and where they lie."""
    labels = np.zeros(shape, dtype=np.uint8, order="F")
    i, j, k = (np.linspace(0, 1, n) for n in shape)
    for label, (centre, radii) in enumerate(ORGANS, start=1):
        x, y, z = (((at - c) / r) ** 2 for at, c, r in zip((i, j, k), centre, radii, strict=True))
        for plane in np.flatnonzero(z < 1):
            labels[:, :, plane][x[:, None] + y[None, :] + z[plane] < 1] = label
    return labels


def make_input(folder: Path, size: Size) -> None:
    """A scan, and a run for each factor."""
    levels = np.rint(-500 + 1000 * np.arange(NUM_CLASSES) / 7).astype(np.int16)
    write_nifti(folder / "ct.nii.gz", Volume(levels[organs(size.scan)], Geometry.from_spacing(size.scan, SPACING_MM)))
    for factor in size.factors:
        options = {"prepare.downsample": factor, "predict.grid": "prepared", "train.device": "cpu"}
        (folder / f"run_{factor}").mkdir()
        save_checkpoint(folder / f"run_{factor}" / "last.pt", _checkpoint(resolve_config(options=options)))


def _checkpoint(config: Config) -> Checkpoint:
    ones = torch.ones(NUM_CLASSES)
    return Checkpoint({}, {}, 0, ones.long(), ones.double(), config, ABDOMEN, (SPACING_MM,))


# ------------------------------------------------------------------------------------------ as it was before


def dense_planes(probabilities_LIJK: Tensor, change: GridChange) -> Iterable[Tensor]:
    """(L, I, J) on the fine grid, by a dense matrix along each axis."""
    coarse, fine = change.coarse.shape, change.fine.shape
    i, j, k = (_interpolation(n, m, 1 / f) for n, m, f in zip(coarse, fine, change.factors, strict=True))
    for at in range(fine[2]):
        if change.coarse.shape == change.fine.shape:
            yield probabilities_LIJK[..., at]
            continue
        plane = torch.tensordot(probabilities_LIJK, k[at : at + 1], dims=([3], [1])).movedim(-1, 3)
        plane = torch.tensordot(plane, i, dims=([1], [1])).movedim(-1, 1)
        yield torch.tensordot(plane, j, dims=([2], [1])).movedim(-1, 2)[..., 0]


def _interpolation(num_in: int, num_out: int, factor: float) -> Tensor:
    """(out, in) weights of linear interpolation, as a dense matrix."""
    centre = np.clip((np.arange(num_out)[:, None] + 0.5) * factor - 0.5, 0, num_in - 1)
    weights = np.clip(1 - np.abs(centre - np.arange(num_in)[None, :]), 0, None)
    return torch.from_numpy(weights.astype(np.float32))


def dense_restored(probabilities_LIJK: Tensor, change: GridChange) -> LabelMap:
    """The most probable class on the fine grid."""
    labels = np.empty(change.fine.shape, dtype=np.uint8)
    for at, plane in enumerate(dense_planes(probabilities_LIJK, change)):
        labels[:, :, at] = plane.argmax(dim=0).to(torch.uint8).numpy()
    return LabelMap(labels, change.fine)


def labels_before(model: Model, hu: HuArray, change: GridChange, *_: object) -> LabelArray:
    """`Model.labels` with the probabilities of the whole grid."""
    train, config, device = model.trained_with.train, model.config, model.device
    probabilities = torch.empty((NUM_CLASSES, *hu.shape))
    for k, plane in enumerate(probability_planes(model.network, hu, train, config, device)):
        probabilities[..., k] = plane
    if config.restore == "probabilities":
        return dense_restored(probabilities, change).labels
    return restore_labels(probabilities.argmax(dim=0).to(torch.uint8).numpy(), change).labels


# ------------------------------------------------------------------------------------------ what is measured


def measure_predict(folder: Path, factor: int, restore: str, version: str) -> dict[str, float]:
    """CPU seconds and peak memory of predicting the scan, in this process."""
    overlap = 0.5 if factor > 1 else 0
    options = {"predict.restore": restore, "predict.grid": "prepared", "predict.overlap": overlap}
    config = resolve_config(options=options).predict
    started = time.process_time()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(trained_model, "build_network", return_value=Levels()))
        stack.enter_context(mock.patch.object(trained_model, "FoldedUNet3D", lambda network, _: network))
        if version == "before":
            stack.enter_context(mock.patch.object(Model, "labels", labels_before))
        out = folder / f"{version}_{factor}_{restore}.nii.gz"
        predict(folder / f"run_{factor}", folder / "ct.nii.gz", out, config)
    peak = peak_memory()
    return {"cpu_s": round(time.process_time() - started, 1), "peak_mib": round(peak / 2**20)}


def measure_restoring(factor: int, size: Size) -> dict[str, Any]:
    """CPU seconds of restoring alone, now and before, taken in turn."""
    change = GridChange.by_factor(Geometry.from_spacing(size.timed, SPACING_MM), (factor,) * 3)
    labels = torch.from_numpy(np.array(organs(change.coarse.shape), order="C"))
    one_hot = torch.stack([labels == label for label in range(NUM_CLASSES)]).float()
    planes = [plane.contiguous() for plane in one_hot.unbind(-1)]
    argmax = labels.numpy()

    return {
        "labels_of_probabilities": in_turn(
            lambda: restore_planes(planes, change), lambda: dense_restored(one_hot, change), size.repeats
        ),
        "probabilities_for_fusion": in_turn(
            lambda: sum(1 for _ in restored_planes(planes, change)),
            lambda: sum(1 for _ in dense_planes(one_hot, change)),
            size.repeats,
        ),
        "labels_now_s": [cpu_seconds(lambda: restore_labels(argmax, change)) for _ in range(size.repeats)],
    }


def in_turn(now: Callable[[], object], before: Callable[[], object], repeats: int) -> dict[str, Any]:
    """CPU seconds of both, taken in turn, and the ratio of the medians."""
    pairs = [(cpu_seconds(now), cpu_seconds(before)) for _ in range(repeats)]
    seconds_now, seconds_before = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio = statistics.median(seconds_before) / statistics.median(seconds_now)
    return {"now_s": seconds_now, "before_s": seconds_before, "before_over_now": round(ratio, 1)}


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU time of a call."""
    started = time.process_time()
    function()
    return round(time.process_time() - started, 2)


def in_own_process(size: Size, *arguments: object) -> dict[str, Any]:
    """What a part of this benchmark returns, run by itself."""
    quick = ["--quick"] if size == QUICK else []
    command = [sys.executable, "-m", "benchmarks.bench_restore", *map(str, arguments), *quick]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout or "{}")
    return result


def measure_all(size: Size) -> dict[str, Any]:
    """Everything, each part in a process of its own: none inherits the peak of another."""
    figures: dict[str, Any] = {"scan": size.scan, "restoring_alone_on": size.timed}
    with tempfile.TemporaryDirectory() as temporary:
        in_own_process(size, "make", temporary)
        for factor in size.factors:
            for restore in ("probabilities", "labels") if factor > 1 else ("probabilities",):
                pair = {
                    version: in_own_process(size, "predict", temporary, factor, restore, version)
                    for version in ("now", "before")
                }
                figures[f"predict_downsample_{factor}_{restore}"] = pair
    for factor in size.factors[1:]:
        figures[f"restoring_downsample_{factor}"] = in_own_process(size, "restore", factor)
    return figures


def main() -> None:
    """Measure and record; with arguments, one part of it as JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("part", nargs="*", help="for the processes that this one starts")
    given = parser.parse_args()
    part, *arguments = given.part or ["all"]
    size = QUICK if given.quick else FULL
    torch.set_num_threads(1)
    if part == "make":
        make_input(Path(arguments[0]), size)
    elif part == "predict":
        print(json.dumps(measure_predict(Path(arguments[0]), int(arguments[1]), arguments[2], arguments[3])))
    elif part == "restore":
        print(json.dumps(measure_restoring(int(arguments[0]), size)))
    elif part == "all":
        record("restore", measure_all(size), folder=None if given.quick else RESULTS)
    else:
        parser.error(f"there is no part {part}: make, predict and restore are")


if __name__ == "__main__":
    main()
