"""How a claim is settled: every part must hold, Holm's correction over the claims, and the seeds must agree.

The rules and their reasons stand in docs/decisions/0008-claim-ledger.md; they were written before any study was read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from viscera.metrics.statistics import Array, Shift, hodges_lehmann, holm, pairs_needed, signed_rank_test, smallest_p
from viscera.study.report.comparisons import ALPHA
from viscera.study.report.contrasts import Contrast, Points
from viscera.study.report.summaries import SEEDS_FOR_CONCLUSIONS
from viscera.study.results import counted

Word = Literal["supported", "contradicted", "undecided"]


class Part(NamedTuple):
    """One inequality of a claim: the contrast lies above (or below) a bound.

    Attributes:
        contrast: in points.
        bound: in points.
        above: whether it is claimed to lie above the bound, or else below it.
        counts_against: whether a contrast on the other side contradicts the claim.
    """

    contrast: Contrast
    bound: float = 0.0
    above: bool = True
    counts_against: bool = True

    def claimed(self, points: Points) -> Array:
        """(P,) how far the patients lie on the claimed side of the bound."""
        distance = np.array(list(points.values())) - self.bound
        return np.round(distance if self.above else -distance, 9)


def within(contrast: Contrast, margin: float) -> tuple[Part, Part]:
    """Equivalence: above -margin and below +margin, two one-sided tests (Schuirmann 1987)."""
    return Part(contrast, -margin), Part(contrast, margin, above=False)


@dataclass(frozen=True)
class Reading:
    """What one claim comes to in one study.

    Attributes:
        parts: all of which the claim says; empty where it cannot be tested.
        missing: why it cannot be tested and what it would take, in sentences; empty where it can.
        remark: further numbers that decide nothing, in sentences.
        reserve: why parts that do not count against the claim do not, in a sentence.
    """

    parts: tuple[Part, ...] = ()
    missing: str = ""
    remark: str = ""
    reserve: str = ""


class Weighed(NamedTuple):
    """The p of a claim, before Holm's correction over the claims.

    Attributes:
        support: that all parts hold: the largest p of a part, 1 where one points the other way.
        against: that a part is reversed: the smallest such p times the number of parts that count.
        reversed_part: the part of that p; None where none counts.
    """

    support: float
    against: float
    reversed_part: Part | None

    @property
    def p(self) -> float:
        """Of whichever is shown better."""
        return min(self.support, self.against)


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
        word: supported, contradicted or undecided.
        p_holm: None where it was not tested.
        reason: why it is undecided, and what it would take; which part of several contradicts it; else empty.
        seeds: those behind it; 0 where not tested.
        patients: the fewest of its parts.
    """

    word: Word
    p_holm: float | None = None
    reason: str = ""
    seeds: int = 0
    patients: int = 0


def settle(readings: Sequence[Reading]) -> list[Verdict]:
    """One verdict a reading; Holm's correction is over those that could be tested."""
    weighed = [weigh(reading.parts) if _testable(reading) else None for reading in readings]
    tested = [w for w in weighed if w is not None]
    corrected = iter(holm(np.array([w.p for w in tested])).tolist())
    return [
        _verdict(reading, w, next(corrected), len(tested)) if w is not None else _untested(reading)
        for reading, w in zip(readings, weighed, strict=True)
    ]


def weigh(parts: Sequence[Part]) -> Weighed:
    """Test the parts; each needs one patient or more."""
    directed = [_directed(part.claimed(part.contrast.patients)) for part in parts]
    counting = [(against, index) for index, (_, against) in enumerate(directed) if parts[index].counts_against]
    smallest, index = min(counting, default=(1.0, None))
    reversed_part = None if index is None else parts[index]
    return Weighed(max(p for p, _ in directed), min(1.0, smallest * max(1, len(counting))), reversed_part)


def shift_of(contrast: Contrast) -> Shift | None:
    """The Hodges-Lehmann difference and its 95 % interval; None without patients."""
    points = np.array(list(contrast.patients.values()))
    return hodges_lehmann(points) if points.size else None


def seeds_agree(agreeing: int, seeds: int) -> bool:
    """Whether single seeds point the way of the verdict often enough.

    One seed: nothing to ask. Two to four: all. Five or more: the one-sided sign test over seeds is below 0.05, which
    asks for all of five to seven, and lets one of eight differ.
    """
    if seeds < SEEDS_FOR_CONCLUSIONS:
        return seeds < 2 or agreeing == seeds
    return float(stats.binomtest(agreeing, seeds, alternative="greater").pvalue) < ALPHA


def _testable(reading: Reading) -> bool:
    return bool(reading.parts) and not reading.missing and all(part.contrast.patients for part in reading.parts)


def _untested(reading: Reading) -> Verdict:
    return Verdict("undecided", reason=reading.missing or "No test case was scored on both sides of a comparison.")


def _verdict(reading: Reading, weighed: Weighed, p_holm: float, claims: int) -> Verdict:
    parts = reading.parts
    patients = min(len(part.contrast.patients) for part in parts)
    seeds = sorted(set.intersection(*(set(part.contrast.by_seed) for part in parts)))
    scope = max(1, len(seeds))

    def undecided(reason: str) -> Verdict:
        return Verdict("undecided", p_holm, reason, scope, patients)

    if p_holm >= ALPHA:
        return undecided(_why_not_shown(reading, weighed, patients, claims))
    supported = weighed.support <= weighed.against
    deciding = parts if supported or weighed.reversed_part is None else (weighed.reversed_part,)
    agreeing = sum(_points_to(deciding, seed, supported=supported) for seed in seeds)
    if not seeds_agree(agreeing, len(seeds)):
        shown = "support it" if supported else "contradict it"
        return undecided(
            f"The seeds disagree: the means over seeds {shown}, but only {agreeing} of {counted(len(seeds), 'seed')} "
            f"alone. More seeds would tell (--seeds, {SEEDS_FOR_CONCLUSIONS} or more)."
        )
    if supported:
        return Verdict("supported", p_holm, "", scope, patients)
    reason = f"The reverse is shown for {deciding[0].contrast.title}." if len(parts) > 1 else ""
    return Verdict("contradicted", p_holm, reason, scope, patients)


def _why_not_shown(reading: Reading, weighed: Weighed, patients: int, claims: int) -> str:
    if claims * smallest_p(patients) >= ALPHA:
        return (
            f"Too few test cases: {patients} can show nothing, however clear. With {counted(claims, 'claim')} tested "
            f"it takes {pairs_needed(claims, ALPHA)} or more."
        )
    if reading.reserve and any(_directed(p.claimed(p.contrast.patients))[1] < ALPHA for p in reading.parts):
        return reading.reserve
    unclear = "" if weighed.p >= ALPHA else " once corrected for the number of claims"
    return f"Neither the claim nor its reverse is shown{unclear}. More test cases, or a clearer difference, would tell."


def _points_to(parts: Iterable[Part], seed: int, *, supported: bool) -> bool:
    """Whether one seed alone lies on the side of the verdict in every part."""
    distances = (part.claimed(part.contrast.by_seed[seed]) for part in parts)
    shifts = (hodges_lehmann(values).estimate if values.size else 0.0 for values in distances)
    return all(shift > 0 if supported else shift < 0 for shift in shifts)


def _directed(distances: Array) -> tuple[float, float]:
    """Two p: that the patients lie above 0, and that they lie below; the two-sided p on its side, 1 on the other."""
    tendency = float((np.sign(distances) * stats.rankdata(np.abs(distances))).sum())
    p = signed_rank_test(distances).p
    return (p if tendency > 0 else 1.0), (p if tendency < 0 else 1.0)
