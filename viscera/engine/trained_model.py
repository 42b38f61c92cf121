"""One trained network that answers on a scan's own grid: what `Predictor` is made of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import NUM_CLASSES
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.geometry import Geometry, size_text
from viscera.core.resolve import with_settings
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.hardware import choose_device, number_format, precision_to_predict
from viscera.engine.sliding_window import probability_planes
from viscera.engine.trust import ConfidenceTally
from viscera.imaging.cleanup import organs_named
from viscera.imaging.most_probable import OnPlane, most_probable
from viscera.imaging.probabilities import tempered
from viscera.imaging.resample import GridChange, restore_labels, restore_planes, restored_planes, stacked
from viscera.io.checkpoint import Checkpoint, load_with_checksum
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)
_SMALL = 2**20  # numbers that a network may take, whatever the file holds
TOLERATED_RATIO = 1.5  # docs/readings.md, "grid of prediction"


def build_network(config: TrainConfig, num_classes: int = NUM_CLASSES) -> UNet3D:
    """The network of a configuration, freshly initialised from the global generator.

    Its weights lie channels last unless the configuration says otherwise.
    """
    sizes = 1, num_classes, config.filters, config.levels
    network = UNet3D(*sizes, config.initialisation, design=config.network)
    if config.memory_layout == "channels_first":
        return network
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[no-any-return, call-overload]


def trained_network(checkpoint: Checkpoint, path: Path) -> UNet3D:
    """The network that a checkpoint is of, with the weights that are predicted with.

    Raises BadInputError where the weights are none of the network that its configuration describes.
    """
    train = checkpoint.config.train
    widest, held = train.filters << (train.levels - 1), sum(each.numel() for each in checkpoint.applied.values())
    if widest**2 > max(held, _SMALL):  # fewer than one convolution of its lowest level has: memory is not asked for
        raise _of_another_network(path)
    network = build_network(train, len(checkpoint.classes))
    with weights_of(path):
        network.load_state_dict(checkpoint.applied)
    return network


@contextmanager
def weights_of(path: Path) -> Iterator[None]:
    """Within, weights of a file are put into what they are said to be of; BadInputError where they do not fit it."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise _of_another_network(path) from error


def _of_another_network(path: Path) -> BadInputError:
    return BadInputError(
        f"{path}: damaged: its weights are not those of the network that its configuration describes. Restore it, or "
        "train again."
    )


@dataclass(frozen=True, eq=False)
class Model:
    """One trained network, and what it knows of the scans that it was trained on."""

    network: nn.Module  # in evaluation mode, and folded where it can be
    checkpoint: Checkpoint  # without its weights and the optimiser's state
    config: PredictConfig
    device: torch.device
    checksum: str  # SHA-256 of the checkpoint's file
    temperature: float = 1.0  # of what it says of a voxel, which of the classes is the most probable aside

    @classmethod
    def load(
        cls, path: Path, config: PredictConfig | None = None, device: str = "auto", *, folded: bool = True
    ) -> "Model":
        """From a checkpoint; without `config`, predict as its own configuration says.

        Where not `folded`, the network stays as it was trained: for other programs. Raises BadInputError where the
        checkpoint is missing or damaged, or does not know an organ of `config.cleanup`, or where there is no such
        device.
        """
        checkpoint, checksum = load_with_checksum(path)
        config = config or checkpoint.config.predict
        for setting, names in config.cleanup:
            organs_named(names, checkpoint.classes, setting)
        on = choose_device(device)
        network = trained_network(checkpoint, path)
        precision = precision_to_predict(checkpoint.config.train.precision, on)
        config_here = with_settings(checkpoint.config, {"train.precision": precision}, str(path))
        checkpoint = replace(checkpoint, model={}, average={}, optimizer={}, config=config_here)
        network = network.to(on).eval()
        applied: nn.Module = network
        if folded and checkpoint.config.train.network.normalises_batches:
            applied = FoldedUNet3D(network, number_format(on, precision)).eval()
        elif folded and config.mode == "whole_volume":
            log.warning(
                "%s: %s normalisation sees the whole volume, and saw patches of %d voxels in training; predict.mode "
                "sub_volumes predicts in sub-volumes of that size.",
                *(path, checkpoint.config.train.network.normalisation, checkpoint.config.train.patch),
            )
        return cls(applied, checkpoint, config, on, checksum)

    def __repr__(self) -> str:
        return f"Model({self.text})"

    @property
    def text(self) -> str:
        """For people: `step 150, 8 classes, cpu, 3 mm`, the voxel size being the median of its training."""
        spacing = np.median(np.array(self.checkpoint.training_spacings_mm), axis=0).tolist()
        size = f"{spacing[0]:.3g}" if len({f"{each:.3g}" for each in spacing}) == 1 else size_text(spacing)
        return f"step {self.checkpoint.step}, {len(self.checkpoint.classes)} classes, {self.device}, {size} mm"

    @property
    def trained_with(self) -> Config:
        """The configuration of the training."""
        return self.checkpoint.config

    def is_unlike(self, geometry: Geometry) -> bool:
        """Whether a scan, prepared like those of training, is more than 1.5 times finer or coarser than they are."""
        at = np.array(GridChange.prepared(geometry, self.trained_with.prepare).coarse.spacing_mm)
        trained = np.array(self.checkpoint.training_spacings_mm)
        too_fine, too_coarse = at * TOLERATED_RATIO < trained.min(axis=0), at > trained.max(axis=0) * TOLERATED_RATIO
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

    def labels(
        self, hu: HuArray, change: GridChange, tally: ConfidenceTally, on_plane: OnPlane | None = None
    ) -> LabelArray:
        """The most probable class, (I, J, K) uint8 on `change.fine`, of (I, J, K) int16 on `change.coarse`.

        The tally gathers how sure the network is; `on_plane` is told of each plane of `change.fine`. The temperature
        changes what these are given and no label: it comes last, after the probabilities are interpolated.
        """
        planes, on_plane = self._planes(hu, tally), self._tempered(on_plane)
        if self.config.restore == "probabilities":
            return restore_planes(planes, change, on_plane).labels
        if on_plane is None:
            coarse = [most_probable(plane).label.numpy() for plane in planes]
            return restore_labels(np.stack(coarse, axis=-1), change).labels
        return stacked(_labels_of(restored_planes(planes, change, "labels"), on_plane), change.fine.shape, np.uint8)

    def probabilities(self, hu: HuArray, change: GridChange, tally: ConfidenceTally | None = None) -> Iterator[Tensor]:
        """(L, I, J) on `change.fine`, plane by plane along K; otherwise as `labels`."""
        return restored_planes(self._planes(hu, tally), change, self.config.restore)

    def _tempered(self, on_plane: OnPlane | None) -> OnPlane | None:
        if on_plane is None or self.temperature == 1:
            return on_plane
        return lambda plane, labels: on_plane(tempered(plane, self.temperature), labels)

    def _planes(self, hu: HuArray, tally: ConfidenceTally | None) -> Iterator[Tensor]:
        for plane in probability_planes(self.network, hu, self.trained_with.train, self.config, self.device):
            if not plane.sum().isfinite():
                raise RunFailedError(
                    "The network's output is not finite: its weights are damaged, or the precision does not reach. "
                    "Train with train.precision float32, or predict with an earlier checkpoint."
                )
            if tally is not None:
                tally.add(tempered(plane, self.temperature))
            yield plane


def _labels_of(planes: Iterator[Tensor], on_plane: OnPlane) -> Iterator[LabelArray]:
    for plane in planes:
        labels = most_probable(plane).label.numpy()
        on_plane(plane, labels)
        yield labels
