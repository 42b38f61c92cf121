"""What a training takes from a Store: windows, class weights, the HU that z-scores refer to."""

import logging

import numpy as np
import numpy.typing as npt
import torch

from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.feed import Feed
from viscera.engine.trainer import TrainingFacts
from viscera.imaging.windows import clipped_moments
from viscera.io.store import Split, Store
from viscera.losses.balance import WeightSchedule

log = logging.getLogger(__name__)


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
    return Feed(
        cases=arrays(store, "train"),
        patch=train.patch,
        batch_size=train.batch_size,
        seed=train.seed,
        augment=train.augment,
        spacings_mm=spacings_mm,
        classes=store.classes,
        labelled=labelled_in(store, "train"),
    )


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
        name = store.classes.names[label]
        log.warning(
            "%s: no training case %s %s; the model cannot learn it, and may call background so. "
            "`prepare --classes` leaves it out.",
            store.path,
            verb,
            name,
        )
    return TrainingFacts(
        class_voxel_counts=torch.from_numpy(counts),
        class_weights=WeightSchedule.of(counts, config.train.weighting, loss, len(names)),
        training_spacings_mm=tuple(store.geometry(name).spacing_mm for name in names),
        classes=store.classes,
    )
