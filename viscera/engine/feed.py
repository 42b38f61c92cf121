"""What a training takes from a Store: windows, class weights, the HU that z-scores refer to.

A window is a pure function of (seed, step, slot), cut here or in the device's memory.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable
from viscera.core.config import AugmentConfig, Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.core.scan import AIR_HU, HuArray, LabelArray
from viscera.core.wording import agreeing, counted
from viscera.engine.distributed import ALONE, Ranks
from viscera.engine.hardware import out_of_memory_explained
from viscera.imaging.augment import Augmentation, draw, margin
from viscera.imaging.organ_windows import OrganWindows
from viscera.imaging.windows import clipped_moments, random_cases, random_origin
from viscera.io.manifest import Split
from viscera.io.store import Store
from viscera.io.stored_cases import StoredCases
from viscera.losses.balance import Weights, WeightSchedule, cross_entropy_weights

log = logging.getLogger(__name__)
MEMORY_SHARE = 0.4  # of the GPU memory that is free; the rest is for network, optimiser and activations
_BYTES_PER_VOXEL = 3  # int16 and uint8


class Batch(NamedTuple):
    """A mini-batch: `hu` int16 (B, I, J, K), `labels` uint8 (B, I, J, K), on the CPU or the training's device.

    Labels are class numbers, or 255 (`core.anatomy.IGNORED`) where nobody labelled the voxel.
    `labelled` (B, L) bool says which classes each window's case labels; None: all of them do all.

    With augmentation switched on, `augmentations` says what is still to happen to each window (`imaging.augment`); the
    windows then reach beyond the patch by as much as that needs.
    """

    hu: Tensor
    labels: Tensor
    augmentations: tuple[Augmentation, ...] = ()
    labelled: Tensor | None = None


class NetworkInput(NamedTuple):
    """What network and loss are given of a batch: `x` (B, 1, I, J, K) float32, `labels` (B, I, J, K), `labelled`.

    `kept` (B, C), factors on the channels of the lowest level, is that of a step with dropout (`networks.dropout`).
    """

    x: Tensor
    labels: Tensor
    labelled: Tensor | None = None
    kept: Tensor | None = None

    def of_windows(self, index: npt.NDArray[np.int64]) -> "NetworkInput":
        """Some of the windows."""
        return NetworkInput(self.x[index], self.labels[index], None if self.labelled is None else self.labelled[index])


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
    resident: Sequence[tuple[Tensor, Tensor]] = ()  # int16 and uint8, the cases in a device's memory (`loaded`)
    pinned: bool = False  # cut windows into memory that a GPU reads by itself, while the host goes on
    ranks: Ranks = ALONE  # that share a batch; this one cuts its own windows alone
    organ_windows: OrganWindows | None = None  # None: all windows lie anywhere

    def __post_init__(self) -> None:
        if self.batch_size > len(self.cases):
            raise BadInputError(
                f"a batch of {self.batch_size} patches comes from as many patients, but there "
                f"{agreeing(number := len(self.cases))} only {counted(number, 'training case')}. Add cases, or give "
                f"--batch-size {max(1, number)}."
            )
        if self.ranks.size > self.batch_size:
            raise BadInputError(
                f"{self.ranks.size} processes share batches of {self.batch_size} patches: some would have none. Start "
                f"{self.batch_size} at most, or raise --batch-size, which counts the patches of all processes."
            )

    def batch(self, step: int) -> Batch:
        """This rank's windows of one step, on the device of `resident` where the cases are held there, else the CPU."""
        device = self.resident[0][0].device if self.resident else torch.device("cpu")
        numbers = random_cases(self.seed, step, len(self.cases), self.batch_size)
        augmentations = self._augmentations(step, numbers)
        beyond = margin(augmentations, self.patch)
        own = self.ranks.own(self.batch_size)
        shape = (own.stop - own.start, *(self.patch + 2 * n for n in beyond))
        hu = torch.empty(shape, dtype=torch.int16, device=device, pin_memory=self.pinned)
        labels = torch.empty(shape, dtype=torch.uint8, device=device, pin_memory=self.pinned)
        for at_own, slot in enumerate(range(own.start, own.stop)):
            number = numbers[slot]
            image, label_map = (self.resident or self.cases)[number]
            within = self._origin(step, slot, int(number), image.shape)
            origin = [at - n for at, n in zip(within, beyond, strict=True)]
            _cut(image, origin, hu[at_own], AIR_HU)
            _cut(label_map, origin, labels[at_own], 0)
        labelled = None if self.labelled is None else torch.from_numpy(self.labelled[numbers[own]])
        return Batch(
            hu,
            labels,
            augmentations[own],
            None if labelled is None or labelled.all() else labelled.to(device, non_blocking=True),
        )

    def places(self, step: int) -> list[tuple[int, Index3]]:
        """Case number and first voxel of each window of a step, those of all ranks, without what augmentation adds."""
        numbers = random_cases(self.seed, step, len(self.cases), self.batch_size).tolist()
        return [(n, self._origin(step, slot, n, self.cases[n][0].shape)) for slot, n in enumerate(numbers)]

    def _origin(self, step: int, slot: int, number: int, shape: Sequence[int]) -> Index3:
        """First voxel of a window of a case, without what augmentation needs beyond it."""
        centred = None
        if self.organ_windows is not None:
            labels = self.cases[number][1]  # of the host, also where windows are cut on a device
            centred = self.organ_windows.origin((self.seed, step, slot), number, labels, self.patch)
        return centred or random_origin(self.seed, step, slot, shape, self.patch)

    def loaded(self, device: torch.device) -> "Feed":
        """The same feed, bit by bit, with a copy of every case in the device's memory.

        Raises BadInputError for a label beyond the classes, which a loss on a GPU could not name.
        """
        for number, (_, label_map) in enumerate(self.cases):
            highest, most = int(label_map.max(initial=0, where=label_map != IGNORED)), len(self.classes) - 1
            if highest > most:
                raise BadInputError(f"training case {number}: label {highest}; 0 to {most} were expected.")
        copies = [[torch.from_numpy(np.array(each)).to(device) for each in case] for case in self.cases]
        return replace(self, resident=[(hu, labels) for hu, labels in copies])

    def _augmentations(self, step: int, numbers: npt.NDArray[np.int64]) -> tuple[Augmentation, ...]:
        if self.augment is None or not self.augment.enabled:
            return ()
        spacings = self.spacings_mm or [(1.0, 1.0, 1.0)] * len(self.cases)
        return tuple(
            draw(self.augment, (self.seed, step, slot), spacings[number]) for slot, number in enumerate(numbers)
        )


