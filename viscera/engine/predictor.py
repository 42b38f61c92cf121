"""From a scan to a label map on its own grid, by one model, or by several as one.

A `Predictor` is made of models and, where they are several, of the rule that fuses their probabilities.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import NUM_CLASSES, ClassTable
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.resolve import with_settings
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.engine.fusion import FusionRecord, FusionRule
from viscera.engine.hardware import choose_device, number_format, out_of_memory_explained, precision_to_predict
from viscera.engine.sliding_window import probability_planes
from viscera.engine.trust import ConfidenceTally, TrainingRanges, load_ranges
from viscera.imaging.cleanup import cleaned, organs_named
from viscera.imaging.most_probable import most_probable
from viscera.imaging.resample import (
    GridChange,
    coarsen_volume,
    restore_labels,
    restore_planes,
    restored_planes,
    stacked,
)
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)
_TOLERATED_RATIO = 1.5  # docs/readings.md, "grid of prediction"


def build_network(config: TrainConfig, num_classes: int = NUM_CLASSES) -> UNet3D:
    """The network of a configuration, freshly initialised from the global generator.

    Its weights lie channels last unless the configuration says otherwise.
    """
    sizes = 1, num_classes, config.filters, config.levels
    network = UNet3D(*sizes, config.initialisation, design=config.network)
    if config.memory_layout == "channels_first":
        return network
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[no-any-return, call-overload]


@dataclass(frozen=True, eq=False)
class Model:
    """One trained network, and what it knows of the scans that it was trained on."""

    network: nn.Module  # in evaluation mode, and folded where it can be
    checkpoint: Checkpoint  # without its weights and the optimiser's state
    config: PredictConfig
    device: torch.device
    checksum: str  # SHA-256 of the checkpoint's file

    @classmethod
    def load(cls, path: Path, config: PredictConfig | None = None, device: str = "auto") -> "Model":
        """From a checkpoint; without `config`, predict as its own configuration says.

        Raises BadInputError where it is missing or damaged, or does not know an organ of `config.cleanup`, or where
        there is no such device.
        """
        checkpoint = load_checkpoint(path)
        config = config or checkpoint.config.predict
        for setting, names in config.cleanup:
            organs_named(names, checkpoint.classes, setting)
        on = choose_device(device)
        network = build_network(checkpoint.config.train, len(checkpoint.classes))
        network.load_state_dict(checkpoint.applied)
        precision = precision_to_predict(checkpoint.config.train.precision, on)
        config_here = with_settings(checkpoint.config, {"train.precision": precision}, str(path))
        checkpoint = replace(checkpoint, model={}, average={}, optimizer={}, config=config_here)
        network = network.to(on).eval()
        applied: nn.Module = network
        if checkpoint.config.train.network.normalises_batches:
            applied = FoldedUNet3D(network, number_format(on, precision)).eval()
        elif config.mode == "whole_volume":
            log.warning(
                "%s: %s normalisation sees the whole volume, and saw windows of %d voxels in training; predict.mode "
                "sub_volumes predicts in such windows.",
                *(path, checkpoint.config.train.network.normalisation, checkpoint.config.train.patch),
            )
        return cls(applied, checkpoint, config, on, sha256(path))

    @property
    def trained_with(self) -> Config:
        """The configuration of the training."""
        return self.checkpoint.config

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
        median = np.median(np.array(self.checkpoint.training_spacings_mm), axis=0)
        if self.config.grid == "auto":
            log.warning(
                "The scan would come out at %s mm, the model was trained at %s mm: resampled to that instead.",
                "×".join(f"{x:.3g}" for x in change.coarse.spacing_mm),
                "×".join(f"{x:.3g}" for x in median),
            )
        return GridChange.to_spacing(geometry, median)

    def labels(self, hu: HuArray, change: GridChange, tally: ConfidenceTally) -> LabelArray:
        """The most probable class, (I, J, K) uint8 on `change.fine`, of (I, J, K) int16 on `change.coarse`.

        The tally gathers how sure the network is.
        """
        if self.config.restore == "probabilities":
            return restore_planes(self._planes(hu, tally), change).labels
        planes = [most_probable(plane).label.numpy() for plane in self._planes(hu, tally)]
        return restore_labels(np.stack(planes, axis=-1), change).labels

    def probabilities(self, hu: HuArray, change: GridChange, tally: ConfidenceTally | None = None) -> Iterator[Tensor]:
        """(L, I, J) on `change.fine`, plane by plane along K; otherwise as `labels`."""
        return restored_planes(self._planes(hu, tally), change, self.config.restore)

    def _planes(self, hu: HuArray, tally: ConfidenceTally | None) -> Iterator[Tensor]:
        for plane in probability_planes(self.network, hu, self.trained_with.train, self.config, self.device):
            if not plane.sum().isfinite():
                raise RunFailedError(
                    "The network's output is not finite: its weights are damaged, or the precision does not reach. "
                    "Train with train.precision float32, or predict with an earlier checkpoint."
                )
            if tally is not None:
                tally.add(plane)
            yield plane


class Segmentation(NamedTuple):
    """A label map, and what the models say of it.

    `confidence` is the mean probability of each organ where its model finds it most probable, (L,); None of background,
    and of organs that are nowhere.
    """

    label_map: LabelMap  # on the scan's own grid and in its voxel order; or on the canonical one of a prepared scan
    confidence: tuple[float | None, ...]
    unlike: frozenset[str] = frozenset()  # organs whose model saw scans more than 1.5 times coarser or finer


@dataclass(frozen=True, eq=False)
class View:
    """A scan as the models see it: on the grid of each."""

    geometry: Geometry  # of the scan
    changes: tuple[GridChange, ...]  # of each model, from the scan's canonical grid
    scans: tuple[HuArray, ...]  # of each model
    own_bytes: int  # that these take, and the scan itself does not


@dataclass(frozen=True, eq=False)
class Predictor:
    """One or several trained models that answer on the scan's own grid: `predictor(volume)`."""

    models: dict[str, Model]  # by name; one alone is called `last` or `best`
    combination: FusionRule | None  # of several models; None of one alone
    config: PredictConfig  # how to predict
    training: TrainingRanges  # what the predicted organs are held against, each as its own model saw them
    checksum: str  # SHA-256 of the checkpoint; or of what decides in `fusion.yaml`, with the checksums of its models

    @classmethod
    def load(cls, run: str | Path, config: PredictConfig | None = None, device: str = "auto") -> "Predictor":
        """From a folder alone: a Run, or several models as one as `viscera study --fuse` makes them.

        Args:
            run: the folder.
            config: how to predict; by default as the Run's own configuration says. Of several models it replaces the
                settings of each, but for `checkpoint`.
            device: to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, …

        Raises:
            BadInputError: no run, no such checkpoint in it, or a damaged one; a model of several that is not the one
                that was chosen; no such device.
        """
        folder = RunFolder(Path(run))
        if not folder.path.is_dir():
            raise BadInputError(f"{run}: there is no such run. Make one with `viscera train`.")
        training = load_ranges(folder.training_ranges) or TrainingRanges({})
        if folder.fusion.exists():
            record = FusionRecord.read(folder)
            names, rule = record.rule()
            models = {name: Model.load(record.model_path(folder, name), config, device) for name in names}
            return cls(models, rule, config or models[names[0]].config, training, record.checksum)
        model = Model.load(folder.best if config and config.checkpoint == "best" else folder.last, config, device)
        if config is None and model.config.checkpoint == "best":
            model = Model.load(folder.best, None, device)
        return cls({model.config.checkpoint: model}, None, model.config, training, model.checksum)

    @property
    def classes(self) -> ClassTable:
        """What the labels stand for."""
        return self._each[0].checkpoint.classes

    @property
    def provenance(self) -> dict[str, Any]:
        """What a prediction records of its predictor; of several models the step is None where they differ."""
        models = {name: {"step": m.checkpoint.step, "sha256": m.checksum} for name, m in self.models.items()}
        steps = {model.checkpoint.step for model in self._each}
        return {
            "run_sha256": self.checksum,
            "step": steps.pop() if len(steps) == 1 else None,
            "settings": self.config.model_dump(mode="json"),
            "classes": list(self.classes.names),
            **({} if self.combination is None else {"models": models}),
        }

    def __call__(self, volume: Volume) -> LabelMap:
        """Segment a scan, (I, J, K) int16 HU of any orientation: uint8 labels on its grid and in its voxel order.

        Raises RunFailedError where memory runs out.
        """
        return self.segment(volume).label_map

    def segment(self, volume: Volume) -> Segmentation:
        """As calling it, with what the models say of it."""
        return self.segment_view(self.view(volume))

    def view(self, volume: Volume) -> View:
        """The scan on the models' grids, which is all that they need of it."""
        canonical = volume.canonical()
        changes = tuple(model.change_for(canonical.geometry) for model in self._each)
        coarse = {each.factors: coarsen_volume(canonical, each).hu for each in {c.factors: c for c in changes}.values()}
        for factors, hu in coarse.items():
            if min(hu.strides) < 0:  # a view of a scan whose axes run the other way, which PyTorch does not take
                coarse[factors] = np.array(hu, order="K")
        own_bytes = sum(hu.nbytes for hu in coarse.values() if not np.may_share_memory(hu, volume.hu))
        return View(volume.geometry, changes, tuple(coarse[change.factors] for change in changes), own_bytes)

    def segment_view(self, view: View) -> Segmentation:
        """Segment a scan that is on the models' grids already."""
        order = AxisOrder.to_canonical(view.geometry)
        labels, confidence = self._combined(view.scans, view.changes)
        label_map = LabelMap(np.asfortranarray(order.undo(labels)), view.geometry)
        canonical = order.apply_to_geometry(view.geometry)
        unlike = [model.is_unlike(canonical) for model in self._each]
        organs = zip(self.classes.organs, self._owners, strict=True)
        return Segmentation(label_map, confidence, frozenset(organ.name for organ, owner in organs if unlike[owner]))

    def segment_prepared(self, hu: HuArray, change: GridChange) -> Segmentation:
        """Segment a scan on the networks' grid, (I, J, K) int16 on `change.coarse`; the labels are on `change.fine`."""
        labels, confidence = self._combined([hu] * len(self.models), [change] * len(self.models))
        return Segmentation(LabelMap(labels, change.fine), confidence)

    def is_unlike(self, geometry: Geometry) -> bool:
        """Whether a scan is more than 1.5 times finer or coarser than those that any of the models was trained on."""
        return any(model.is_unlike(geometry) for model in self._each)

    @property
    def _each(self) -> tuple[Model, ...]:
        return tuple(self.models.values())

    @property
    def _owners(self) -> tuple[int, ...]:
        return self.combination.owners if self.combination is not None else (0,) * (len(self.classes) - 1)

    def _combined(
        self, scans: Sequence[HuArray], changes: Sequence[GridChange]
    ) -> tuple[LabelArray, tuple[float | None, ...]]:
        """From the scan as each model sees it to labels on the fine grid, which all share, and the confidence."""
        tallies = [ConfidenceTally(len(self.classes)) for _ in changes]
        views = list(zip(self._each, scans, changes, tallies, strict=True))
        with out_of_memory_explained("Lower predict.batch_windows, or predict by sub-volumes."):
            if self.combination is None:
                (model, hu, change, tally), *_ = views
                labels = model.labels(hu, change, tally)
            else:
                parts = [model.probabilities(hu, change, tally) for model, hu, change, tally in views]
                labels = stacked(map(self.combination, zip(*parts, strict=True)), changes[0].fine.shape, np.uint8)
            labels = cleaned(labels, self.config.cleanup, self.classes)
        means = [tally.means() for tally in tallies]
        own = (means[owner][label] for label, owner in enumerate(self._owners, start=1))
        return labels, (None, *own)
