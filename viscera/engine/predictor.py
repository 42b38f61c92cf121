"""Prediction by sub-volumes, and on the scan's own grid."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import NUM_CLASSES, ClassTable
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.engine.fusion import FusionRule, combine, distinct_models
from viscera.engine.hardware import autocast, choose_device, out_of_memory_explained
from viscera.imaging.cleanup import cleaned, organs_named
from viscera.imaging.intensity import AIR_HU, network_input
from viscera.imaging.resample import GridChange, coarsen_volume, restore_labels, restore_probabilities, restored_slabs
from viscera.imaging.windows import covering_origins, gaussian_weights
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.fusion import FusionRecord
from viscera.io.runlog import RunFolder
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)
_LESS_MEMORY = "Lower predict.batch_windows, or predict by sub-volumes."
_TOLERATED_RATIO = 1.5  # docs/readings.md, "grid of prediction"


def build_network(config: TrainConfig, num_classes: int = NUM_CLASSES) -> UNet3D:
    """The network of a configuration, freshly initialised from the global generator.

    Its weights lie channels last: a training step takes 0.82 to 0.96 of the time on a CPU (benchmarks/bench_train.py).
    """
    network = UNet3D(1, num_classes, config.filters, config.levels, config.initialisation)
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
    total = torch.empty(0)
    weight_sum = torch.zeros(volume.shape)
    origins = covering_origins(volume.shape, window, predict.overlap)
    for first in range(0, len(origins), predict.batch_windows):
        places = [
            tuple(slice(at, at + n) for at, n in zip(origin, window, strict=True))
            for origin in origins[first : first + predict.batch_windows]
        ]
        probabilities = forward(torch.stack([volume[place] for place in places]))
        if first == 0:
            total = torch.zeros((probabilities.shape[1], *volume.shape))
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

        A folder of several models, as `viscera study --fuse` makes it, gives a `FusedPredictor`.

        Raises:
            BadInputError: no run, no such checkpoint in it, or a damaged one.
        """
        folder = RunFolder(Path(run))
        if not folder.path.is_dir():
            raise BadInputError(f"{run}: there is no such run. Make one with `viscera train`.")
        if folder.fusion.exists():
            return FusedPredictor.of_record(folder, FusionRecord.read(folder), config, device)
        checkpoint = None
        if config is None:
            checkpoint = load_checkpoint(folder.last)
            config = checkpoint.config.predict
        if checkpoint is None or config.checkpoint == "best":
            checkpoint = load_checkpoint(folder.best if config.checkpoint == "best" else folder.last)
        return cls.from_checkpoint(checkpoint, config, device)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, config: PredictConfig, device: str = "auto") -> "Predictor":
        """From a checkpoint in memory.

        Raises:
            BadInputError: `config.cleanup` names an organ that the model does not know.
        """
        for setting, names in config.cleanup:
            organs_named(names, checkpoint.classes, setting)
        on = choose_device(device)
        network = build_network(checkpoint.config.train, len(checkpoint.classes))
        network.load_state_dict(checkpoint.model)
        return cls(network.to(on).eval(), checkpoint, config, on)

    @property
    def trained_with(self) -> Config:
        """The configuration of the training."""
        return self.checkpoint.config

    @property
    def classes(self) -> ClassTable:
        """What the labels stand for."""
        return self.checkpoint.classes

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
        with out_of_memory_explained(_LESS_MEMORY):
            probabilities = self._probabilities(hu)
            if self.config.restore == "probabilities":
                restored = restore_probabilities(probabilities, change)
            else:
                restored = restore_labels(probabilities.argmax(dim=0).to(torch.uint8).numpy(), change)
        return LabelMap(cleaned(restored.labels, self.config.cleanup, self.classes), restored.geometry)

    def slabs(self, hu: HuArray, change: GridChange) -> Iterator[tuple[slice, Tensor]]:
        """Probabilities (L, I, J, k) on `change.fine` of a scan on the network's grid, slab by slab of slices."""
        return restored_slabs(self._probabilities(hu), change, self.config.restore)

    def _probabilities(self, hu: HuArray) -> Tensor:
        return predict_probabilities(self.network, hu, self.trained_with.train, self.config, self.device)

    def is_unlike(self, geometry: Geometry) -> bool:
        """Whether a scan, prepared like those of training, is more than 1.5 times finer or coarser than they are."""
        at = np.array(GridChange.prepared(geometry, self.trained_with.prepare).coarse.spacing_mm)
        trained = np.array(self.checkpoint.training_spacings_mm)
        too_fine, too_coarse = at * _TOLERATED_RATIO < trained.min(axis=0), at > trained.max(axis=0) * _TOLERATED_RATIO
        return bool((too_fine | too_coarse).any())

    def change_for(self, geometry: Geometry) -> GridChange:
        """From a scan's canonical grid to the network's (`predict.grid`)."""
        change = GridChange.prepared(geometry, self.trained_with.prepare)
        if self.config.grid == "prepared" or (self.config.grid == "auto" and not self.is_unlike(geometry)):
            return change
        at = change.coarse.spacing_mm
        median = np.median(np.array(self.checkpoint.training_spacings_mm), axis=0)
        if self.config.grid == "auto":
            log.warning(
                "The scan would come out at %s mm, the model was trained at %s mm: resampled to that instead.",
                "×".join(f"{x:.3g}" for x in at),
                "×".join(f"{x:.3g}" for x in median),
            )
        return GridChange.to_spacing(geometry, median)


