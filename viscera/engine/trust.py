"""When not to trust a prediction: each organ's measurements against those of the training set.

A flag says that an organ is unlike what the model has learnt, not that it is wrong; without one it may still be wrong.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from torch import Tensor

from viscera.core.scan import OrganFacts
from viscera.core.wording import told_apart
from viscera.imaging.most_probable import most_probable
from viscera.imaging.probabilities import entropy
from viscera.io.manifest import Manifest
from viscera.io.records import read_json, validated, write_record
from viscera.io.store import Store
from viscera.metrics.learning import FAILED_DICE
from viscera.metrics.organ_facts import organ_facts

Spacing = tuple[float, float, float]
HU_MARGIN = 20.0  # beyond the training cases' means: between two scanners and observers of one phase
VOLUME_FACTOR = 1.25  # beyond the training cases' volumes
ENTROPY_FACTOR = 1.25  # beyond the validation cases' entropies
USUALLY = 0.5  # of the training cases
NEARLY_ALWAYS = 0.9  # of the training cases
ORGANS_FOR_A_PHASE = 2  # and half of those found, with HU unlike training, for the whole scan to be called unlike
_MOST_CASES = 256  # whose organs are measured
TOLERATED_FAILURES = 0.05  # among the organs that the confidence does not flag


@dataclass(frozen=True)
class OrganRange:
    """What the training cases say of one organ."""

    cases: int  # training cases that label the organ, and were measured
    present: float  # share of them that contain it
    cut_off: float  # of those, share in which it touches the edge of the scan
    volume_ml: tuple[float, float] | None  # least and largest of the cases in which it is whole; None where it never is
    mean_hu: tuple[float, float] | None  # least and largest of the cases that contain it; None where none does
    large_fragments: int  # the most of any case

    @classmethod
    def of(cls, facts: Sequence[OrganFacts]) -> "OrganRange":
        """From the labels of the training cases; what may go on in voxels that nobody labelled is not whole."""
        found = [each for each in facts if each.mean_hu is not None]
        whole = [each.volume_ml for each in found if not each.cut_off and not each.beside_ignored]
        hu = [each.mean_hu for each in found if each.mean_hu is not None]
        return cls(
            cases=len(facts),
            present=len(found) / len(facts) if facts else 0.0,
            cut_off=sum(each.cut_off for each in found) / len(found) if found else 0.0,
            volume_ml=(min(whole), max(whole)) if whole else None,
            mean_hu=(min(hu), max(hu)) if hu else None,
            large_fragments=max((each.large_fragments for each in found if not each.beside_ignored), default=0),
        )

    @classmethod
    def joined(cls, several: Sequence["OrganRange"]) -> "OrganRange":
        """Of the training cases of several models, some of which they may share."""
        volumes = [each.volume_ml for each in several if each.volume_ml is not None]
        hu = [each.mean_hu for each in several if each.mean_hu is not None]
        return cls(
            cases=max(each.cases for each in several),
            present=float(np.mean([each.present for each in several])),
            cut_off=float(np.mean([each.cut_off for each in several])),
            volume_ml=_around(volumes),
            mean_hu=_around(hu),
            large_fragments=max(each.large_fragments for each in several),
        )


def _around(ranges: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


@dataclass(frozen=True)
class TrainingRanges:
    """What the training set looks like, as far as a prediction can be held against it."""

    organs: Mapping[str, OrganRange]  # by name
    # below it an organ is flagged; 0 where nothing was held out to choose it on; of several models, for each organ
    least_confidence: float | Mapping[str, float] = 0.0
    # the largest mean entropy of an organ's voxels in a validation case where it did not fail, by its name
    most_entropy: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_organs(cls, known: Mapping[str, "TrainingRanges | None"]) -> "TrainingRanges":
        """Each organ as another model saw it; what a model does not know of an organ stays unknown."""
        own = {organ: each for organ, each in known.items() if each is not None and organ in each.organs}
        return cls(
            {organ: each.organs[organ] for organ, each in own.items()},
            {organ: each.sure_from(organ) for organ, each in own.items()},
            {organ: each.most_entropy[organ] for organ, each in own.items() if organ in each.most_entropy},
        )

    @classmethod
    def joined(cls, several: Sequence["TrainingRanges"]) -> "TrainingRanges":
        """Of models whose probabilities are averaged: all that any of them saw, and the mean of their levels.

        The mean of probabilities is more undecided than these are: of entropies the largest counts.
        """
        names = dict.fromkeys(organ for each in several for organ in each.organs)
        known = {organ: [each for each in several if organ in each.organs] for organ in names}
        return cls(
            {organ: OrganRange.joined([each.organs[organ] for each in by]) for organ, by in known.items()},
            {organ: float(np.mean([each.sure_from(organ) for each in by])) for organ, by in known.items()},
            {
                organ: max(each.most_entropy[organ] for each in by)
                for organ, by in known.items()
                if all(organ in each.most_entropy for each in by)
            },
        )

    def sure_from(self, organ: str) -> float:
        """The confidence below which an organ is flagged."""
        level = self.least_confidence
        return level.get(organ, 0.0) if isinstance(level, Mapping) else level


def reasons_not_to_trust(
    facts: Mapping[str, OrganFacts], training: TrainingRanges, unlike_spacing: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Why each organ of a label map should be looked at before it is used; empty: nothing was noticed.

    Organs that the training does not know are judged by the scan alone; `unlike_spacing` are those for whose model the
    scan's voxels were too unlike those of training.
    """
    judged = {
        name: _own_reasons(each, training.organs[name]) + _unsure(each, training, name)
        for name, each in facts.items()
        if name in training.organs
    }
    unlike = [name for name, reasons in judged.items() if any(reason.startswith("HU") for reason in reasons)]
    of_scan = []
    found = sum(each.mean_hu is not None for each in facts.values())
    if len(unlike) >= max(ORGANS_FOR_A_PHASE, found / 2):
        of_scan.append(f"contrast phase unlike training (HU of {', '.join(name.replace('_', ' ') for name in unlike)})")
    spacing = {name: ["spacing unlike training"] if name in unlike_spacing else [] for name in facts}
    return {name: (*judged.get(name, ()), *spacing[name], *of_scan) for name in facts}


