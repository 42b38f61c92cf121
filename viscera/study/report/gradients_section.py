"""Why an arm learned or failed: each class's share of the gradient, what became of the organs, what was forecast."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from viscera.core.anatomy import AnatomicalClass, ClassTable, title_of
from viscera.core.arms import Arm
from viscera.core.wording import counted
from viscera.doctor.forecast import ArmForecast, precision_and_recall
from viscera.drawing.canvas import house_style
from viscera.drawing.inline_chart import inline_chart
from viscera.metrics import learning
from viscera.metrics.learning import FAILING_DICE, LEAST_POINTS, Flag, flags, recent_share, starving_share
from viscera.study.report.confusion_section import failures_by_arm
from viscera.study.report.curves_section import show_steps
from viscera.study.report.page_section import Group, Report, Section, share
from viscera.study.results import RunResult, StudyResult, mean_defined

_FLOOR = 1e-8  # shares below are drawn there
_SMALLEST_WRITTEN_OUT = -2  # power of ten of per cent
_SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_QUIET = "#6b7280"
NOT_TRAINED = "not in the training cases"
_WORST_FIRST = ("lost", "starving", "unlearnt")


class ArmReason(NamedTuple):
    """What the gradient says of one arm, over its seeds."""

    title: str  # of the arm
    shares: tuple[float | None, ...]  # (L,) recent share of each class in the gradient at the logits; None: not logged
    kept: float | None  # share of Adam's step that epsilon left, mean over layers, seeds and steps; None: not logged
    left_behind: tuple[str, ...]  # one per organ that some seed left behind, by its curve
    steps: int  # logged, the most of a seed: with too few, what was left behind is not known
    failing: tuple[str, ...]  # organs whose mean Dice on the test cases is too low, and how, where that was counted
    absent: int = 0  # how many of these no training case has


def has_gradients(study: StudyResult) -> bool:
    """Whether any run logged shares."""
    return any(point.logged.gradient_share for run in study.runs for point in run.curve)


def arm_reasons(study: StudyResult, grid: str) -> list[ArmReason]:
    """One per arm, in the order of Table 1."""
    reasons, percent, how = [], study.scores.class_percent(grid), failures_by_arm(study)
    for arm in study.arms:
        runs = study.runs_of(arm)
        curves = [[point.logged for point in run.curve] for run in runs if run.curve]
        shares = tuple(mean_defined(recent_share(curve, name) for curve in curves) for name in study.classes.names)
        kept = mean_defined(point.step_kept for run in runs for point in run.curve)
        found = [flag for curve in curves for flag in flags(curve, study.classes)]
        of_organs = [[flag for flag in found if flag.organ == o] for o in dict.fromkeys(flag.organ for flag in found)]
        sentences = tuple(_sentence(of_organ, len(curves)) for of_organ in of_organs)
        steps, too_low = max(map(len, curves), default=0), _failing(study, percent[arm.name])
        words = {organ.title: how[arm.name].get(organ.name, "") for organ in study.classes.organs}
        words |= {title_of(name): NOT_TRAINED for name in study.absent}
        failing = tuple(f"{title} ({words[title]})" if words[title] else title for title in too_low)
        absent = sum(words[title] == NOT_TRAINED for title in too_low)
        reasons.append(ArmReason(arm.title, shares, kept, sentences, steps, failing, absent))
    return reasons


def _failing(study: StudyResult, percent: pd.Series) -> tuple[str, ...]:
    """Titles of the organs whose mean Dice in one arm is too low."""
    return tuple(organ.title for organ in study.classes.organs if percent[organ.name] < 100 * FAILING_DICE)


def _learnable(study: StudyResult) -> list[AnatomicalClass]:
    """The organs that some training case has: a forecast is judged by them alone."""
    return [organ for organ in study.classes.organs if organ.name not in study.absent]


def gradient_panel(study: StudyResult, arm: Arm) -> Figure:
    """Share of the gradient of each class over the steps, on a logarithmic scale; mean over the seeds."""
    runs, classes = study.runs_of(arm), study.classes
    with house_style():
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set_title(arm.title, loc="left", weight="bold")
        for c in classes.classes:
            series = _mean_shares(runs, c.name)
            if series:
                colour, style = (c.colour, "-") if c.label else (_QUIET, ":")
                point = "o" * (len(series) == 1)
                axes.plot(*zip(*series, strict=True), style, color=colour, linewidth=1.6, marker=point, label=c.title)
        if not axes.lines:
            said = "no share of the gradient is logged"
            axes.text(0.5, 0.6, said, transform=axes.transAxes, ha="center", color=_QUIET)
        axes.axhline(starving_share(len(classes)), color="#b91c1c", linewidth=0.8, linestyle="--")
        _mark_losses(axes, runs, classes)
        axes.set(yscale="log", ylim=(_FLOOR / 2, 1.5), ylabel="share of the gradient")
        show_steps(axes, study, runs)
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.fmt_xdata, axes.fmt_ydata = "step {:,.0f}".format, share
    return figure


def _tick(share: float, _position: int | None) -> str:
    """Per cent, as `0.01 %`; the smallest by their power of ten."""
    exponent = round(math.log10(100 * share))
    small = f"10{str(exponent).translate(_SUPERSCRIPTS)} %"  # the house style prints no mathematics
    return small if exponent < _SMALLEST_WRITTEN_OUT else f"{100 * share:g} %"


def _sentence(found: Sequence[Flag], seeds: int) -> str:
    """A flag in words, with the number of seeds where there are several."""
    worst = min(found, key=lambda flag: (_WORST_FIRST.index(flag.state), flag.since))
    alike = sum(flag.state == worst.state for flag in found)
    return f"{worst}" + (f", {alike} of {seeds} seeds" if seeds > 1 else "")


def _mean_shares(runs: Sequence[RunResult], organ: str) -> list[tuple[int, float]]:
    """(step, share) over the steps at which the class was present in some seed's batch."""
    by_step: dict[int, list[float]] = {}
    for point in (point for run in runs for point in run.curve):
        if (share := point.logged.gradient_share.get(organ, 0.0)) > 0:
            by_step.setdefault(point.step, []).append(share)
    return [(step, max(fmean(values), _FLOOR)) for step, values in sorted(by_step.items())]


