"""The section "The paper's claims": the ledger of the claims, and the paper's Table 1 beside the study's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy import stats

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import TrainConfig
from viscera.core.settings import differences
from viscera.metrics.statistics import hodges_lehmann
from viscera.study.report.claim_rules import (
    PAPER_SETTINGS,
    SEEDS_FOR_CONCLUSIONS,
    Evidence,
    Reading,
    Setting,
    Verdict,
    Word,
    settle,
)
from viscera.study.report.claims import CLAIMS, Claim
from viscera.study.report.page_section import Content, Report, Rows, Section
from viscera.study.report.table1_section import Table1, primary_table, row_title
from viscera.study.results import StudyResult, counted, signed

_NAME_LENGTH = 60
FEWEST_ARMS = 3
_PERCENT = {  # as printed, columns in the order of PAPER_SETTINGS: uniform, simple, square at 0.001, then at 0.01
    "background": (99.9, 99.1, 79.2, 99.8, 99.8, 99.6),
    "artery": (80.4, 63.6, 63.4, 79.5, 89.2, 72.4),
    "portal_vein": (78.6, 68.8, 69.1, 75.1, 79.3, 73.0),
    "liver": (96.5, 73.4, 10.1, 95.6, 96.3, 87.7),
    "spleen": (94.7, 71.6, 0.0, 92.0, 93.9, 91.6),
    "stomach": (96.3, 64.1, 6.9, 93.9, 96.1, 82.4),
    "gallbladder": (77.3, 74.7, 54.3, 73.2, 80.8, 54.2),
    "pancreas": (82.7, 78.0, 69.1, 82.4, 84.7, 70.3),
}
_AVG = (88.3, 74.2, 44.0, 86.4, 88.9, 78.9)
MISPRINT = Setting("simple", 0.01)  # its rows average 90.0; artery 80.2 instead of 89.2 would give the printed 88.9


class Entry(NamedTuple):
    """One line of the ledger, as in claims.csv; `word` and `reason` are apart for the page."""

    claim: str  # its number
    statement: str
    tested_by: str  # settings and rule
    result: str  # the numbers, and where it is undecided why
    verdict: str  # the word, on which data, and about what
    data: str  # name, cases, seeds, iterations
    word: Word  # supported, contradicted or undecided
    numbers: str  # numbers, reason: the parts of `result`; numbers are apart by `; `
    reason: str


@dataclass(frozen=True)
class Ledger:
    """All lines."""

    entries: tuple[Entry, ...]  # in the order of the claims
    summary: str  # how many came out how, in a sentence
    notes: tuple[str, ...]  # how far they carry, and what differs from the paper's training; plain text


def ledger(evidence: Evidence) -> Ledger:
    """Test every claim that the study allows; what it does not allow is undecided, with what it would take."""
    study = evidence.study
    readings = [claim.reading(evidence) for claim in CLAIMS]
    verdicts = settle(readings)
    judged = zip(CLAIMS, readings, verdicts, strict=True)
    entries = tuple(_entry(evidence, claim, reading, verdict) for claim, reading, verdict in judged)
    tested = sum(verdict.p_holm is not None for verdict in verdicts)
    counts = {word: sum(e.word == word for e in entries) for word in ("supported", "contradicted", "undecided")}
    summary = (
        f"{'On this phantom' if study.phantom else 'On these cases'}, {tested} of {len(entries)} lines could be tested "
        f"(claim 10 has two halves): {counts['supported']} supported, {counts['contradicted']} contradicted, "
        f"{counts['undecided'] - (len(entries) - tested)} left undecided by the numbers."
    )
    return Ledger(entries, summary, tuple(_ledger_notes(study)))


def _entry(evidence: Evidence, claim: Claim, reading: Reading, verdict: Verdict) -> Entry:
    """One line; never about patients on a phantom, nor about weightings in general with few seeds."""
    study, tested = evidence.study, verdict.p_holm is not None
    numbers = _numbers(reading, verdict) if tested else ""
    reason = " ".join(filter(None, (reading.remark if tested else "", verdict.reason)))
    where = "on this phantom" if study.phantom else "on these cases"
    models = ", for these models" if verdict.word != "undecided" and verdict.seeds < SEEDS_FOR_CONCLUSIONS else ""
    cases = verdict.patients if tested else len(study.scores.cases())
    seeds = verdict.seeds if tested else len(study.record.config.study.seeds)
    data = f"{data_name(study)}: {counted(cases, 'test case')}, {counted(seeds, 'seed')}, "
    data += f"{study.record.all_stages[-1]:,} iterations"
    data += f", variant {evidence.base_variant}" if evidence.base_variant else ""
    tested_by, result = claim.tested_by[0].upper() + claim.tested_by[1:], " ".join(filter(None, (numbers, reason)))
    worded = f"{verdict.word} {where}{models}"
    return Entry(claim.number, claim.statement, tested_by, result, worded, data, verdict.word, numbers, reason)


def _numbers(reading: Reading, verdict: Verdict) -> str:
    """Each difference once, by Hodges and Lehmann with its 95 % interval, then p."""
    contrasts = {part.contrast.title: part.contrast for part in reading.parts}
    texts = []
    for title, contrast in contrasts.items():
        shift = hodges_lehmann(np.array(list(contrast.patients.values())))
        interval = "" if shift.low is None else f" [{signed(shift.low)}, {signed(shift.high)}]"
        texts.append(f"{title}: {signed(shift.estimate)}{interval}")
    p = verdict.p_holm or 0.0
    printed = f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
    return "; ".join([*texts, f"{printed}, {counted(verdict.patients, 'case')}."])


def data_name(study: StudyResult) -> str:
    """The beginning of the data's description, up to its first colon, semicolon or comma."""
    text = " ".join(study.record.dataset.split()) or "data not described"
    end = min((at for mark in ":;," if (at := text.find(mark)) > 0), default=len(text))
    name = text[: min(end, _NAME_LENGTH)].strip()
    return f"{name} (phantom)" if study.phantom and "phantom" not in name.lower() else name


