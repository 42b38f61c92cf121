"""What the training cases of a store are like, as far as a plan depends on it: grids, HU of the organs, volumes.

Validation and test cases are not looked at.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import AxisOrder
from viscera.core.scan import HuArray, LabelArray, value_counts
from viscera.engine.feed import training_cases
from viscera.imaging.windows import random_origin
from viscera.io.manifest import CaseRecord
from viscera.io.splits import evenly_spread
from viscera.io.store import Store
from viscera.planning.labelled_part import LabelledPart, Spacing

PERCENTILES = (0.5, 99.5)  # of the HU of organs, as nnU-Net's
_MOST_CASES = 100  # whose voxels are read
_VOXELS_OF_A_CASE = 100_000  # of organs, whose HU count
_WINDOWS = 240  # of each kind, in which classes are looked for
_CASES_FOR_WINDOWS = 24
_SEED = 2**32
_MOST_PARTLY_LABELLED = 32  # whose labels are read
_ENOUGH_WHOLE = 3  # cases with the whole of an organ, for no volume to be estimated
_EVERYWHERE: Spacing = (math.inf, math.inf, math.inf)
# of which the volumes are: organs that border on nothing that nobody labelled; estimates from labelled slices among
# them; or of none, as all border on it
Basis = Literal["whole", "slices", "unknown"]


@dataclass(frozen=True)
class OrganFacts:
    """What the training cases say of one organ."""

    name: str
    labelled_by: int  # cases that label it
    cases: int  # that contain it
    median_ml: float  # of these, as far as they tell it; 0 where none does
    least_ml: float
    basis: Basis = "whole"

    @property
    def has_volume(self) -> bool:
        """Whether any case tells it."""
        return self.median_ml > 0

    def voxels_at(self, spacing_mm: Spacing) -> float:
        """Of the median case, on a grid of such voxels."""
        return 1000 * self.median_ml / math.prod(spacing_mm)


@dataclass(frozen=True)
class OrganHu:
    """HU over the voxels of all organs, each case counting alike."""

    low: float  # the percentiles
    high: float
    mean: float
    sd: float


@dataclass(frozen=True)
class Fingerprint:
    """Of the training cases of a store; medians are of each axis by itself, R, A, S."""

    cases: int
    validation_cases: int
    spacing_mm: Spacing  # median, as the store has them
    spacing_ratio: float  # of the 90th to the 10th percentile, of the axis where that is largest
    shape: Spacing  # median number of voxels along each axis
    scan_spacings_mm: tuple[Spacing, ...]  # of the scans as they came
    scan_shapes: tuple[Spacing, ...]
    hu: OrganHu | None  # None where no case has a voxel of an organ
    organs: tuple[OrganFacts, ...]
    partly_labelled: int = 0  # cases with voxels that nobody labelled
    # how far what is labelled reaches in one piece, in the mean: the median over these cases, if they are most; and the
    # least of any
    labelled_mm: Spacing = _EVERYWHERE
    least_labelled_mm: Spacing = _EVERYWHERE

    def shape_at(self, spacing_mm: Spacing) -> Spacing:
        """Median number of voxels along each axis, on grids of such voxels."""
        extents = np.array(self.scan_shapes) * np.array(self.scan_spacings_mm)
        i, j, k = np.maximum(np.median(np.round(extents / np.array(spacing_mm)), axis=0), 1).tolist()
        return i, j, k


def fingerprint(store: Store) -> Fingerprint:
    """Of a store (as a fold sees it: `Store.of_fold`); raises BadInputError where it has no training case."""
    names = training_cases(store)
    records = [store.manifest.cases[name] for name in names]
    prepared = [record.prepared.geometry for record in records]
    parts = _labelled_parts(store, names)
    lengths = [part.labelled_mm for part in parts.values()]
    partly_labelled = sum(each.ignored_original > 0 for each in records)
    scans = [AxisOrder.to_canonical(g).apply_to_geometry(g) for g in (each.original.geometry for each in records)]
    return Fingerprint(
        cases=len(names),
        validation_cases=len(store.names("validation")),
        spacing_mm=_median([each.spacing_mm for each in prepared]),
        spacing_ratio=float(np.divide(*np.percentile([each.spacing_mm for each in prepared], (90, 10), axis=0)).max()),
        shape=_median([each.shape for each in prepared]),
        scan_spacings_mm=tuple(each.spacing_mm for each in scans),
        scan_shapes=tuple(each.shape for each in scans),
        hu=organ_hu(
            [(store.image(name), store.labels(name)) for name in evenly_spread(names, _MOST_CASES)], len(store.classes)
        ),
        organs=tuple(_organ(store, names, label, parts) for label in range(1, len(store.classes))),
        partly_labelled=partly_labelled,
        labelled_mm=_median(lengths) if len(lengths) > len(names) - partly_labelled else _EVERYWHERE,
        least_labelled_mm=_least([*lengths, _EVERYWHERE]),
    )


def _labelled_parts(store: Store, names: Iterable[str]) -> dict[str, LabelledPart]:
    """Of the cases with voxels that nobody labelled, but for those of which nobody labelled any, or of some of many."""
    records = {name: store.manifest.cases[name] for name in names}
    partly = [name for name, each in records.items() if 0 < each.ignored_original < math.prod(each.original.shape)]
    length = len(store.classes)
    return {
        name: LabelledPart.of(store.original_labels(name), length)
        for name in evenly_spread(partly, _MOST_PARTLY_LABELLED)
    }


def _organ(store: Store, names: Sequence[str], label: int, parts: Mapping[str, LabelledPart]) -> OrganFacts:
    labelling = store.labelled(names)[:, label]
    records = {name: store.manifest.cases[name] for name, does in zip(names, labelling, strict=True) if does}
    found = {name: each for name, each in records.items() if each.voxel_counts_original[label]}
    whole = [
        _labelled_ml(each, label)
        for name, each in found.items()
        if not each.ignored_original or (name in parts and label in parts[name].whole)
    ]
    estimates = [
        _labelled_ml(found[name], label) * part.slices_for_one
        for name, part in parts.items()
        if name in found and part.slices_for_one and label not in part.whole
    ]
    is_enough = len(whole) >= _ENOUGH_WHOLE or not estimates
    volumes = whole if is_enough else whole + estimates
    return OrganFacts(
        name=store.classes.names[label],
        labelled_by=int(labelling.sum()),
        cases=len(found),
        median_ml=float(np.median(volumes)) if volumes else 0.0,
        least_ml=min(volumes, default=0.0),
        basis="unknown" if found and not volumes else "whole" if is_enough else "slices",
    )


def _labelled_ml(record: CaseRecord, label: int) -> float:
    """What is labelled of an organ in a case, on the scan's own grid."""
    return record.voxel_counts_original[label] * record.original.geometry.voxel_volume_ml