def _mark_losses(axes: Axes, runs: Sequence[RunResult], classes: ClassTable) -> None:
    """A cross where an organ's Dice fell for good."""
    organs = {organ.name: organ for organ in classes.organs}
    for curve in ([point.logged for point in run.curve] for run in runs):
        for flag in (flag for flag in flags(curve, classes) if flag.state == "lost" and flag.organ in organs):
            share = next((p.gradient_share.get(flag.organ, 0.0) for p in curve if p.step == flag.since), 0.0)
            colour = organs[flag.organ].colour
            axes.plot([flag.since], [max(share, _FLOOR)], "X", color=colour, mec="white", ms=9, zorder=5)


_NOT_SCORED = " (not counted: it has no Dice on the test cases)"


class ForecastRow(NamedTuple):
    """One arm that was forecast and scored."""

    title: str
    named: tuple[str, ...]  # titles of the organs that the forecast named, of those that a test case has
    failed: tuple[str, ...]  # and of those whose mean test Dice is below 0.2
    said: tuple[str, ...] = ()  # of all named with chance, its 90 % interval and the class that takes the voxels
    outcomes: tuple[tuple[float, bool], ...] = ()  # of each organ that is scored the chance, and whether it failed


def forecast_rows(study: StudyResult, grid: str) -> list[ForecastRow]:
    """The arms that are both forecast and scored, in the order of Table 1."""
    forecasts = {forecast.arm: forecast for forecast in study.forecasts if not forecast.unforeseen}
    percent = study.scores.class_percent(grid)
    rows = []
    for arm in study.arms:
        means = percent[arm.name]
        if arm.name in forecasts and means.notna().any():
            forecast, organs = forecasts[arm.name], _learnable(study)
            named = [o for o in organs if o.name in forecast.failing]
            chances = [(o, forecast.failing_chance[o.label]) for o in organs] if forecast.failing_chance else []
            rows.append(
                ForecastRow(
                    title=arm.title,
                    named=tuple(o.title for o in named if pd.notna(means[o.name])),
                    failed=tuple(o.title for o in organs if means[o.name] < 100 * FAILING_DICE),
                    said=tuple(
                        _chance_said(forecast, o.label, o.title) + (_NOT_SCORED if pd.isna(means[o.name]) else "")
                        for o in named
                    ),
                    outcomes=tuple(
                        (chance, bool(means[o.name] < 100 * FAILING_DICE))
                        for o, chance in chances
                        if pd.notna(means[o.name])
                    ),
                )
            )
    return rows