def _cut(array: HuArray | LabelArray | Tensor, origin: Sequence[int], into: Tensor, padding: int) -> None:
    """Copy the window that starts at `origin`; what lies outside the array becomes padding."""
    target: Any = into if isinstance(array, Tensor) else into.numpy()
    window = array[tuple(slice(max(at, 0), max(at + n, 0)) for at, n in zip(origin, into.shape, strict=True))]
    if window.shape != into.shape:
        target[...] = padding
    target[tuple(slice(max(-at, 0), max(-at, 0) + n) for at, n in zip(origin, window.shape, strict=True))] = window


def on_device(feed: Feed, device: torch.device, resident: Literal["auto", "always", "never"]) -> Feed:
    """The feed, or its cases in the device's memory: with "auto" on a GPU where they take at most `MEMORY_SHARE`."""
    outside = replace(feed, pinned=True) if device.type == "cuda" else feed
    if resident == "never" or (resident == "auto" and device.type != "cuda"):
        return outside
    if resident == "always":
        with out_of_memory_explained("Use --set train.resident=never."):
            return feed.loaded(device)
    needed = _BYTES_PER_VOXEL * sum(image.size for image, _ in feed.cases)
    free, _ = torch.cuda.mem_get_info(device)
    with contextlib.suppress(torch.OutOfMemoryError):  # free, but in pieces; or taken by another process meanwhile
        if needed <= MEMORY_SHARE * free:
            return feed.loaded(device)
    log.warning(
        "The training set (%.1f GiB) stays outside the GPU, which has %.1f GiB free; training may wait for it.",
        *(needed / 2**30, free / 2**30),
    )
    return outside


