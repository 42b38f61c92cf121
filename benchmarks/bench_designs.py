"""What networks that differ from the paper's cost: a training step and a scan predicted, each beside the paper's.

    python -m benchmarks.bench_designs [--quick]

Windows of 32³, two a step, 16 filters, four levels, eight classes; seconds of the processor, one thread, in turn. In
float32, each in the layout that is the faster for it; a scan of 64³ in the default mode. A ratio is the paper's
network's median over the other's: below 1 the other takes longer.

Quick: windows of 16³, 8 filters, a scan of 32³, once.
"""

import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.bench_diagnostics import CPU, facts
from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Feed
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trainer import Trainer
from viscera.imaging.phantom import phantom_case
from viscera.networks.folded_unet3d import FoldedUNet3D

REPEATS, SCAN, QUICK_SCAN = 3, 64, 32
SIZES: dict[str, Any] = {
    "patch": 32,
    "batch_size": 2,
    "filters": 16,
    "levels": 4,
    "capture": "never",
    "precision": "float32",
}
QUICK_SIZES = {**SIZES, "patch": 16, "filters": 8}
DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {},
    "instance": {"normalisation": "instance"},
    "group": {"normalisation": "group"},
    "residual": {"encoder": "residual"},
    "residual_one_block": {"encoder": "residual", "blocks": [1, 1, 1, 1]},
    "thick_slices": {
        "strides": [[2, 2, 1], [2, 2, 2], [2, 2, 2]],
        "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    },
    "deep_supervision": {"deep_supervision": True},
    "dropout": {"dropout": 0.5},
}


def main() -> None:
    """Measure and write `results/designs.json`."""
    quick = is_quick(__doc__)
    torch.set_num_threads(1)
    sizes, edge, repeats = (QUICK_SIZES, QUICK_SCAN, 1) if quick else (SIZES, SCAN, REPEATS)
    patch, batch_size = sizes["patch"], sizes["batch_size"]
    case = phantom_case(0, 0, (edge, edge, edge))
    feed = Feed([(case.volume.hu, case.label_map.labels)] * batch_size, patch, batch_size, 0)
    steps: dict[str, dict[str, list[float]]] = {name: {} for name in DESIGNS}
    scans: dict[str, list[float]] = {name: [] for name in DESIGNS}
    trainers = {
        (name, layout): Trainer.create(
            resolve_config(file_values={"train": {**sizes, "network": design, "memory_layout": layout}}), facts(), CPU
        )
        for name, design in DESIGNS.items()
        for layout in ("channels_last", "channels_first")
    }
    for number in range(repeats + 1):
        for (name, layout), trainer in trainers.items():
            seconds = _seconds(lambda trainer=trainer, step=number + 1: trainer.training_step(feed.batch(step)))
            if number:  # the first warms up
                steps[name].setdefault(layout, []).append(seconds)
    for _ in range(repeats):
        for name in DESIGNS:
            trainer = trainers[name, "channels_last"]
            scans[name].append(_seconds(lambda trainer=trainer: _predicted(trainer, case.volume.hu)))
    best = {name: min(layouts.values(), key=statistics.median) for name, layouts in steps.items()}
    figures = {
        name: {
            "parameters": sum(each.numel() for each in trainers[name, "channels_last"].network.parameters()),
            "step_s": {layout: [round(value, 3) for value in values] for layout, values in steps[name].items()},
            "scan_s": [round(value, 3) for value in scans[name]],
            "step_ratio": _ratio(best["paper"], best[name]),
            "scan_ratio": _ratio(scans["paper"], scans[name]),
        }
        for name in DESIGNS
    }
    size = f"{patch}_batch_{batch_size}_filters_{sizes['filters']}"
    record("designs", {size: figures}, folder=None if quick else RESULTS)


def _predicted(trainer: Trainer, hu: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
    train: TrainConfig = trainer.config.train
    network: torch.nn.Module = trainer.network.eval()
    if train.network.normalises_batches:
        network = FoldedUNet3D(trainer.network)
    predict_probabilities(network, hu, train, PredictConfig(), CPU)
    trainer.network.train()


def _seconds(run: Any) -> float:  # noqa: ANN401 - any call
    started = time.process_time()
    run()
    return time.process_time() - started


def _ratio(paper: list[float], other: list[float]) -> float:
    return round(statistics.median(paper) / statistics.median(other), 3)


if __name__ == "__main__":
    main()