@dataclass(frozen=True, eq=False)
class FusedPredictor(Predictor):
    """Several models as one predictor: each organ from its own model (`engine.fusion`).

    What it inherits (`network`, `checkpoint`, `trained_with`) is that of the first organ's model.

    Attributes:
        members: the models, each with its own configuration.
        rule: which organ comes from which, and who gets a voxel that several claim.
    """

    members: tuple[Predictor, ...]
    rule: FusionRule

    @classmethod
    def of_record(
        cls, folder: RunFolder, record: FusionRecord, config: PredictConfig | None = None, device: str = "auto"
    ) -> "FusedPredictor":
        """From the models of a folder; `config` replaces the prediction settings of each, but for `checkpoint`.

        Raises:
            BadInputError: a model is missing, damaged, or not the one that was chosen.
        """
        choices = [record.organs[name] for name in record.classes[1:]]
        names, models = distinct_models(choice.model for choice in choices)
        rule = FusionRule(
            models,
            tuple(choice.weight for choice in choices),
            tuple(choice.threshold for choice in choices),
            record.evidence,
        )
        checkpoints = [load_checkpoint(record.model_path(folder, name)) for name in names]
        members = tuple(Predictor.from_checkpoint(c, config or c.config.predict, device) for c in checkpoints)
        first = members[0]
        return cls(first.network, first.checkpoint, config or first.config, first.device, members, rule)

    def __call__(self, volume: Volume) -> LabelMap:
        """Segment a scan: (I, J, K) labels on the grid and in the voxel order of the input."""
        order = AxisOrder.to_canonical(volume.geometry)
        canonical = volume.canonical()
        changes = [member.change_for(canonical.geometry) for member in self.members]
        coarse = {change.factors: coarsen_volume(canonical, change).hu for change in changes}
        with out_of_memory_explained(_LESS_MEMORY):
            parts = [m.slabs(coarse[c.factors], c) for m, c in zip(self.members, changes, strict=True)]
            labels = self._combined(parts, canonical.geometry)
        return LabelMap(np.ascontiguousarray(order.undo(labels)), volume.geometry)

    def predict_prepared(self, hu: HuArray, change: GridChange) -> LabelMap:
        """As of one model."""
        with out_of_memory_explained(_LESS_MEMORY):
            labels = self._combined([member.slabs(hu, change) for member in self.members], change.fine)
        return LabelMap(labels, change.fine)

    def _combined(self, parts: list[Iterator[tuple[slice, Tensor]]], geometry: Geometry) -> LabelArray:
        labels = np.empty(geometry.shape, dtype=np.uint8)
        for of_models in zip(*parts, strict=True):
            slices, _ = of_models[0]
            labels[:, :, slices] = combine([probabilities for _, probabilities in of_models], self.rule).numpy()
        return cleaned(labels, self.config.cleanup, self.classes)