@dataclass(frozen=True, eq=False)
class TrainingFacts:
    """What the training set decides: R_l, the class weights over the steps, the voxel sizes, the classes."""

    class_voxel_counts: Tensor
    class_weights: WeightSchedule
    training_spacings_mm: tuple[tuple[float, float, float], ...]
    classes: ClassTable = ABDOMEN
    voxel_weights: Weights | None = None  # (L,) of the cross-entropy, mean 1; None: of all classes alike
    ignores: bool = False  # whether training cases have voxels that nobody labelled


def training_cases(store: Store) -> list[str]:
    """Their names; raises BadInputError where there is none, or no labelled voxel in any."""
    names = store.names("train")
    if not names:
        raise BadInputError(f"{store.path}: no training case in this store. Prepare it with a lower --test-fraction.")
    if not store.voxel_counts().any():
        raise BadInputError(f"{store.path}: {_why_nothing_is_labelled(store, names)}")
    return names


def _why_nothing_is_labelled(store: Store, names: Sequence[str]) -> str:
    cases = "its only training case" if len(names) == 1 else f"its {len(names):,} training cases"
    held_out = next((store.manifest.cases[name].fold for name in store.names("validation")), None)
    if held_out is not None:
        cases += f" when fold {held_out} is held out"
    if store.voxel_counts("original").any():
        return (
            f"no labelled voxel is left of {cases} at the store's voxel size: those that nobody labelled (`ignore`) "
            "outnumber them. Prepare with a smaller --spacing-mm."
        )
    remedy = "Add" if held_out is None else "Hold out another fold, or add"
    return f"nobody labelled anything in {cases} (every voxel is `ignore`). {remedy} cases that are labelled."


def with_training_set(config: Config, store: Store) -> Config:
    """The configuration with what the store decides: its preparation, and the HU that z-scores refer to."""
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

    Raises BadInputError for fewer cases than windows in a batch, and windows that leave batch normalisation one value.
    """
    try:
        train.refuse_one_value()  # `doctor` lowers batch_size to the number of cases
    except ValueError as error:
        raise BadInputError(f"{store.path}: {error}.") from error
    spacings_mm = [store.geometry(name).spacing_mm for name in training_cases(store)]
    cases, labelled = cases_of(store, "train")
    organ_windows = None
    if train.organ_windows > 0:
        records = (store.manifest.cases[name] for name in training_cases(store))
        organ_windows = OrganWindows(train.organ_windows, np.array([each.voxel_counts_prepared for each in records]))
    feed = Feed(cases, train.patch, train.batch_size, train.seed, train.augment, spacings_mm, store.classes, labelled)
    return replace(feed, organ_windows=organ_windows)


def cases_of(store: Store, split: Split) -> tuple[StoredCases, npt.NDArray[np.bool_] | None]:
    """Image and labels of each case, memory-mapped; (cases, L) which classes each labels, None where all label all."""
    names = store.names(split)
    labelled = store.labelled(names)
    return StoredCases(store, names), None if labelled.all() else labelled


def facts_of(store: Store, config: Config) -> TrainingFacts:
    """Class counts and weights; warns of classes that no training case has."""
    loss, names = config.train.loss, store.names("train")
    counts = store.voxel_counts(loss.counts)
    ignores = any(store.manifest.cases[name].ignored_prepared for name in names)
    for label in np.flatnonzero(counts == 0):
        verb = "contains" if store.labelled(names)[:, label].any() else "labels"
        is_lost = any(store.manifest.cases[name].voxel_counts_original[label] for name in names)
        it = "what is labelled of it" if ignores else "it"
        where, remedy = (
            ("", "`prepare --classes` leaves it out.")
            if not is_lost
            else (
                f", though their scans do: {it} is too small for the store's voxels",
                "Prepare with a smaller --spacing-mm.",
            )
        )
        log.warning(
            "%s: no training case %s %s%s; the model cannot learn it, and may call background so. %s",
            *(store.path, verb, store.classes.names[label], where, remedy),
        )
    return TrainingFacts(
        class_voxel_counts=torch.from_numpy(counts),
        class_weights=WeightSchedule.of(counts, config.train.weighting, loss, len(names), store.classes.names),
        training_spacings_mm=tuple(store.geometry(name).spacing_mm for name in names),
        classes=store.classes,
        voxel_weights=cross_entropy_weights(counts, loss, len(names), store.classes.names)
        if loss.cross_entropy > 0
        else None,
        ignores=ignores,
    )
