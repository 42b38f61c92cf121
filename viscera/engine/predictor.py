"""Prediction by sub-volumes, and on the scan's own grid."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import NUM_CLASSES
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import HuArray, LabelMap, Volume
from viscera.engine.hardware import autocast, choose_device, out_of_memory_explained
from viscera.imaging.intensity import AIR_HU, network_input
from viscera.imaging.resample import GridChange, coarsen_volume, restore_labels, restore_probabilities
from viscera.imaging.windows import covering_origins, gaussian_weights
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)
_TOLERATED_RATIO = 1.5  # docs/readings.md, "grid of prediction"


def build_network(config: TrainConfig) -> UNet3D:
    """The network of a configuration, freshly initialised from the global generator.

    Its weights lie channels last: a training step takes 0.82 to 0.96 of the time on a CPU (benchmarks/bench_train.py).
    """
    network = UNet3D(1, NUM_CLASSES, config.filters, config.levels, config.initialisation)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[no-any-return, call-overload]


@torch.no_grad()
def predict_probabilities(
    network: nn.Module, hu: HuArray, train: TrainConfig, predict: PredictConfig, device: torch.device
) -> Tensor:
    """Softmax probabilities (L, I, J, K) float32 on the CPU, of a scan on the network's grid.

    Args:
        network: in evaluation mode, on the device.
        hu: (I, J, K) int16, any size; where it is smaller than the window it is padded with air.
        train: window, intensity and precision.
        predict: sub-volumes or the whole volume at once, overlap and blend.
        device: to compute on.
    """
    padding = [(0, max(0, train.patch - n)) for n in hu.shape]
    volume = torch.from_numpy(np.pad(hu, padding, constant_values=AIR_HU))

    def forward(windows_BIJK: Tensor) -> Tensor:
        x = network_input(windows_BIJK.to(device), train.intensity)
        with autocast(device, train.precision):
            logits = network(x)
        return torch.softmax(logits.float(), dim=1).cpu()

    i, j, k = hu.shape
    if predict.mode == "whole_volume":
        return forward(volume.unsqueeze(0))[0, :, :i, :j, :k]

    window = (train.patch,) * 3
    weight = torch.from_numpy(gaussian_weights(window)) if predict.blend == "gaussian" else torch.ones(window)
    total = torch.zeros((NUM_CLASSES, *volume.shape))
    weight_sum = torch.zeros(volume.shape)
    origins = covering_origins(volume.shape, window, predict.overlap)
    for first in range(0, len(origins), predict.batch_windows):
        places = [
            tuple(slice(at, at + n) for at, n in zip(origin, window, strict=True))
            for origin in origins[first : first + predict.batch_windows]
        ]
        probabilities = forward(torch.stack([volume[place] for place in places]))
        for place, probability in zip(places, probabilities, strict=True):
            total[(slice(None), *place)] += probability * weight
            weight_sum[place] += weight
    return total.div_(weight_sum)[:, :i, :j, :k]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model that answers on the scan's own grid: `predictor(volume)`.

    Attributes:
        network: in evaluation mode.
        checkpoint: its weights, configuration and training spacings.
        config: how to predict.
        device: to compute on.
    """

    network: UNet3D
    checkpoint: Checkpoint
    config: PredictConfig
    device: torch.device

    @classmethod
    def load(cls, run: str | Path, config: PredictConfig | None = None, device: str = "auto") -> "Predictor":
        """From a Run's folder alone; without `config`, predict as the Run's own configuration says.

        Raises:
            BadInputError: no run, no such checkpoint in it, or a damaged one.
        """
        folder = RunFolder(Path(run))
        if not folder.path.is_dir():
            raise BadInputError(f"{run}: there is no such run. Make one with `viscera train`.")
        checkpoint = None
        if config is None:
            checkpoint = load_checkpoint(folder.last)
            config = checkpoint.config.predict
        if checkpoint is None or config.checkpoint == "best":
            checkpoint = load_checkpoint(folder.best if config.checkpoint == "best" else folder.last)
        return cls.from_checkpoint(checkpoint, config, device)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, config: PredictConfig, device: str = "auto") -> "Predictor":
        """From a checkpoint in memory."""
        on = choose_device(device)
        network = build_network(checkpoint.config.train)
        network.load_state_dict(checkpoint.model)
        return cls(network.to(on).eval(), checkpoint, config, on)

    @property
    def trained_with(self) -> Config:
        """The configuration of the training."""
        return self.checkpoint.config

    def __call__(self, volume: Volume) -> LabelMap:
        """Segment a scan: (I, J, K) labels on the grid and in the voxel order of the input."""
        order = AxisOrder.to_canonical(volume.geometry)
        canonical = volume.canonical()
        change = self.change_for(canonical.geometry)
        restored = self.predict_prepared(coarsen_volume(canonical, change).hu, change)
        return LabelMap(np.ascontiguousarray(order.undo(restored.labels)), volume.geometry)

    def predict_prepared(self, hu: HuArray, change: GridChange) -> LabelMap:
        """Segment a scan that is on the network's grid already.

        Args:
            hu: (I, J, K) int16 on `change.coarse`.
            change: from the scan's canonical grid to that one.

        Returns:
            Labels on `change.fine`.
        """
        with out_of_memory_explained("Lower predict.batch_windows, or predict by sub-volumes."):
            probabilities = predict_probabilities(self.network, hu, self.trained_with.train, self.config, self.device)
            if self.config.restore == "probabilities":
                return restore_probabilities(probabilities, change)
            labels = probabilities.argmax(dim=0).to(torch.uint8).numpy()
            return restore_labels(labels, change)

    def change_for(self, geometry: Geometry) -> GridChange:
        """From a scan's canonical grid to the network's (`predict.grid`)."""
        change = GridChange.prepared(geometry, self.trained_with.prepare)
        trained = np.array(self.checkpoint.training_spacings_mm)
        at = np.array(change.coarse.spacing_mm)
        unlike = (at * _TOLERATED_RATIO < trained.min(axis=0)) | (at > trained.max(axis=0) * _TOLERATED_RATIO)
        if self.config.grid == "prepared" or (self.config.grid == "auto" and not unlike.any()):
            return change
        median = np.median(trained, axis=0)
        if self.config.grid == "auto":
            log.warning(
                "The scan would come out at %s mm, the model was trained at %s mm: resampled to that instead.",
                "×".join(f"{x:.3g}" for x in at),
                "×".join(f"{x:.3g}" for x in median),
            )
        return GridChange.to_spacing(geometry, median)