def _ledger_notes(study: StudyResult) -> Iterator[str]:
    if study.phantom:
        yield "The cases are phantoms: no line says anything about patients."
    if len(study.record.config.study.seeds) < SEEDS_FOR_CONCLUSIONS:
        yield (
            f"“These models”: fewer than {SEEDS_FOR_CONCLUSIONS} seeds, so another run of the same settings may "
            "give another result."
        )
    changed = differences(TrainConfig(), study.record.config.train, ("schedule", "reading"))
    if changed:
        yield f"Other than viscera's reading of the paper: {'; '.join(changed)}."


def paper_column(setting: Setting) -> dict[str, float]:
    """Per cent of one of the paper's models: eight classes and AVG as printed, FOREGROUND computed from the rows."""
    at = PAPER_SETTINGS.index(setting)
    classes = {name: values[at] for name, values in _PERCENT.items()}
    return {**classes, "AVG": _AVG[at], "FOREGROUND": fmean(v for name, v in classes.items() if name != "background")}


class Agreement(NamedTuple):
    """Rank correlation of paper and study."""

    over: str  # what was ranked: `cells` (arm and organ) or `arms` (foreground means)
    n: int  # how many
    spearman: float | None  # spearman, kendall: rho, and tau-b; None where one side has one value only
    kendall: float | None


class BesideRow(NamedTuple):
    """One class or summary."""

    name: str  # as in the CSV
    title: str
    pairs: tuple[tuple[float, float], ...]  # (paper, study) per arm; NaN: undefined


@dataclass(frozen=True)
class BesidePaper:
    """Both tables, the arms in common."""

    settings: tuple[Setting, ...]  # of those arms
    arms: tuple[str, ...]  # their names in the study
    rows: tuple[BesideRow, ...]  # the eight classes, AVG, FOREGROUND
    agreement: tuple[Agreement, ...]  # over cells, then over arms
    notes: tuple[str, ...]  # plain text

    def cells(self) -> list[tuple[str, str, str, str]]:
        """As in beside_paper.csv: per cent, empty where undefined."""
        return [
            (row.name, arm, f"{paper:.4f}", "" if isnan(own) else f"{own:.4f}")
            for row in self.rows
            for arm, (paper, own) in zip(self.arms, row.pairs, strict=True)
        ]


