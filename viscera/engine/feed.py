"""What a training takes from a Store: windows, class weights, the HU that z-scores refer to.

A window is a pure function of (seed, step, slot), cut here or in the device's memory.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.config import AugmentConfig, Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.core.scan import AIR_HU, HuArray, LabelArray
from viscera.engine.hardware import out_of_memory_explained
from viscera.imaging.augment import Augmentation, draw, margin
from viscera.imaging.windows import clipped_moments, random_cases, random_origin
from viscera.io.store import Split, Store
from viscera.losses.balance import WeightSchedule

log = logging.getLogger(__name__)
MEMORY_SHARE = 0.4  # of the GPU memory that is free; the rest is for network, optimiser and activations
_BYTES_PER_VOXEL = 3  # int16 and uint8
Voxels = TypeVar("Voxels", HuArray, LabelArray, Tensor)


class Batch(NamedTuple):
    """A mini-batch: `hu` int16 (B, I, J, K), `labels` uint8 (B, I, J, K), on the CPU or the training's device.

    `labelled` (B, L) bool says which classes each window's case labels; None: all of them do all.

    With augmentation switched on, `augmentations` says what is still to happen to each window (`imaging.augment`); the
    windows then reach beyond the patch by as much as that needs.
    """

    hu: Tensor
    labels: Tensor
    augmentations: tuple[Augmentation, ...] = ()
    labelled: Tensor | None = None


class NetworkInput(NamedTuple):
    """What network and loss are given of a batch: `x` (B, 1, I, J, K) float32, `labels` (B, I, J, K), `labelled`."""

    x: Tensor
    labels: Tensor
    labelled: Tensor | None = None

    def of_windows(self, index: npt.NDArray[np.int64]) -> "NetworkInput":
        """Some of the windows."""
        return NetworkInput(self.x[index], self.labels[index], None if self.labelled is None else self.labelled[index])


class Windows(NamedTuple):
    """Where the windows of one step lie."""

    numbers: tuple[int, ...]  # of their cases
    origins: tuple[Index3, ...]  # first voxels, which may lie outside the case
    shape: Index3  # of all, voxels
    augmentations: tuple[Augmentation, ...]  # that are still to happen to them


class BatchSource(Protocol):
    """Whatever gives a training its batches."""

    def batch(self, step: int) -> Batch:
        """The windows of one step."""
        ...


@dataclass(frozen=True)
class Feed:
    """Random cubic windows of prepared cases, those of one batch from different patients.

    Augmentation does not change which windows are cut: with it they reach further on all sides of the same places, so
    that a rotated window has corners.
    """

    cases: Sequence[tuple[HuArray, LabelArray]]  # image and labels of each, memory-mapped: only windows are read
    patch: int  # edge of a window, voxels
    batch_size: int
    seed: int  # of the choice of cases and windows, and of the augmentation
    augment: AugmentConfig | None = None  # None: as switched off
    spacings_mm: Sequence[tuple[float, float, float]] | None = None  # of each case; None: cubes
    classes: ClassTable = ABDOMEN
    labelled: npt.NDArray[np.bool_] | None = None  # (cases, L) the classes that each case labels; None: all

    def __post_init__(self) -> None:
        if self.batch_size > len(self.cases):
            raise BadInputError(
                f"a batch of {self.batch_size} windows comes from as many patients, but there are only "
                f"{len(self.cases)} training cases. Add cases, or lower --batch-size."
            )

    def windows(self, step: int) -> Windows:
        """Where the windows of one step lie."""
        numbers = random_cases(self.seed, step, len(self.cases), self.batch_size)
        augmentations = self._augmentations(step, numbers)
        beyond = margin(augmentations, self.patch)
        origins = []
        for slot, number in enumerate(numbers):
            origin = random_origin(self.seed, step, slot, self.cases[number][0].shape, self.patch)
            i, j, k = (at - n for at, n in zip(origin, beyond, strict=True))
            origins.append((i, j, k))
        i, j, k = (self.patch + 2 * n for n in beyond)
        return Windows(tuple(numbers.tolist()), tuple(origins), (i, j, k), augmentations)

    def batch(self, step: int) -> Batch:
        """The windows of one step."""
        windows = self.windows(step)
        hu = np.empty((self.batch_size, *windows.shape), dtype=np.int16)
        labels = np.empty((self.batch_size, *windows.shape), dtype=np.uint8)
        for slot, (number, origin) in enumerate(zip(windows.numbers, windows.origins, strict=True)):
            image, label_map = self.cases[number]
            cut(image, origin, hu[slot], AIR_HU)
            cut(label_map, origin, labels[slot], 0)
        return Batch(
            torch.from_numpy(hu), torch.from_numpy(labels), windows.augmentations, self.labelled_in(windows.numbers)
        )

    def labelled_in(self, numbers: Sequence[int]) -> Tensor | None:
        """(B, L) bool, the classes that these cases label; None where they label all."""
        rows = None if self.labelled is None else self.labelled[list(numbers)]
        return None if rows is None or rows.all() else torch.from_numpy(rows)

    def _augmentations(self, step: int, numbers: npt.NDArray[np.int64]) -> tuple[Augmentation, ...]:
        if self.augment is None or not self.augment.enabled:
            return ()
        spacings = self.spacings_mm or [(1.0, 1.0, 1.0)] * len(self.cases)
        return tuple(
            draw(self.augment, (self.seed, step, slot), spacings[number]) for slot, number in enumerate(numbers)
        )


def cut(array: Voxels, origin: Index3, into: Voxels, padding: int) -> None:
    """Copy the window that starts at `origin`; what lies outside the array becomes padding. NumPy or PyTorch."""
    window = array[tuple(slice(max(at, 0), max(at + n, 0)) for at, n in zip(origin, into.shape, strict=True))]
    if window.shape == into.shape:
        into[...] = window
        return
    into[...] = padding
    into[tuple(slice(max(-at, 0), max(-at, 0) + n) for at, n in zip(origin, window.shape, strict=True))] = window


@dataclass(frozen=True, eq=False)
class ResidentFeed:
    """A feed whose cases lie on the device; its batches are those of `feed`, bit by bit."""

    feed: Feed
    hu: tuple[Tensor, ...]  # int16 (I, J, K) of each case
    labels: tuple[Tensor, ...]  # uint8 (I, J, K) of each case

    @classmethod
    def load(cls, feed: Feed, device: torch.device) -> "ResidentFeed":
        """Copy every case to the device once.

        Raises:
            BadInputError: a label beyond the classes, which a loss on a GPU could not name.
        """
        hu, labels = [], []
        for number, (image, label_map) in enumerate(feed.cases):
            highest = int(label_map.max(initial=0))
            if highest >= len(feed.classes):
                most = len(feed.classes) - 1
                raise BadInputError(f"training case {number}: label {highest}; 0 to {most} were expected.")
            hu.append(torch.from_numpy(np.array(image)).to(device))
            labels.append(torch.from_numpy(np.array(label_map)).to(device))
        return cls(feed, tuple(hu), tuple(labels))

    def batch(self, step: int) -> Batch:
        """The windows of one step, on the device."""
        windows = self.feed.windows(step)
        shape = (len(windows.numbers), *windows.shape)
        hu = torch.empty(shape, dtype=torch.int16, device=self.hu[0].device)
        labels = torch.empty(shape, dtype=torch.uint8, device=self.hu[0].device)
        for slot, (number, origin) in enumerate(zip(windows.numbers, windows.origins, strict=True)):
            cut(self.hu[number], origin, hu[slot], AIR_HU)
            cut(self.labels[number], origin, labels[slot], 0)
        labelled = self.feed.labelled_in(windows.numbers)
        return Batch(hu, labels, windows.augmentations, None if labelled is None else labelled.to(hu.device))


def training_bytes(feed: Feed) -> int:
    """Memory that the cases of a feed take on a device, bytes."""
    return _BYTES_PER_VOXEL * sum(image.size for image, _ in feed.cases)


def on_device(feed: Feed, device: torch.device, resident: Literal["auto", "always", "never"]) -> BatchSource:
    """The feed, or its cases in the device's memory: with "auto" on a GPU where they take at most `MEMORY_SHARE`."""
    if resident == "never" or (resident == "auto" and device.type != "cuda"):
        return feed
    if resident == "auto":
        needed, (free, _) = training_bytes(feed), torch.cuda.mem_get_info(device)
        if needed > MEMORY_SHARE * free:
            log.warning(
                "The training set (%.1f GiB) stays outside the GPU, which has %.1f GiB free; training may wait for it.",
                needed / 2**30,
                free / 2**30,
            )
            return feed
    with out_of_memory_explained("Use --set train.resident=never."):
        return ResidentFeed.load(feed, device)


