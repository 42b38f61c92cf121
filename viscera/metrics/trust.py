"""When not to trust a prediction: each organ's measurements against those of the training set.

A flag says that an organ is unlike what the model has learnt, not that it is wrong; without one it may still be wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.facts import OrganFacts

Spacing = tuple[float, float, float]
HU_MARGIN = 20.0  # beyond the training cases' means: between two scanners and observers of one phase
VOLUME_FACTOR = 1.25  # beyond the training cases' volumes
USUALLY = 0.5  # of the training cases
NEARLY_ALWAYS = 0.9  # of the training cases
LARGE_FRAGMENT = 0.1  # of the organ's volume
ORGANS_FOR_A_PHASE = 2  # and half of those found, with HU unlike training, for the whole scan to be called unlike
TOLERATED_FAILURES = 0.05  # among the organs that the confidence does not flag
FAILURE_DICE = 0.5


@dataclass(frozen=True)
class OrganRange:
    """What the training cases say of one organ.

    Attributes:
        cases: training cases that label the organ.
        present: share of them that contain it.
        cut_off: of those, share in which it touches the edge of the scan.
        volume_ml: least and largest of the cases in which it is whole; None where it never is.
        mean_hu: least and largest of the cases that contain it; None where none does.
        large_fragments: the most of any case.
    """

    cases: int
    present: float
    cut_off: float
    volume_ml: tuple[float, float] | None
    mean_hu: tuple[float, float] | None
    large_fragments: int

    @classmethod
    def of(cls, facts: Sequence[OrganFacts]) -> "OrganRange":
        """From the labels of the training cases."""
        found = [each for each in facts if each.mean_hu is not None]
        whole = [each.volume_ml for each in found if not each.cut_off]
        hu = [each.mean_hu for each in found if each.mean_hu is not None]
        return cls(
            cases=len(facts),
            present=len(found) / len(facts) if facts else 0.0,
            cut_off=sum(each.cut_off for each in found) / len(found) if found else 0.0,
            volume_ml=(min(whole), max(whole)) if whole else None,
            mean_hu=(min(hu), max(hu)) if hu else None,
            large_fragments=max((each.large_fragments for each in found), default=0),
        )


@dataclass(frozen=True)
class TrainingRanges:
    """What the training set looks like, as far as a prediction can be held against it.

    Attributes:
        organs: by name.
        least_confidence: below it an organ is flagged; 0 where nothing was held out to choose it on.
    """

    organs: Mapping[str, OrganRange]
    least_confidence: float = 0.0


def reasons_not_to_trust(
    facts: Mapping[str, OrganFacts], training: TrainingRanges, *, spacing_unlike: bool = False
) -> dict[str, tuple[str, ...]]:
    """Why each organ of a label map should be looked at before it is used; empty: nothing was noticed.

    Args:
        facts: of the predicted organs, by name.
        training: what they are held against; organs that it does not know are not judged.
        spacing_unlike: whether the scan's voxels were too unlike those of training to be taken as they are.
    """
    judged = {
        name: _own_reasons(each, training.organs[name], training)
        for name, each in facts.items()
        if name in training.organs
    }
    unlike = [name for name, reasons in judged.items() if any(reason.startswith("HU") for reason in reasons)]
    of_scan = ["spacing unlike training"] if spacing_unlike else []
    found = sum(each.mean_hu is not None for each in facts.values())
    if len(unlike) >= max(ORGANS_FOR_A_PHASE, found / 2):
        of_scan.append(f"contrast phase unlike training (HU of {', '.join(name.replace('_', ' ') for name in unlike)})")
    return {name: (*judged.get(name, ()), *of_scan) for name in facts}


def _own_reasons(facts: OrganFacts, known: OrganRange, training: TrainingRanges) -> list[str]:
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
            reasons.append(f"volume {facts.volume_ml:.0f} mL outside {low:.0f} to {high:.0f}")
    if known.mean_hu is not None:
        low, high = known.mean_hu[0] - HU_MARGIN, known.mean_hu[1] + HU_MARGIN
        if not low <= facts.mean_hu <= high:
            reasons.append(f"HU {facts.mean_hu:.0f} outside {low:.0f} to {high:.0f}")
    if facts.large_fragments > max(known.large_fragments, 1):
        reasons.append(f"{facts.large_fragments} large fragments")
    if facts.confidence is not None and facts.confidence < training.least_confidence:
        reasons.append(f"low confidence ({facts.confidence:.2f}, below {training.least_confidence:.2f})")
    return reasons


def least_confidence(confidence: npt.ArrayLike, dice: npt.ArrayLike) -> float:
    """The lowest confidence from which on at most one organ in twenty fails, on held-out cases.

    Args:
        confidence: (N,) of organs in held-out cases, 0 to 1.
        dice: (N,) their Dice.

    Returns:
        0 where few enough fail anyhow; 1 where none of the confidences tells them apart.
    """
    sure, score = np.asarray(confidence, dtype=float), np.asarray(dice, dtype=float)
    for level in [0.0, *np.unique(sure).tolist()]:
        kept = score[sure >= level]
        if (kept < FAILURE_DICE).mean() <= TOLERATED_FAILURES if kept.size else True:
            return float(level)
    return 1.0


def failures_among(dice: Sequence[float], flagged: Sequence[bool]) -> tuple[int, int, int, int]:
    """Unflagged organs with a Dice below 0.5, all unflagged ones, and the same two of the flagged ones."""
    failed = np.asarray(dice, dtype=float) < FAILURE_DICE
    marked = np.asarray(flagged, dtype=bool)
    return int((failed & ~marked).sum()), int((~marked).sum()), int((failed & marked).sum()), int(marked.sum())
