"""Prediction by sub-volumes, and on the scan's own grid."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from viscera.core.anatomy import NUM_CLASSES, ClassTable
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.engine.fusion_record import FusionRecord
from viscera.engine.fusion_rule import FusionRule, combine, distinct_models
from viscera.engine.hardware import choose_device, out_of_memory_explained
from viscera.engine.sliding_window import probability_planes
from viscera.engine.trust import ConfidenceTally
from viscera.imaging.cleanup import cleaned, organs_named
from viscera.imaging.resample import GridChange, coarsen_volume, restore_labels, restore_planes, restored_planes
from viscera.io.checkpoint import Checkpoint, load_checkpoint
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

    def __call__(self, volume: Volume, tally: ConfidenceTally | None = None) -> LabelMap:
        """Segment a scan: (I, J, K) labels on the grid and in the voxel order of the input.

        Args:
            volume: the scan.
            tally: gathers how sure the network is, on its own grid.
        """
        order = AxisOrder.to_canonical(volume.geometry)
        canonical = volume.canonical()
        change = self.change_for(canonical.geometry)
        restored = self.predict_prepared(coarsen_volume(canonical, change).hu, change, tally)
        return LabelMap(np.asfortranarray(order.undo(restored.labels)), volume.geometry)

    def predict_prepared(self, hu: HuArray, change: GridChange, tally: ConfidenceTally | None = None) -> LabelMap:
        """Segment a scan that is on the network's grid already.

        Args:
            hu: (I, J, K) int16 on `change.coarse`.
            change: from the scan's canonical grid to that one.
            tally: gathers how sure the network is.

        Returns:
            Labels on `change.fine`.
        """
        with out_of_memory_explained(_LESS_MEMORY):
            if self.config.restore == "probabilities":
                restored = restore_planes(self._planes(hu, tally), change)
            else:
                planes = [plane.argmax(dim=0).to(torch.uint8).numpy() for plane in self._planes(hu, tally)]
                restored = restore_labels(np.stack(planes, axis=-1), change)
        return LabelMap(cleaned(restored.labels, self.config.cleanup, self.classes), restored.geometry)

    def slabs(
        self, hu: HuArray, change: GridChange, tally: ConfidenceTally | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Probabilities (L, I, J, 1) on `change.fine` of a scan on the network's grid, slice by slice along K."""
        for k, plane in enumerate(restored_planes(self._planes(hu, tally), change, self.config.restore)):
            yield slice(k, k + 1), plane.unsqueeze(-1)

    def _planes(self, hu: HuArray, tally: ConfidenceTally | None) -> Iterator[Tensor]:
        planes = probability_planes(self.network, hu, self.trained_with.train, self.config, self.device)
        return planes if tally is None else tally.watched(planes)

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
    """Several models as one predictor: each organ from its own model (`engine.fusion_rule`).

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

    def __call__(self, volume: Volume, tally: ConfidenceTally | None = None) -> LabelMap:
        """Segment a scan: (I, J, K) labels on the grid and in the voxel order of the input."""
        order = AxisOrder.to_canonical(volume.geometry)
        canonical = volume.canonical()
        changes = [member.change_for(canonical.geometry) for member in self.members]
        coarse = {change.factors: coarsen_volume(canonical, change).hu for change in changes}
        with out_of_memory_explained(_LESS_MEMORY):
            labels = self._combined([coarse[c.factors] for c in changes], changes, tally)
        return LabelMap(np.asfortranarray(order.undo(labels)), volume.geometry)

    def predict_prepared(self, hu: HuArray, change: GridChange, tally: ConfidenceTally | None = None) -> LabelMap:
        """As of one model."""
        with out_of_memory_explained(_LESS_MEMORY):
            labels = self._combined([hu] * len(self.members), [change] * len(self.members), tally)
        return LabelMap(labels, change.fine)

    def _combined(
        self, scans: Sequence[HuArray], changes: Sequence[GridChange], tally: ConfidenceTally | None
    ) -> LabelArray:
        """From the scan as each member sees it to labels on the fine grid, which all of them share."""
        own = [ConfidenceTally(len(self.classes)) for _ in self.members]
        each = zip(self.members, scans, changes, own, strict=True)
        parts = [member.slabs(hu, change, sure) for member, hu, change, sure in each]
        labels = np.empty(changes[0].fine.shape, dtype=np.uint8, order="F")
        for of_models in zip(*parts, strict=True):
            slices, _ = of_models[0]
            labels[:, :, slices] = combine([probabilities for _, probabilities in of_models], self.rule).numpy()
        if tally is not None:
            tally.adopt(own, self.rule.models)
        return cleaned(labels, self.config.cleanup, self.classes)