@dataclass(frozen=True, eq=False)
class TrainingFacts:
    """What the training set decides: R_l, the class weights over the steps, the voxel sizes, the classes."""

    class_voxel_counts: Tensor
    class_weights: WeightSchedule
    training_spacings_mm: tuple[tuple[float, float, float], ...]
    classes: ClassTable = ABDOMEN


def training_cases(store: Store) -> list[str]:
    """Their names.

    Raises:
        BadInputError: there is none.
    """
    names = store.names("train")
    if not names:
        raise BadInputError(f"{store.path}: no training case in this store. Prepare it with a lower --test-fraction.")
    return names


def with_training_set(config: Config, store: Store) -> Config:
    """The configuration with what the store decides: its preparation, and the HU that z-scores refer to.

    Raises:
        BadInputError: a store without training cases.
    """
    names = training_cases(store)
    intensity = config.train.intensity
    if intensity.scaling == "z_score" and (intensity.mean_hu is None or intensity.sd_hu is None):
        mean, sd = clipped_moments((store.image(name) for name in names), intensity)
        if sd == 0:
            raise BadInputError(f"{store.path}: all voxels have one HU: no z-score. Use intensity.scaling unit.")
        given = intensity.model_dump(include={"mean_hu", "sd_hu"}, exclude_none=True)
        intensity = intensity.model_copy(update={"mean_hu": mean, "sd_hu": sd} | given)
    training = config.train.model_copy(update={"intensity": intensity})
    return config.model_copy(update={"prepare": store.manifest.prepare, "train": training})


