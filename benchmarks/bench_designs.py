"""What networks that differ from the paper's cost: a training step and a scan predicted, each beside the paper's.

    python -m benchmarks.bench_designs

Windows of 32³, two a step, 16 filters, four levels, eight classes; seconds of the processor, one thread, in turn. In
float32, each in the layout that is the faster for it; a scan of 64³ in the default mode. A ratio is the paper's
network's median over the other's: below 1 the other takes longer.
"""

import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.bench_diagnostics import CPU, facts
from benchmarks.record import record
from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Feed
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trainer import Trainer
from viscera.imaging.phantom import phantom_case
from viscera.networks.folded_unet3d import FoldedUNet3D

REPEATS = 3
SIZES = {"patch": 32, "batch_size": 2, "filters": 16, "levels": 4, "capture": "never", "precision": "float32"}
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
    torch.set_num_threads(1)
    case = phantom_case(0, 0, (64, 64, 64))
    feed = Feed([(case.volume.hu, case.label_map.labels)] * 2, 32, 2, 0)
    steps: dict[str, dict[str, list[float]]] = {name: {} for name in DESIGNS}
    scans: dict[str, list[float]] = {name: [] for name in DESIGNS}
    trainers = {
        (name, layout): Trainer.create(
            resolve_config(file_values={"train": {**SIZES, "network": design, "memory_layout": layout}}), facts(), CPU
        )
        for name, design in DESIGNS.items()
        for layout in ("channels_last", "channels_first")
    }
    for number in range(REPEATS + 1):
        for (name, layout), trainer in trainers.items():
            seconds = _seconds(lambda trainer=trainer, step=number + 1: trainer.training_step(feed.batch(step)))
            if number:  # the first warms up
                steps[name].setdefault(layout, []).append(seconds)
    for _ in range(REPEATS):
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
    record("designs", {"32_batch_2_filters_16": figures})


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