def _chance_said(forecast: ArmForecast, label: int, title: str) -> str:
    """`liver (72 %, 60 to 81 %; called spleen)`; the title alone of a forecast of an earlier version."""
    if not forecast.confused_with:
        return title
    low, high = forecast.failing_chance_low[label], forecast.failing_chance_high[label]
    taken = f"; called {title_of(other)}" if (other := forecast.confused_with[label]) else ""
    return f"{title} ({100 * forecast.failing_chance[label]:.0f} %, {100 * low:.0f} to {100 * high:.0f} %{taken})"


def brier_sentence(rows: list[ForecastRow]) -> str:
    """How far the chances lay from what happened; empty where there are none."""
    chances, failed = (np.array([each[at] for row in rows for each in row.outcomes], dtype=float) for at in (0, 1))
    if not chances.size:
        return ""
    rate, brier = failed.mean(), np.square(chances - failed).mean()
    return (
        "Brier score of the chances (mean squared distance from what happened, smaller is better): "
        f"{brier:.3f}; of the share that failed, {rate:.2f}, alone: {rate * (1 - rate):.3f}."
    )


def forecast_sentence(rows: list[ForecastRow]) -> str:
    """What the forecast was worth, in one sentence."""
    if not rows:
        return "No arm is both forecast and scored yet."
    arms = counted(len(rows), "arm") + ", an organ counted once in each," * (len(rows) > 1)
    named = {(row.title, organ) for row in rows for organ in row.named}
    failed = {(row.title, organ) for row in rows for organ in row.failed}
    if not named and not failed:
        return f"Over {arms} it named no organ, and none failed."
    if not named:
        return f"Over {arms} it named no organ, and {counted(len(failed), 'organ')} failed."
    if not failed:
        return f"Over {arms} it named {counted(len(named), 'organ')}, and none failed."
    hits, (precision, recall) = len(named & failed), precision_and_recall(named, failed)
    return (
        f"Over {arms} it named {counted(len(named), 'organ')}, of which {hits} failed (precision {precision:.2f}); "
        f"{counted(len(failed), 'organ')} failed, of which it had named {hits} (recall {recall:.2f})."
    )


def _values(report: Report) -> Mapping[str, object] | None:
    study = report.study
    if not has_gradients(study):
        return None
    forecasts = forecast_rows(study, report.grid)
    alt = "{}: share of the gradient of each class over steps"
    return {
        "reasons": arm_reasons(study, report.grid),
        "gradients": [inline_chart(gradient_panel(study, arm), alt.format(arm.title)) for arm in study.arms],
        "least_points": LEAST_POINTS,
        "starving": starving_share(len(study.classes)),
        "lost_dice": learning.LOST_DICE,
        "failing_dice": FAILING_DICE,
        "learnt_dice": learning.LEARNT_DICE,
        "forecasts": forecasts,
        "absent": [title_of(name) for name in study.absent],
        "forecast_sentence": f"{forecast_sentence(forecasts)} {brier_sentence(forecasts)}".rstrip(),
    }


GRADIENTS = Section(
    "gradients",
    "Gradients",
    _values,
    group=Group.REASONS,
    heading="Why: how much of the gradient each class received",
)
