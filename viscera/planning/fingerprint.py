"""What the training cases of a store are like, as far as a plan depends on it: grids, HU of the organs, volumes.

Validation and test cases are not looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import AxisOrder
from viscera.core.scan import HuArray, LabelArray, value_counts
from viscera.engine.feed import training_cases
from viscera.imaging.windows import random_origin
from viscera.io.splits import evenly_spread
from viscera.io.store import Store

Spacing = tuple[float, float, float]
PERCENTILES = (0.5, 99.5)  # of the HU of organs, as nnU-Net's
_MOST_CASES = 100  # whose voxels are read
_VOXELS_OF_A_CASE = 100_000  # of organs, whose HU count
_WINDOWS = 240  # of each kind, in which classes are looked for
_CASES_FOR_WINDOWS = 24
_SEED = 2**32


@dataclass(frozen=True)
class OrganFacts:
    """What the training cases say of one organ."""

    name: str
    labelled_by: int  # cases that label it
    cases: int  # that contain it
    median_ml: float  # of these; 0 where there are none
    least_ml: float

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
        organs=tuple(_organ(store, names, label) for label in range(1, len(store.classes))),
    )


def _organ(store: Store, names: Sequence[str], label: int) -> OrganFacts:
    records = [store.manifest.cases[name] for name in names]
    labelling = store.labelled(names)[:, label]
    found = [(each.voxel_counts_original[label], each) for each, does in zip(records, labelling, strict=True) if does]
    volumes = [number * each.original.geometry.voxel_volume_ml for number, each in found if number]
    return OrganFacts(
        name=store.classes.names[label],
        labelled_by=int(labelling.sum()),
        cases=len(volumes),
        median_ml=float(np.median(volumes)) if volumes else 0.0,
        least_ml=min(volumes, default=0.0),
    )


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
