"""The section "The paper's claims": the ledger, and the paper's Table 1 beside the study's own."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import TrainConfig
from viscera.core.settings import differences
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.metrics.statistics import Array
from viscera.study.report.claim_rules import PAPER_SETTINGS, Evidence, Setting
from viscera.study.report.comparisons_section import drawn_over
from viscera.study.report.ledger import Entry, ledger
from viscera.study.report.page_section import Content, Report, Rows, Section
from viscera.study.report.table1_section import row_title

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


def paper_column(setting: Setting) -> dict[str, float]:
    """Per cent of one of the paper's models: eight classes and AVG as printed, FOREGROUND computed from the rows."""
    at = PAPER_SETTINGS.index(setting)
    classes = {name: values[at] for name, values in _PERCENT.items()}
    return {**classes, "AVG": _AVG[at], "FOREGROUND": fmean(v for name, v in classes.items() if name != "background")}


class Agreement(NamedTuple):
    """Rank correlation of paper and study; None where one side has one value only."""

    n: int  # how many were ranked
    spearman: float | None  # rho
    kendall: float | None  # tau-b


@dataclass(frozen=True, eq=False)
class BesidePaper:
    """Both tables in per cent, the arms in common: the eight classes, AVG and FOREGROUND by names of arms."""

    settings: tuple[Setting, ...]  # of those arms
    paper: pd.DataFrame
    study: pd.DataFrame  # NaN where undefined

    @property
    def lacking(self) -> list[str]:
        """Names of the classes that this study has no mean of, in one arm or more."""
        return [name for name in CLASS_NAMES if self.study.loc[name].isna().any()]

    @property
    def agreement(self) -> dict[str, Agreement]:
        """Over `cells` (arm and organ), and over `arms` (foreground means)."""
        rows = {"cells": list(CLASS_NAMES[1:]), "arms": ["FOREGROUND"]}
        tables = (self.paper, self.study)
        return {
            over: agreement_of(*(table.loc[of].to_numpy().ravel() for table in tables)) for over, of in rows.items()
        }

    def correlation_csv(self) -> str:
        """rank_correlation.csv: three decimals, empty where undefined."""
        frame = pd.DataFrame(self.agreement.values(), index=list(self.agreement))
        return frame.to_csv(float_format="%.3f", index_label="over", lineterminator="\n")


def beside_paper(evidence: Evidence) -> BesidePaper | None:
    """Both tables; None where the study has fewer than three of the paper's six models finished and scored."""
    shared = {s: arm.name for s in PAPER_SETTINGS if (arm := evidence.arm(s)) and evidence.dice_by_seed(arm)}
    if len(shared) < FEWEST_ARMS:
        return None
    paper = pd.DataFrame({arm: paper_column(setting) for setting, arm in shared.items()})
    return BesidePaper(tuple(shared), paper, evidence.study.percent(evidence.grid).loc[paper.index, paper.columns])


def agreement_of(papers: Array, owns: Array) -> Agreement:
    """Spearman's rho and Kendall's tau-b over the pairs that are defined; no p, as cells of one arm go together."""
    defined = ~np.isnan(owns)
    papers, owns = papers[defined], owns[defined]
    if min(len(np.unique(side)) for side in (papers, owns)) < 2:
        return Agreement(len(owns), None, None)
    rho, tau = stats.spearmanr(papers, owns).statistic, stats.kendalltau(papers, owns).statistic
    return Agreement(len(owns), float(rho), float(tau))


def primary_ledger(report: Report) -> list[Entry]:
    """The ledger on the primary grid."""
    return ledger(Evidence(report.study, report.grid))


def lacks_organs(evidence: Evidence) -> bool:
    """Whether a case that a run was scored on has no Dice of an organ that others have."""
    sample = evidence.study.scores.sample(evidence.grid)
    defined_APSL = ~np.isnan(np.stack([sample.of_arm(arm)[:, :, 1:] for arm in sample.arms]))
    defined_APSL = defined_APSL[..., defined_APSL.any(axis=(0, 1, 2))]
    return bool((defined_APSL.any(axis=3) & ~defined_APSL.all(axis=3)).any())


def _values(report: Report) -> dict[str, Any] | None:
    """The ledger on the primary grid and both tables; nothing where the classes are not the paper's."""
    if not report.study.has_papers_classes:
        return None
    evidence = Evidence(report.study, report.grid)
    return {
        "entries": report.once(primary_ledger),
        "enough_seeds": SEEDS_FOR_SETTINGS,
        "few_seeds": report.study.seeds_of_arms[0] < SEEDS_FOR_SETTINGS,
        "drawn_over": drawn_over(*report.study.seeds_of_arms),
        "changed": differences(TrainConfig(), report.study.record.config.train, ("schedule", "method")),
        "beside": beside_paper(evidence),
        "misprint": MISPRINT,
        "lacks_organs": lacks_organs(evidence),
        "added_runs": report.has_added_runs,
        "row_title": row_title,
    }


def _files(report: Report) -> Mapping[str, Content]:
    values = report.once(_values)
    if values is None:
        return {}
    files: dict[str, Content] = {"claims.csv": Rows(Entry._fields[:6], (entry[:6] for entry in values["entries"]))}
    if beside := values["beside"]:
        files["beside_paper.csv"] = Rows.of_tables(paper_percent=beside.paper, study_percent=beside.study)
        files |= {"rank_correlation.csv": beside.correlation_csv()}
    return files


def _brief(report: Report) -> str:
    """How many are supported, contradicted, undecided, and not tested."""
    entries = report.once(primary_ledger)
    words = Counter(entry.word if entry.numbers else "not tested" for entry in entries)
    said = ("supported", "contradicted", "undecided", "not tested")
    return ", ".join(f"{words[word]} {word}" for word in said if words[word])


CLAIMS_SECTION = Section(
    "claims",
    "The paper's claims",
    lambda report: report.once(_values),
    _files,
    owns=("claims.csv", "beside_paper.csv", "rank_correlation.csv"),
    brief=_brief,
)