def feed_of(store: Store, train: TrainConfig) -> Feed:
    """The windows of the training cases.

    Raises:
        BadInputError: fewer cases than windows in a batch; windows that leave batch normalisation one value.
    """
    try:
        train.refuse_one_value()  # `doctor` lowers batch_size to the number of cases
    except ValueError as error:
        raise BadInputError(f"{store.path}: {error}.") from error
    spacings_mm = [store.geometry(name).spacing_mm for name in training_cases(store)]
    cases, labelled = arrays(store, "train"), labelled_in(store, "train")
    how = train.patch, train.batch_size, train.seed, train.augment
    return Feed(cases, *how, spacings_mm=spacings_mm, classes=store.classes, labelled=labelled)


def arrays(store: Store, split: Split) -> list[tuple[HuArray, LabelArray]]:
    """Image and labels of each case of a split, memory-mapped."""
    return [(store.image(name), store.labels(name)) for name in store.names(split)]


def labelled_in(store: Store, split: Split) -> npt.NDArray[np.bool_] | None:
    """(cases, L) which classes each case of a split labels; None where all label all."""
    labelled = store.labelled(store.names(split))
    return None if labelled.all() else labelled


def facts_of(store: Store, config: Config) -> TrainingFacts:
    """Class counts and weights; warns of classes that no training case has."""
    loss, names = config.train.loss, store.names("train")
    counts = store.voxel_counts(loss.counts)
    for label in np.flatnonzero(counts == 0):
        verb = "contains" if store.labelled(names)[:, label].any() else "labels"
        log.warning(
            "%s: no training case %s %s; the model cannot learn it, and may call background so. "
            "`prepare --classes` leaves it out.",
            *(store.path, verb, store.classes.names[label]),
        )
    return TrainingFacts(
        class_voxel_counts=torch.from_numpy(counts),
        class_weights=WeightSchedule.of(counts, config.train.weighting, loss, len(names)),
        training_spacings_mm=tuple(store.geometry(name).spacing_mm for name in names),
        classes=store.classes,
    )