def _own_reasons(facts: OrganFacts, known: OrganRange) -> list[str]:
    if facts.mean_hu is None:
        return ["not found"] if known.present >= NEARLY_ALWAYS else []
    if known.present == 0:
        return ["in no training case"]
    reasons = []
    if facts.cut_off and known.cut_off < USUALLY:
        reasons.append("cut off by the field of view")
    if known.volume_ml is not None:
        low, high = known.volume_ml[0] / VOLUME_FACTOR, known.volume_ml[1] * VOLUME_FACTOR
        if facts.volume_ml > high or (facts.volume_ml < low and not facts.cut_off):
            reasons.append("volume {} mL outside {} to {}".format(*told_apart((facts.volume_ml, low, high), 0)))
    if known.mean_hu is not None:
        low, high = known.mean_hu[0] - HU_MARGIN, known.mean_hu[1] + HU_MARGIN
        if not low <= facts.mean_hu <= high:
            reasons.append("HU {} outside {} to {}".format(*told_apart((facts.mean_hu, low, high), 0)))
    if facts.large_fragments > max(known.large_fragments, 1):
        reasons.append(f"{facts.large_fragments} large fragments")
    return reasons


def _unsure(facts: OrganFacts, training: TrainingRanges, organ: str) -> list[str]:
    """What the network itself says of an organ that it found, and that some training case contains."""
    if facts.mean_hu is None or training.organs[organ].present == 0:
        return []
    reasons, sure_from = [], training.sure_from(organ)
    if facts.confidence is not None and facts.confidence < sure_from:
        reasons.append("low confidence ({}, below {})".format(*told_apart((facts.confidence, sure_from), 2)))
    most = min(1.0, ENTROPY_FACTOR * training.most_entropy.get(organ, 1.0))
    if facts.entropy is not None and facts.entropy > most:
        reasons.append("undecided (entropy {}, above {})".format(*told_apart((facts.entropy, most), 2)))
    return reasons


class HeldOut(NamedTuple):
    """What became of an organ in a validation case that labels it and where it was found."""

    organ: str  # its name
    confidence: float  # mean probability of its voxels, 0 to 1
    entropy: float  # likewise, how undecided the network is
    dice: float


def most_entropy(found: Sequence[HeldOut]) -> dict[str, float]:
    """The largest of each organ over the cases where it did not fail (`FAILED_DICE`), if there are any."""
    most: dict[str, float] = {}
    for each in found:
        if each.dice >= FAILED_DICE:
            most[each.organ] = max(each.entropy, most.get(each.organ, 0.0))
    return most


