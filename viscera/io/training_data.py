"""What a run says of the cases that it was trained on, `training_data.json`: counts and sizes, and no case by name."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import ClassNames
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.settings import Settings
from viscera.io.checkpoint import Checkpoint
from viscera.io.manifest import CaseRecord, Split
from viscera.io.records import read_json, validated
from viscera.io.runlog import RunFolder
from viscera.io.splits import split_sizes
from viscera.io.store import Store

Sizes = tuple[float, float, float]
_USED = {"train": ("training cases", "trained on"), "validation": ("validation cases", "measured on so far")}


class GridFacts(Settings):
    """The grids of several scans along R, A, S: each axis by itself."""

    shape: Sizes  # voxels, the median
    spacing_mm: Sizes  # the median
    finest_mm: Sizes
    coarsest_mm: Sizes

    @classmethod
    def of(cls, grids: Iterable[Geometry]) -> "GridFacts":
        """Of one grid or more, in whichever order of axes."""
        canonical = [AxisOrder.to_canonical(each).apply_to_geometry(each) for each in grids]
        shapes, spacings = (np.array([getattr(g, what) for g in canonical]) for what in ("shape", "spacing_mm"))
        rows = np.median(shapes, 0), np.median(spacings, 0), spacings.min(0), spacings.max(0)
        shape, spacing_mm, finest_mm, coarsest_mm = (np.round(row, 4).tolist() for row in rows)
        return cls(shape=shape, spacing_mm=spacing_mm, finest_mm=finest_mm, coarsest_mm=coarsest_mm)


class TrainingData(Settings):
    """A training set, as its store describes it; sequences (L,), background first."""

    dataset: str = ""  # what the data set calls itself
    licence: str = ""  # as its `dataset.json` states it; empty: it does not
    cases: dict[Split, int] = Field(default_factory=dict)  # as this training saw the store
    fold: int | Literal["all"] | None = None  # that was held out; None: as the store splits its cases
    folds: int = 0  # of the store
    original: GridFacts | None = None  # of the scans
    prepared: GridFacts | None = None  # that the network saw
    classes: ClassNames = CLASS_NAMES
    cases_labelling: tuple[int, ...] = ()  # training cases that label the class
    cases_with_class: tuple[int, ...] = ()  # of these, how many contain it
    mean_volume_ml: tuple[float | None, ...] = ()  # on the scans' own grids, over the cases that contain it
    mean_volume_of: Literal["organ", "labelled part"] = "organ"  # the latter where nobody labelled a part of some cases
    cases_with_ignored: int = 0  # training cases with voxels that nobody labelled
    sha256: str = ""  # of the files of the training cases, as the store holds them
    validation_sha256: str = ""  # of those of the validation cases

    @model_validator(mode="before")
    @classmethod
    def _as_of_now(cls, values: Any) -> Any:  # noqa: ANN401 - whatever is to become one
        """Earlier files and cards name the store's folder, which says too much, and not of what the volumes are."""
        if not isinstance(values, dict):
            return values
        of = {"mean_volume_of": "labelled part"} if values.get("cases_with_ignored") else {}
        return of | {key: value for key, value in values.items() if key != "store"}

    @classmethod
    def of(cls, store: Store, fold: int | Literal["all"] | None = None) -> "TrainingData":
        """Of a store with a training case or more, as a training of a fold sees it (`Store.of_fold`)."""
        manifest, names = store.manifest, store.names("train")
        records = [manifest.cases[name] for name in names]
        voxel_ml = np.array([record.original.geometry.voxel_volume_ml for record in records])
        volumes_ml = np.array([record.voxel_counts_original for record in records]) * voxel_ml[:, None]
        labelled = store.labelled(names)
        present = labelled & (volumes_ml > 0)
        return cls(
            dataset=manifest.dataset,
            licence=manifest.licence,
            cases=split_sizes(store),
            fold=fold,
            folds=manifest.prepare.folds,
            original=GridFacts.of(map(store.original_geometry, names)),
            prepared=GridFacts.of(map(store.geometry, names)),
            classes=store.classes.names,
            cases_labelling=tuple(labelled.sum(0).tolist()),
            cases_with_class=tuple(present.sum(0).tolist()),
            mean_volume_ml=tuple(
                round(float(column[there].mean()), 3) if there.any() else None
                for column, there in zip(volumes_ml.T, present.T, strict=True)
            ),
            cases_with_ignored=sum(record.ignored_original > 0 for record in records),
            sha256=training_set_sha256(store),
            validation_sha256=training_set_sha256(store, "validation"),
        )

    @classmethod
    def read(cls, path: Path) -> "TrainingData | None":
        """What a run wrote; None of a run of before. Raises BadInputError where it is damaged."""
        if not path.exists():
            return None
        return validated(cls, read_json(path), path, "Delete it, or train this run again.")

    def unlike(self, store: Store) -> str:
        """What a store, as a training saw it, has that is not of this training set, for people; empty: nothing.

        Known by the checksums of the files, which runs of before have not. Where nothing was measured on validation
        cases so far, they may be any.
        """
        validation = self.validation_sha256 if self.cases.get("validation") else ""
        then_of: dict[Split, str] = {"train": self.sha256, "validation": validation}
        for split, then in then_of.items():
            now = training_set_sha256(store, split)
            if then and then != now:
                cases, use = _USED[split]
                return (
                    f"the images or labels of the {cases} of {store.path} are not those that it was {use} "
                    f"(SHA-256 {then[:12]}… then, {now[:12]}… now)"
                )
        return ""


def was_trained_on(folder: RunFolder, checkpoint: Checkpoint, store: Store) -> bool:
    """Whether a store, as a training saw it (`Store.of_fold`), has the training cases of a run, and no others.

    By the checksum of their files; of a run of before, which has none, by what its checkpoint says of them.
    """
    counts = store.voxel_counts(checkpoint.config.train.loss.counts).tolist()
    spacings = tuple(store.geometry(name).spacing_mm for name in store.names("train"))
    data = TrainingData.read(folder.training_data)
    is_same = data is None or not data.sha256 or data.sha256 == training_set_sha256(store)
    return is_same and counts == checkpoint.class_voxel_counts.tolist() and spacings == checkpoint.training_spacings_mm


def training_set_sha256(store: Store, split: Split = "train") -> str:
    """Of the images and labels of the training cases: it differs where any of them does, or another one is trained on.

    Or of those of another split. The names of the cases have no part in it.
    """
    return sha256_of_cases(map(files_of, map(store.manifest.cases.__getitem__, store.names(split))))


def files_of(record: CaseRecord) -> str:
    """Which image and labels a case has, by their checksums."""
    return f"{record.sha256['image.npy']} {record.sha256['labels.npy']}"


def sha256_of_cases(files: Iterable[str]) -> str:
    """Of a set of cases by `files_of` each, in any order."""
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()
