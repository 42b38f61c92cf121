"""The study in one sentence: how far it was trained, which arm came highest, which lowest. Zeros are not crowned."""

import pandas as pd

from viscera.core.arms import Arm
from viscera.core.config import TrainConfig
from viscera.core.wording import agreeing, counted, range_of
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.study.report.comparisons_section import primary_comparisons
from viscera.study.report.page_section import Report, one_decimal
from viscera.study.results import StudyResult

PAPERS_STEPS: int = TrainConfig().iterations
NBSP = "\N{NO-BREAK SPACE}"
_MOST_NAMED = 2  # arms that share the first place; more are counted


def trained(study: StudyResult) -> str:
    """How far from trained to the end, as the paper's models were: `After 40 of 10,000 steps`; empty where they are."""
    planned = study.record.all_stages[-1]
    done = max((run.status.step for run in study.runs if run.status is not None), default=0)
    if done < planned:
        return f"After {done:,} of {counted(planned, 'step')}"
    return f"After {counted(planned, 'step')} (the paper: {PAPERS_STEPS:,})" if planned < PAPERS_STEPS else ""


def headline(report: Report) -> str:
    """What the study found, in one sentence about mean foreground Dice on the test cases."""
    study = report.study
    means = report.once(primary_comparisons).highest_first("FOREGROUND").round(1)
    after = trained(study)
    found = _finding(study, means)
    return f"{after}, {found}" if after else found[0].upper() + found[1:]


def _finding(study: StudyResult, means: "pd.Series[float]") -> str:
    if means.empty:
        return f"none of the {counted(len(study.arms), 'arm')} has a finished and scored run yet."
    highest, lowest = float(means.iloc[0]), float(means.iloc[-1])
    if highest <= 0:
        return f"no arm segments any organ: every mean foreground Dice is 0.0{NBSP}%."
    first, last = (_those(study, means, value) for value in (highest, lowest))
    if highest == lowest:
        every = "share a" if len(means) > 1 else "reach a"
        return f"{first} {every} mean foreground Dice of {one_decimal(highest)}{NBSP}%."
    verb = "share" if (means == highest).sum() > 1 else "reach"
    return (
        f"{first} {verb} the highest mean foreground Dice, {one_decimal(highest)}{NBSP}%, and {last} the lowest, "
        f"{one_decimal(lowest)}{NBSP}%."
    )


def runner_up(report: Report) -> str:
    """Who comes next, in a sentence; empty without three means or more that are printed differently."""
    means = report.once(primary_comparisons).highest_first("FOREGROUND").round(1)
    different = sorted(set(means), reverse=True)
    if len(different) <= _MOST_NAMED or different[0] <= 0:
        return ""
    titles = [arm.title for arm in report.study.arms if means.get(arm.name) == different[1]]
    those = " and ".join(titles) if len(titles) <= _MOST_NAMED else counted(len(titles), "arm")
    return f"Next {agreeing(len(titles), 'comes', 'come')} {those} with {one_decimal(different[1])}{NBSP}%."


def few_seeds(report: Report) -> str:
    """That the finding is about these models, in a sentence; empty where all arms have, and share, seeds enough."""
    fewest, most = report.study.seeds_of_arms
    family = report.once(primary_comparisons).family("dice")
    have = f"{range_of(fewest, most)} {'seed' if most == 1 else 'seeds'} per arm"
    if fewest >= SEEDS_FOR_SETTINGS and family is not None and family.tests and not family.of_settings:
        have = f"{family.fewer_seeds} {'seed' if family.fewer_seeds == '1' else 'seeds'} that arms share"
    elif fewest >= SEEDS_FOR_SETTINGS:
        return ""
    return (
        f"With {have} this is about these models, not about the weightings in general, which takes "
        f"{SEEDS_FOR_SETTINGS} seeds or more."
    )


def _those(study: StudyResult, means: "pd.Series[float]", value: float) -> str:
    """The arms of a mean, named where they are few."""
    arms = [arm for arm in study.arms if means.get(arm.name) == value]
    return " and ".join(map(phrase, arms)) if len(arms) <= _MOST_NAMED else counted(len(arms), "arm")


def phrase(arm: Arm) -> str:
    """`uniform weights at rate 0.001`, with the variant in brackets."""
    weighting = arm.weighting if isinstance(arm.weighting, str) else f"power {arm.weighting:g}"
    return f"{weighting} weights at rate {arm.learning_rate:g}" + (f" ({arm.variant})" if arm.variant else "")
