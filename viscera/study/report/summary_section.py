"""What the page says in words and small tables: summary, gap, flags, best arm per organ, cost, settings."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.core.arms import FUSED, arm_config
from viscera.core.wording import counted
from viscera.drawing.slices import HATCHED_CSS
from viscera.engine.trust import failures_among
from viscera.metrics.learning import BATCH_NORM_GAP, FAILED_DICE, LoggedStep, batch_norm_remedy
from viscera.study.report.case_gallery import gallery_of, has_ignored
from viscera.study.report.comparisons_section import organ_findings, primary_comparisons
from viscera.study.report.headline import few_seeds, headline, runner_up
from viscera.study.report.other_order import against_the_finding
from viscera.study.report.page_section import Group, Report, Section
from viscera.study.report.table1_section import unequal_cases, unequal_organs
from viscera.study.results import StudyResult, mean_defined
from viscera.study.score_table import ScoreTable


def gaps(study: StudyResult, grid: str) -> pd.DataFrame:
    """Mean foreground Dice of each arm in per cent, averaged over its seeds; NaN where it is not known.

    Over the runs that count; of an arm that has none yet, over those that there are. Columns training, validation, test
    (from Table 1) and gap, training minus test; rows by names of arms.
    """
    found = pd.DataFrame(index=list(study.scores.arms))
    for column, on in (("training", False), ("validation", True)):
        runs = [study.counted_runs_of(arm) or study.runs_of(arm) for arm in study.arms]
        means = [mean_defined(run.last_dice(validation=on) for run in of_arm) for of_arm in runs]
        found[column] = 100 * np.array(means, dtype=float)
    found["test"] = study.percent(grid).T["FOREGROUND"]
    return found.assign(gap=found["training"] - found["test"])


def batch_norm_losses(study: StudyResult) -> list[tuple[str, float, float]]:
    """What running statistics of batch normalisation cost each arm that has them; nothing where it was not logged.

    The arm's title, and its Dice on the training patches at the last logged step, mean over organs and seeds, as the
    network is applied and by the statistics of each batch of patches.
    """
    found = []
    for arm in study.arms:
        if arm_config(study.record.config, arm, 0).train.batch_norm == "running":
            logged = [point.logged for run in study.runs_of(arm) for point in run.curve[-1:]]
            pairs = [_both_statistics(step, study) for step in logged if step.dice_batch_statistics]
            own, batch = (mean_defined(side) for side in zip(*pairs, strict=True)) if pairs else (None, None)
            if own is not None and batch is not None:
                found.append((arm.title, own, batch))
    return found


def _both_statistics(step: LoggedStep, study: StudyResult) -> tuple[float | None, float | None]:
    """Mean over the organs as the network is applied, and by the statistics of each batch."""
    names = [organ.name for organ in study.classes.organs if step.dice_batch_statistics.get(organ.name) is not None]
    return mean_defined(map(step.dice.get, names)), mean_defined(map(step.dice_batch_statistics.get, names))


def fusion_table(study: StudyResult, grid: str) -> pd.DataFrame:
    """Mean Dice of each organ in per cent: of the arm that it comes from and of the fused predictor; NaN: not known.

    Columns {validation,test}_{arm,fused}, the test cases as in Table 1; no rows without a fused predictor.
    """
    if study.fused is None:
        return pd.DataFrame()
    percent = study.percent(grid)
    choices = {organ.name: study.fused.record.organs[organ.name] for organ in study.classes.organs}
    promised = ScoreTable.of([(FUSED, 0, study.fused.validation)], [FUSED], [0], study.classes.names)
    columns = {
        "validation_arm": [np.nan if c.validation_dice is None else 100 * c.validation_dice for c in choices.values()],
        "validation_fused": promised.class_percent("original")[FUSED].reindex(list(choices)),
        "test_arm": [percent[c.arm][organ] if c.arm in percent else np.nan for organ, c in choices.items()],
        "test_fused": percent[FUSED].reindex(list(choices)),
    }
    return pd.DataFrame(columns, index=list(choices))


class TrustRow(NamedTuple):
    """One arm, over its seeds, test cases and organs: how many are (un)flagged, and how many of those fail."""

    title: str
    unflagged: int
    unflagged_failed: int
    flagged: int
    flagged_failed: int


def trust_rows(study: StudyResult, grid: str) -> list[TrustRow]:
    """The arms whose predictions were measured, in the order of Table 1; an organ counts where its Dice is defined."""
    found = []
    for arm in study.arms:
        scored = [(run, row) for run in study.counted_runs_of(arm) for row in run.scores or () if row.metric == "dice"]
        of_grid = [(run.reasons.get((row.case, row.organ)), row.value) for run, row in scored if row.grid == grid]
        known = [(dice, bool(why)) for why, dice in of_grid if dice is not None and why is not None]
        if known:
            failed, trusted, failed_flagged, distrusted = failures_among(*map(list, zip(*known, strict=True)))
            found.append(TrustRow(arm.title, trusted, failed, distrusted, failed_flagged))
    return found


def trust_sentence(rows: list[TrustRow]) -> str:
    """Over all arms, in one sentence."""
    unflagged, flagged = sum(row.unflagged for row in rows), sum(row.flagged for row in rows)
    failed, failed_flagged = sum(row.unflagged_failed for row in rows), sum(row.flagged_failed for row in rows)

    def percent(part: int, whole: int) -> str:
        return f"{100 * part / whole:.0f} %" if whole else "none"

    return (
        f"Among {unflagged:,} unflagged organs of the test cases {percent(failed, unflagged)} have a Dice below "
        f"{FAILED_DICE:g}; among {flagged:,} flagged ones {percent(failed_flagged, flagged)}."
    )


def flagged_organs(reasons: Mapping[tuple[str, str], tuple[str, ...]], case: str) -> tuple[str, ...]:
    """Names of the flagged organs of a case."""
    return tuple(organ for (of, organ), why in reasons.items() if of == case and why)


def _summary_values(report: Report) -> Mapping[str, object]:
    cases = len(report.study.scores.cases(report.grid))
    scene = report.scene
    own = {"problems": problems_of(report), "grid": report.grid, "cases": cases}
    compared = report.once(primary_comparisons)
    sentences = {
        "runner_up": runner_up(report),
        "scored_organs": len(organ_findings(compared)),
        "few_seeds": few_seeds(report),
        "other_order": against_the_finding(compared),
        "unequal_cases": unequal_cases(report.study, report.grid) if report.grid else "",
        "unequal_organs": unequal_organs(report.study, report.study.percent(report.grid)) if report.grid else "",
    }
    pictures = {
        "headline": headline(report),
        "scene": scene,
        "gallery": report.once(gallery_of),
        "hatched": HATCHED_CSS if has_ignored(scene) else "",
        "shown_seeds": sorted(set(scene.seeds.values())) if scene else [],
    }
    return {**report.once(_fused_values), **own, **sentences, **pictures}


def problems_of(report: Report) -> list[str]:
    """What could not be read or shown, in sentences."""
    others = (
        "The paper's claims and its Table 1 are left out: they are about its eight classes, and this study has others."
    )
    return [*report.problems, *([] if report.study.has_papers_classes else [others])]


def _problem_values(report: Report) -> Mapping[str, object] | None:
    problems = problems_of(report)
    return {"problems": problems} if problems else None


def _fused_values(report: Report) -> Mapping[str, object]:
    compared = report.once(primary_comparisons)
    return {
        "foreground": compared.highest_first("FOREGROUND"),
        "fused_foreground": compared.percent[FUSED]["FOREGROUND"] if report.study.fused else np.nan,
        "fusion": fusion_table(report.study, report.grid),
        "highest_first": compared.highest_first,
    }


def _batch_norm_losses(report: Report) -> list[tuple[str, float, float]]:
    return batch_norm_losses(report.study)


def _batch_norm_values(report: Report) -> Mapping[str, object]:
    losses, remedy = report.once(_batch_norm_losses), batch_norm_remedy("running")
    return {"batch_norm": losses, "batch_norm_gap": BATCH_NORM_GAP, "batch_norm_remedy": remedy}


def _gap_values(report: Report) -> Mapping[str, object]:
    return {**report.once(_batch_norm_values), "gaps": gaps(report.study, report.grid)}


def _trust_brief(report: Report) -> str:
    rows = trust_rows(report.study, report.grid)
    flagged = sum(row.flagged for row in rows)
    return f"{flagged:,} of {counted(flagged + sum(row.unflagged for row in rows), 'organ')} flagged"


def _trust_values(report: Report) -> Mapping[str, object] | None:
    rows = trust_rows(report.study, report.grid)
    return {"trust": rows, "trust_sentence": trust_sentence(rows)} if rows else None


SUMMARY = Section("summary", "Summary", _summary_values, group=Group.GLANCE, heading="")


def _gap_brief(report: Report) -> str:
    """What running statistics cost, where that is much; else the largest gap."""
    lost = max((batch - own for _, own, batch in report.once(_batch_norm_losses)), default=0.0)
    if lost > BATCH_NORM_GAP:
        return f"running statistics of batch normalisation cost up to {100 * lost:.0f} points"
    widest = gaps(report.study, report.grid)["gap"].abs().max()
    return "" if np.isnan(widest) else f"up to {widest:.1f} points apart"


GAP = Section("gap", "Training and test: mean foreground Dice, per cent", _gap_values, brief=_gap_brief)
TRUST = Section("trust", "When not to trust a prediction", _trust_values, brief=_trust_brief)
FUSED_SECTION = Section(
    "fused",
    "The best arm per organ, as one predictor",
    lambda of: of.once(_fused_values) if of.study.fused else None,
)
COST = Section("cost", "Cost of training", lambda _: {})
SETTINGS = Section("settings", "How it was made", lambda _: {})
PROBLEMS = Section("problems", "What could not be read or shown", _problem_values)