def beside_paper(evidence: Evidence, table: Table1) -> BesidePaper | None:
    """Both tables; None where the study has fewer than three of the paper's six models finished and scored."""
    found = ((setting, evidence.arm(setting)) for setting in PAPER_SETTINGS)
    shared = [(s, arm) for s, arm in found if arm is not None and evidence.dice_by_seed(arm)]
    if len(shared) < FEWEST_ARMS:
        return None
    printed = {arm.name: paper_column(setting) for setting, arm in shared}
    rows = []
    for name in (*CLASS_NAMES, "AVG", "FOREGROUND"):
        pairs = tuple((column[name], float(table.percent[arm][name])) for arm, column in printed.items())
        rows.append(BesideRow(name, row_title(name, len(CLASS_NAMES)), pairs))
    organs = [pair for row in rows if row.name in CLASS_NAMES[1:] for pair in row.pairs]
    agreement = (agreement_of("cells", organs), agreement_of("arms", rows[-1].pairs))
    settings = tuple(setting for setting, _ in shared)
    notes = tuple(_beside_notes(evidence.study, settings))
    return BesidePaper(settings, tuple(printed), tuple(rows), agreement, notes)


def agreement_of(over: str, pairs: Sequence[tuple[float, float]]) -> Agreement:
    """Spearman's rho and Kendall's tau-b over the pairs that are defined; no p, as cells of one arm go together."""
    defined = [(paper, own) for paper, own in pairs if not isnan(own)]
    if min((len(set(side)) for side in zip(*defined, strict=True)), default=0) < 2:
        return Agreement(over, len(defined), None, None)
    papers, owns = zip(*defined, strict=True)
    rho, tau = stats.spearmanr(papers, owns).statistic, stats.kendalltau(papers, owns).statistic
    return Agreement(over, len(defined), float(rho), float(tau))


def correlation_cells(beside: BesidePaper) -> list[tuple[str, ...]]:
    """As in rank_correlation.csv: three decimals, empty where undefined."""
    rows = ((a.over, str(a.n), (a.spearman, a.kendall)) for a in beside.agreement)
    return [(over, n, *("" if v is None else f"{v:.3f}" for v in values)) for over, n, values in rows]


def _beside_notes(study: StudyResult, settings: Sequence[Setting]) -> Iterator[str]:
    if study.phantom:
        yield "Patients beside a phantom: only the order of the arms can be compared, not the values of Dice."
    yield (
        "The paper's AVG is as printed; its foreground mean is computed from the printed rows. The cases, the "
        "labels and the settings differ as well."
    )
    if MISPRINT in settings:
        yield (
            "The paper's rows of simple at 0.01 average 90.0, not the printed 88.9; artery 80.2 instead of 89.2 would "
            "give that (and a foreground mean of 87.3). Both are kept as printed."
        )


def _values(report: Report) -> Mapping[str, object] | None:
    """The ledger on the primary grid and both tables; nothing where the classes are not the paper's."""
    if not report.study.has_papers_classes:
        return None
    evidence = Evidence(report.study, report.grid)
    return {"ledger": ledger(evidence), "beside": beside_paper(evidence, primary_table(report))}


def _files(report: Report) -> Mapping[str, Content]:
    values = report.once(_values) or {}
    files: dict[str, Content] = {}
    if isinstance(found := values.get("ledger"), Ledger):
        files["claims.csv"] = Rows(Entry._fields[:6], (entry[:6] for entry in found.entries))
    if isinstance(beside := values.get("beside"), BesidePaper):
        files["beside_paper.csv"] = Rows(("class", "arm", "paper_percent", "study_percent"), beside.cells())
        files["rank_correlation.csv"] = Rows(Agreement._fields, correlation_cells(beside))
    return files


CLAIMS_SECTION = Section(
    "claims",
    "The paper's claims",
    lambda report: report.once(_values),
    _files,
    owns=("claims.csv", "beside_paper.csv", "rank_correlation.csv"),
)