def organ_hu(cases: Sequence[tuple[HuArray, LabelArray]], num_classes: int) -> OrganHu | None:
    """Over the voxels of organs of some cases (HU and labels (I, J, K) each), as many of each; None without any.

    As nnU-Net's fingerprint has them, which draws with replacement: of a case with fewer voxels all count, and weigh
    as much as those of the others.
    """
    random = np.random.default_rng(_SEED)
    drawn = []
    for hu, labels in cases:
        own = np.asarray(hu)[(labels > 0) & (labels < num_classes)]
        if own.size:
            drawn.append(random.choice(own, _VOXELS_OF_A_CASE) if own.size > _VOXELS_OF_A_CASE else own)
    if not drawn:
        return None
    values = np.concatenate(drawn).astype(np.float64)
    weights = np.concatenate([np.full(own.size, 1 / own.size) for own in drawn]) / len(drawn)
    mean = float((values * weights).sum())
    order = np.argsort(values, kind="stable")
    until = weights[order].cumsum()
    low, high = (float(values[order][min(int(until.searchsorted(p / 100)), len(order) - 1)]) for p in PERCENTILES)
    return OrganHu(low, high, mean, float(np.sqrt((weights * np.square(values - mean)).sum())))


@dataclass(frozen=True)
class Presence:
    """Share of the windows that contain each organ, (L - 1,) each, of those that lie anywhere and those on organs."""

    anywhere: tuple[float, ...]
    centred: tuple[float, ...]

    def mixed(self, share: float) -> tuple[float, ...]:
        """Where such a share is centred on organs (`train.organ_windows`)."""
        pairs = zip(self.anywhere, self.centred, strict=True)
        return tuple((1 - share) * anywhere + share * centred for anywhere, centred in pairs)


def presence(store: Store, edges: Sequence[int]) -> Presence:
    """Of windows of so many voxels along R, A, S; drawn as a training draws them, from some of the cases."""
    names = evenly_spread(training_cases(store), _CASES_FOR_WINDOWS)
    length, draws = len(store.classes), -(-_WINDOWS // len(names))
    found: list[list[npt.NDArray[np.bool_]]] = [[], []]
    for number, name in enumerate(names):
        labels = np.asarray(store.labels(name))
        room = [max(n - edge, 0) for n, edge in zip(labels.shape, edges, strict=True)]
        anywhere = [random_origin(_SEED, number, draw, [n + 1 for n in room], 1) for draw in range(draws)]
        centres = _organ_voxels(labels, length, number, draws)
        centred = [
            [min(max(at - edge // 2, 0), most) for at, edge, most in zip(voxel, edges, room, strict=True)]
            for voxel in centres
        ]
        for kind, origins in zip(found, (anywhere, centred or anywhere), strict=True):
            for origin in origins:
                window = labels[tuple(slice(at, at + edge) for at, edge in zip(origin, edges, strict=True))]
                kind.append(np.bincount(window.ravel(), minlength=length)[1:length] > 0)
    anywhere_L, centred_L = (np.mean(kind, axis=0).tolist() for kind in found)
    return Presence(tuple(anywhere_L), tuple(centred_L))


def _organ_voxels(labels: LabelArray, length: int, number: int, draws: int) -> list[list[int]]:
    """As `imaging.organ_windows`: an organ drawn evenly among those of the case, then one of its voxels; or none."""
    organs = np.flatnonzero(value_counts(labels)[1:length]) + 1
    if not organs.size:
        return []
    random = np.random.default_rng((_SEED, number))
    chosen = random.choice(organs, draws)
    places = {label: np.flatnonzero(labels == label) for label in np.unique(chosen)}
    at = [int(random.choice(places[label])) for label in chosen]
    return [[int(along) for along in np.unravel_index(place, labels.shape)] for place in at]


def _median(values: Sequence[Sequence[float]]) -> Spacing:
    i, j, k = np.median(np.array(values, dtype=float), axis=0).tolist()
    return i, j, k


def _least(values: Sequence[Sequence[float]]) -> Spacing:
    i, j, k = np.min(values, axis=0).tolist()
    return i, j, k
