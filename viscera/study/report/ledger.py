"""The ledger of the paper's claims for one study: `claims.csv`, and the page's section "The paper's claims"."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from viscera.core.config import TrainConfig
from viscera.core.settings import differences
from viscera.study.report.claims import CLAIMS, Claim
from viscera.study.report.contrasts import Evidence
from viscera.study.report.iterations import at_stage
from viscera.study.report.summaries import SEEDS_FOR_CONCLUSIONS
from viscera.study.report.verdicts import Reading, Verdict, Word, settle, shift_of
from viscera.study.results import StudyResult, counted, signed

_NAME_LENGTH = 60


class Entry(NamedTuple):
    """One line of the ledger, as in claims.csv; `word` and `reason` are apart for the page.

    Attributes:
        claim: its number.
        statement: in our own words.
        tested_by: settings and rule.
        result: the numbers, and where it is undecided why.
        verdict: the word, on which data, and about what.
        data: name, cases, seeds, iterations.
        word: supported, contradicted or undecided.
        numbers, reason: the parts of `result`; numbers are apart by `; `.
    """

    claim: str
    statement: str
    tested_by: str
    result: str
    verdict: str
    data: str
    word: Word
    numbers: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        """As in the file."""
        return self[: len(COLUMNS)]


COLUMNS = Entry._fields[:6]


@dataclass(frozen=True)
class Ledger:
    """All lines.

    Attributes:
        entries: in the order of the claims.
        summary: how many came out how, in a sentence.
        notes: how far they carry, and what differs from the paper's training; plain text.
    """

    entries: tuple[Entry, ...]
    summary: str
    notes: tuple[str, ...]


def evidence_of(study: StudyResult, grid: str) -> Evidence:
    """All that a study has on one grid: its scores, those of the combined models, those of earlier stages."""
    earlier = {stage: at_stage(study, stage) for stage in study.record.all_stages[:-1]}
    return Evidence(study, grid, study.fused.scores if study.fused else (), earlier)


def ledger(evidence: Evidence) -> Ledger:
    """Test every claim that the study allows; what it does not allow is undecided, with what it would take."""
    readings = [claim.reading(evidence) for claim in CLAIMS]
    verdicts = settle(readings)
    entries = tuple(
        _entry(evidence, claim, reading, verdict)
        for claim, reading, verdict in zip(CLAIMS, readings, verdicts, strict=True)
    )
    tested = sum(verdict.p_holm is not None for verdict in verdicts)
    return Ledger(entries, _summary(evidence.study, entries, tested), tuple(_notes(evidence)))


def _entry(evidence: Evidence, claim: Claim, reading: Reading, verdict: Verdict) -> Entry:
    numbers = _numbers(reading, verdict) if verdict.p_holm is not None else ""
    remark = reading.remark if numbers else ""
    reason = " ".join(filter(None, (remark, verdict.reason)))
    return Entry(
        claim=claim.number,
        statement=claim.statement,
        tested_by=claim.tested_by[0].upper() + claim.tested_by[1:],
        result=" ".join(filter(None, (numbers, reason))),
        verdict=_worded(evidence.study, verdict),
        data=_data(evidence, verdict),
        word=verdict.word,
        numbers=numbers,
        reason=reason,
    )


def _numbers(reading: Reading, verdict: Verdict) -> str:
    """Each difference once, with its interval, then p."""
    contrasts = {part.contrast.title: part.contrast for part in reading.parts}
    texts = []
    for title, contrast in contrasts.items():
        shift = shift_of(contrast)
        if shift is not None:
            interval = "" if shift.low is None else f" [{signed(shift.low)}, {signed(shift.high)}]"
            texts.append(f"{title}: {signed(shift.estimate)}{interval}")
    p = verdict.p_holm or 0.0
    printed = f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
    return "; ".join([*texts, f"{printed}, {counted(verdict.patients, 'case')}."])


def _worded(study: StudyResult, verdict: Verdict) -> str:
    """Never about patients on a phantom, nor about weightings in general with few seeds."""
    where = "on this phantom" if study.phantom else "on these cases"
    models = ", for these models" if verdict.word != "undecided" and verdict.seeds < SEEDS_FOR_CONCLUSIONS else ""
    return f"{verdict.word} {where}{models}"


def _data(evidence: Evidence, verdict: Verdict) -> str:
    study = evidence.study
    config = study.record.config
    tested = verdict.p_holm is not None
    cases = verdict.patients if tested else len(study.scored_cases())
    seeds = verdict.seeds if tested else len(config.study.seeds)
    variant = f", variant {evidence.base_variant}" if evidence.base_variant else ""
    return (
        f"{data_name(study)}: {counted(cases, 'test case')}, {counted(seeds, 'seed')}, "
        f"{study.record.all_stages[-1]:,} iterations{variant}"
    )


def data_name(study: StudyResult) -> str:
    """The beginning of the data's description, up to its first colon, semicolon or comma."""
    text = " ".join(study.record.dataset.split()) or "data not described"
    end = min((at for mark in ":;," if (at := text.find(mark)) > 0), default=len(text))
    name = text[: min(end, _NAME_LENGTH)].strip()
    return f"{name} (phantom)" if study.phantom and "phantom" not in name.lower() else name


def _summary(study: StudyResult, entries: tuple[Entry, ...], tested: int) -> str:
    counts = {word: sum(e.word == word for e in entries) for word in ("supported", "contradicted", "undecided")}
    where = "On this phantom" if study.phantom else "On these cases"
    return (
        f"{where}, of {len(entries)} lines (claim 10 has two halves) {tested} could be tested: "
        f"{counts['supported']} supported, {counts['contradicted']} contradicted, "
        f"{counts['undecided'] - (len(entries) - tested)} left undecided by the numbers."
    )


def _notes(evidence: Evidence) -> Iterator[str]:
    study, train = evidence.study, evidence.study.record.config.train
    if study.phantom:
        yield "The cases are a phantom's: no line says anything about patients."
    if len(study.record.config.study.seeds) < SEEDS_FOR_CONCLUSIONS:
        yield (
            f"“These models”: fewer than {SEEDS_FOR_CONCLUSIONS} seeds, so another run of the same settings may come "
            "out otherwise."
        )
    changed = differences(TrainConfig(), train, ("schedule", "reading"))
    if changed:
        yield f"Other than viscera's reading of the paper: {'; '.join(changed)}."
