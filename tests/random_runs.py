"""Runs whose networks have random weights: many designs and settings without a training, and labels of every class."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from viscera.core.config import TrainConfig
from viscera.core.resolve import resolve_config
from viscera.engine.trained_model import build_network
from viscera.io.checkpoint import load_checkpoint, save_checkpoint

TRAIN: dict[str, Any] = {"filters": 4, "levels": 3, "patch": 8, "device": "cpu", "precision": "float32"}
Spacing = tuple[float, float, float]


def random_weights(train: TrainConfig, classes: int, seed: int) -> dict[str, torch.Tensor]:
    """Of a network of that configuration, with batch statistics as if it had been trained."""
    torch.manual_seed(seed)
    network = build_network(train, classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
    nn.init.normal_(network.head.weight, std=2)
    return network.state_dict()


def random_run(
    like: Path,
    run: Path,
    settings: Mapping[str, Any] | None = None,  # of train; or by dotted key
    *,
    seed: int = 0,
    spacings_mm: tuple[Spacing, ...] = ((4.0, 4.0, 5.0), (4.2, 4.1, 5.0)),
) -> Path:
    """A run, otherwise like another, with these settings; its scans were halved."""
    options = {f"train.{key}": value for key, value in TRAIN.items()} | {"prepare.downsample": 2}
    options |= {key if "." in key else f"train.{key}": value for key, value in (settings or {}).items()}
    config = resolve_config(options=options)
    checkpoint = load_checkpoint(like / "last.pt")
    weights = random_weights(config.train, len(checkpoint.classes), seed)
    run.mkdir(parents=True)
    made = replace(checkpoint, model=weights, optimizer={}, config=config, training_spacings_mm=spacings_mm)
    save_checkpoint(run / "last.pt", made)
    return run