def least_confidence(confidence: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """The lowest confidence from which on at most one organ in twenty fails, on held-out cases; both (N,), 0 to 1.

    0 where few enough fail anyhow; 1 where none of the confidences tells them apart.
    """
    sure, score = np.asarray(confidence, dtype=float), np.asarray(dice, dtype=float)
    for level in [0.0, *np.unique(sure).tolist()]:
        kept = score[sure >= level]
        if (kept < FAILED_DICE).mean() <= TOLERATED_FAILURES if kept.size else True:
            return float(level)
    return 1.0


def failures_among(dice: Sequence[float], flagged: Sequence[bool]) -> tuple[int, int, int, int]:
    """Unflagged organs with a Dice below 0.5, all unflagged ones, and the same two of the flagged ones."""
    failed = np.asarray(dice, dtype=float) < FAILED_DICE
    marked = np.asarray(flagged, dtype=bool)
    return int((failed & ~marked).sum()), int((~marked).sum()), int((failed & marked).sum()), int(marked.sum())


def training_ranges(store: Store) -> dict[str, OrganRange]:
    """The organs of the training cases, on the prepared grid; an organ is judged by the cases that label it.

    Of many cases by `_MOST_CASES`, spread evenly over their names: the time must not grow with the patients. Those of
    the store that a process asked for last are remembered: all arms of a study have the same.
    """
    return dict(_ranges_of(store.path, store.manifest.model_dump_json()))


@lru_cache(maxsize=1)
def _ranges_of(path: Path, manifest: str) -> dict[str, OrganRange]:
    store = Store(path, Manifest.model_validate_json(manifest))
    unlabelled = {name: store.manifest.cases[name].unlabelled for name in store.names("train")}
    facts: dict[str, list[OrganFacts]] = {organ.name: [] for organ in store.classes.organs}
    wanted: dict[str, list[str]] = {}
    for organ in facts:
        for name in _evenly([name for name, without in unlabelled.items() if organ not in without]):
            wanted.setdefault(name, []).append(organ)
    for name, organs in wanted.items():
        measured = organ_facts(store.volume(name), store.label_map(name), store.classes)
        has_ignored = store.manifest.cases[name].ignored_prepared > 0  # an organ that is not seen may lie there
        for organ in organs:
            if not has_ignored or measured[organ].voxels:
                facts[organ].append(measured[organ])
    return {organ: OrganRange.of(found) for organ, found in facts.items()}


def _evenly(cases: Sequence[str]) -> list[str]:
    most = min(len(cases), _MOST_CASES)
    return [cases[number * len(cases) // most] for number in range(most)]


def save_ranges(path: Path, ranges: TrainingRanges) -> None:
    """Write them beside a model."""
    write_record(path, TypeAdapter(TrainingRanges).dump_python(ranges, mode="json"))


def load_ranges(path: Path) -> TrainingRanges | None:
    """Read them; None where an earlier version wrote none. Raises BadInputError where they are damaged."""
    if not path.exists():
        return None
    return validated(TrainingRanges, read_json(path), path, "Delete it to predict without it.")


class ConfidenceTally:
    """Mean probability of each class over the voxels where it is the most probable one, gathered as they pass by.

    Of organs the mean entropy, too.
    """

    def __init__(self, length: int) -> None:
        self.counts = torch.zeros(length, dtype=torch.int64)
        self.sums = torch.zeros(length, dtype=torch.float64)
        self.entropies = torch.zeros(length, dtype=torch.float64)

    def add(self, probabilities: Tensor, known: npt.NDArray[np.bool_] | None = None) -> None:
        """Count the voxels of (L, ...) softmax, or those that are `known` (...)."""
        if known is not None and not known.all():
            probabilities = probabilities[:, torch.from_numpy(known)]
        best, labels = most_probable(probabilities)
        length = self.counts.numel()
        self.counts += torch.bincount(labels.ravel(), minlength=length)
        self.sums += torch.bincount(labels.ravel(), weights=best.ravel().double(), minlength=length)
        self._add_entropies(probabilities, labels)

    def _add_entropies(self, probabilities: Tensor, labels: Tensor) -> None:
        """Of the voxels of organs alone: most are background."""
        labels = labels.ravel()
        of_organ = labels.nonzero().squeeze(1)  # a mask would take five times as long
        if of_organ.numel():
            undecided = entropy(probabilities.flatten(1).index_select(1, of_organ)).double()
            self.entropies += torch.bincount(labels[of_organ], weights=undecided, minlength=self.counts.numel())

    def means(self) -> list[float | None]:
        """(L,) in [0, 1]; None of a class that is nowhere the most probable."""
        return [float(total / n) if n else None for total, n in zip(self.sums, self.counts, strict=True)]

    def mean_entropies(self) -> list[float | None]:
        """(L,) in [0, 1], no unit; None of background, and of an organ that is nowhere the most probable."""
        means = [float(total / n) if n else None for total, n in zip(self.entropies, self.counts, strict=True)]
        return [None, *means[1:]]

    def held_out(self, organs: Sequence[str], dice_L: Sequence[float | None]) -> list[HeldOut]:
        """Of a validation case: the organs that were found, by name in label order, and whose Dice is defined."""
        rows = zip(organs, self.means()[1:], self.mean_entropies()[1:], dice_L[1:], strict=True)
        return [
            HeldOut(organ, sure, undecided, score)
            for organ, sure, undecided, score in rows
            if sure is not None and undecided is not None and score is not None
        ]
