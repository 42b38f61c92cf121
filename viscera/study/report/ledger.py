"""The ledger of the paper's claims: what each comes to in one study (docs/decisions/0008-claim-ledger.md)."""

from math import isnan
from typing import NamedTuple

import numpy as np

from viscera.core.wording import counted
from viscera.metrics.crossed import crossed_means
from viscera.study.report.claim_rules import Evidence, Reading, Verdict, Word, settle
from viscera.study.report.claims import CLAIMS, Claim
from viscera.study.report.comparisons import POINTS
from viscera.study.results import StudyResult, signed

_NAME_LENGTH = 60


class Entry(NamedTuple):
    """One line of the ledger, as in claims.csv; `word`, `numbers` and `reason` are apart for the page."""

    claim: str  # its number
    statement: str
    tested_by: str  # settings and rule
    result: str  # the numbers, and where it is undecided why
    verdict: str  # the word, on which data, and about what
    data: str  # name, cases, seeds, iterations, and how many runs of the study are in no claim
    word: Word
    numbers: str  # apart by `; `; empty where it was not tested
    reason: str
    models: Word  # what these models show where a word on their settings takes more seeds; else undecided


def ledger(evidence: Evidence) -> list[Entry]:
    """Test every claim that the study allows; what it does not allow is undecided, with what it would take."""
    readings = [claim.reading(evidence) for claim in CLAIMS]
    judged = zip(CLAIMS, readings, settle(readings), strict=True)
    return [_entry(evidence, claim, reading, verdict) for claim, reading, verdict in judged]


def _entry(evidence: Evidence, claim: Claim, reading: Reading, verdict: Verdict) -> Entry:
    """One line; never about patients on a phantom, nor about weightings in general with few seeds."""
    study, tested = evidence.study, verdict.p_holm is not None
    numbers = _numbers(reading, verdict) if tested else ""
    reason = " ".join(filter(None, (reading.remark if tested else "", verdict.reason)))
    where = "on this phantom" if study.phantom else "on these cases"
    models = {"supported": "; these models support it", "contradicted": "; these models contradict it"}
    cases = verdict.patients if tested else len(study.scores.cases())
    seeds = verdict.seeds if tested else study.seeds_of_arms[1]
    data = f"{data_name(study)}: {counted(cases, 'test case')}, {counted(seeds, 'seed')}, "
    data += f"{study.record.all_stages[-1]:,} iterations"
    data += f", variant {evidence.base_variant}" if evidence.base_variant else ""
    if left_out := sum(not run.counts for run in study.runs):
        data += f"; {left_out} of {counted(len(study.runs), 'run')} not trained to the end or not scored, and left out"
    tested_by, result = claim.tested_by[0].upper() + claim.tested_by[1:], " ".join(filter(None, (numbers, reason)))
    worded = f"{verdict.word} {where}{models.get(verdict.models, '')}"
    entry = (claim.number, claim.statement, tested_by, result, worded, data, verdict.word, numbers, reason)
    return Entry(*entry, verdict.models)


def _numbers(reading: Reading, verdict: Verdict) -> str:
    """Each mean difference once with its interval over cases and seeds, 95 % or, of an equivalence, 90 %; then p."""
    texts = []
    for title, part in {part.contrast.title: part for part in reading.parts}.items():
        crossed = crossed_means(part.contrast.by_case_and_seed()[:, :, None])
        bounds = crossed.interval(0.9 if part.one_sided else 0.95)
        low, high = (float(np.clip(bound[0], -POINTS, POINTS)) for bound in bounds)
        interval = "" if isnan(low) else f" [{signed(low)}, {signed(high)}]" + (" (90 %)" if part.one_sided else "")
        texts.append(f"{title}: {signed(float(crossed.mean[0]))}{interval}")
    p = verdict.p_holm or 0.0
    printed = f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
    return "; ".join([*texts, f"{printed}, {counted(verdict.patients, 'case')}."])


def data_name(study: StudyResult) -> str:
    """The beginning of the data's description, up to its first colon, semicolon or comma."""
    text = " ".join(study.record.dataset.split()) or "data not described"
    end = min((at for mark in ":;," if (at := text.find(mark)) > 0), default=len(text))
    name = text[: min(end, _NAME_LENGTH)].strip()
    return f"{name} (phantom)" if study.phantom and "phantom" not in name.lower() else name
