"""The curves: how each arm learned (Figure 1), one panel per arm; and the learning-rate range tests."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from viscera.core.arms import Arm, weighting_name
from viscera.core.wording import counted
from viscera.drawing.canvas import house_style, to_bytes
from viscera.drawing.inline_chart import inline_chart
from viscera.study.rate_range import RateRange
from viscera.study.report.comparisons_section import primary_comparisons
from viscera.study.report.page_section import PHANTOM, Content, Group, Report, Section
from viscera.study.results import RunResult, StudyResult, mean_defined

TRAINING, VALIDATION, TEST = "#1f2937", "#7c3aed", "#111827"  # none of them an organ's colour
_PANEL_IN = (4.2, 3.7)
_MARGINS = {"left": 0.175, "right": 0.97, "top": 0.925, "bottom": 0.115, "hspace": 0.22}
_ALARM, _QUIET = "#b91c1c", "#6b7280"
_RAW, _SMOOTH, _SUGGESTED, _TRIED = "#9aa3af", "#1f2937", "#047857", "#7c3aed"


def arm_panel(study: StudyResult, arm: Arm, test_dice: float | None) -> Figure:
    """The panel of one arm, by itself; at its last step the mean foreground Dice on the test cases, 0 to 1."""
    with house_style():
        figure = Figure(figsize=_PANEL_IN)
        _draw_panel(figure, study, arm, test_dice, legend=True)
    return figure


def figure1(study: StudyResult, test_dice: Mapping[str, float]) -> Figure:
    """All panels in one picture: one row per learning rate (and variant), one column per weighting."""
    grid = study.record.config.study
    rows, columns = len(grid.variants) * len(grid.learning_rates), len(grid.weightings)
    with house_style():
        figure = Figure(figsize=(_PANEL_IN[0] * columns, _PANEL_IN[1] * rows))
        panels = figure.subfigures(rows, columns, squeeze=False)
        with_legend = next((run.arm for run in study.runs if run.curve), None)
        for panel, arm in zip(panels.ravel(), study.arms, strict=True):
            axes = _draw_panel(panel, study, arm, test_dice.get(arm.name), legend=arm == with_legend)
            axes.set_title(arm.title + PHANTOM * study.phantom, loc="left", weight="bold")
    return figure


def _draw_panel(figure: Figure | SubFigure, study: StudyResult, arm: Arm, dice: float | None, *, legend: bool) -> Axes:
    """Dice above loss; the upper axes."""
    runs = study.runs_of(arm)
    both: tuple[Axes, Axes] = figure.subplots(2, 1, sharex=True, height_ratios=[5, 3], gridspec_kw=_MARGINS)
    dice_axes, loss_axes = both
    dice_axes.set_title(arm.title, loc="left", weight="bold")
    _draw_dice(dice_axes, runs, dice)
    _draw_loss(loss_axes, runs)
    for axes in (dice_axes, loss_axes):
        if not axes.lines:
            said = "not measured" if any(run.curve for run in runs) else "no step is logged"
            axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=_QUIET, size=11)
            axes.set_yticks([])
    if legend and dice_axes.lines:
        dice_axes.legend(loc="best", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none")
    last_step = show_steps(loss_axes, study, runs)
    for step in [run.status.step for run in runs if run.status is not None and run.status.state == "failed"]:
        dice_axes.axvline(step, color=_ALARM, linewidth=1, linestyle=":")
        side = "right" if step > last_step / 2 else "left"
        dice_axes.text(step, 0.55, " failed ", color=_ALARM, size=8, ha=side, va="center")
    return dice_axes


def show_steps(axes: Axes, study: StudyResult, runs: Sequence[RunResult]) -> float:
    """Steps from 0 to the planned end, or to what was reached where that is little of it; gives the last one shown."""
    planned = study.record.config.train.iterations
    reached = max((point.step for run in runs for point in run.curve), default=0)
    early = 0 < reached < planned / 4
    last = 1.25 * reached if early else max(planned, reached)
    axes.set(xlim=(0, last * 1.02), xlabel=f"step, of {planned:,}" if early else "step")
    return float(last)


def _draw_dice(axes: Axes, runs: Sequence[RunResult], test_dice: float | None) -> None:
    axes.set(ylim=(-0.02, 1.02), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1], ylabel="mean foreground Dice")
    axes.yaxis.set_label_coords(-0.165, 0.5)
    for of, label, style in (
        ("dice", "training patches", {"color": TRAINING}),
        ("validation_dice", "validation cases", {"color": VALIDATION, "marker": "o", "linestyle": "--"}),
    ):
        means = [[(p.step, mean_defined(getattr(p, of)[1:])) for p in run.curve] for run in runs]
        _draw_series(axes, means, label, **style)
    steps = [point.step for run in runs for point in run.curve]
    if test_dice is not None and steps:
        mark: dict[str, Any] = {"color": TEST, "mfc": "white", "ms": 6, "zorder": 5, "clip_on": False}
        axes.plot([max(steps)], [test_dice], "D", label="test cases", **mark)
    _readable(axes, "{:.3f}")


def _draw_loss(axes: Axes, runs: Sequence[RunResult]) -> None:
    _draw_series(axes, [[(p.step, p.loss) for p in run.curve] for run in runs], "loss", color=TRAINING)
    _readable(axes, "{:.4g}")
    axes.set_ylabel("loss")
    axes.yaxis.set_label_coords(-0.165, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useOffset=False)


def _readable(axes: Axes, y: str) -> None:
    """What the page's cursor says of a point."""
    axes.fmt_xdata = lambda step: f"step {step:,.0f}"
    axes.fmt_ydata = y.format


def _draw_series(axes: Axes, runs: Sequence[Sequence[tuple[int, float | None]]], label: str, **style: str) -> None:
    """One line per seed, a single step a point; with several, thin, and thick their mean.

    The mean is of those seeds that came farthest, of all where only one did, over the steps that all of these have.
    """
    defined = [[(step, value) for step, value in run if value is not None] for run in runs]
    shown = [series for series in defined if series]
    look: dict[str, Any] = {"marker": "", "markersize": 4, "mfc": "white", **style}
    if max(map(len, shown), default=0) == 1:
        look |= {"marker": "o", "linestyle": ""}
    alone = len(shown) == 1
    last = max((series[-1][0] for series in shown), default=0)
    farthest = [series for series in shown if series[-1][0] == last]
    values = [dict(series) for series in (farthest if len(farthest) > 1 else shown)]
    steps = sorted(set.intersection(*map(set, values))) if len(values) > 1 else []
    for number, series in enumerate(shown):
        width, alpha = (1.7, 1.0) if alone else (0.7, 0.45)
        own = None if steps or number else label
        axes.plot(*zip(*series, strict=True), linewidth=width, alpha=alpha, label=own, **look)
    if steps:
        mean = [fmean(v[step] for v in values) for step in steps]
        of = f"{len(values)} seeds" if len(values) == len(shown) else f"{len(values)} of {len(shown)} seeds"
        axes.plot(steps, mean, linewidth=1.9, label=f"{label}, mean of {of}", **look)


def rate_range_panel(test: RateRange, tried: Sequence[float]) -> Figure:
    """The test of one weighting; the learning rates of the study's arms are marked as tried."""
    with house_style():
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        point = "o" * (len(test.rates) == 1)
        axes.plot(test.rates, test.losses, color=_RAW, linewidth=0.8, marker=point)
        axes.plot(test.rates, test.smoothed, color=_SMOOTH, linewidth=1.8, marker=point, label="smoothed")
        low, high = min((*test.rates, *tried)), max((*test.rates, *tried))
        axes.set_xlim((low, high) if low < high else (low / 2, high * 2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _place: f"{rate:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        for number, rate in enumerate(tried):
            axes.axvline(rate, color=_TRIED, linewidth=1.2, linestyle=":", label=None if number else "rates tried")
        if test.suggestion is not None:
            axes.axvline(test.suggestion, color=_SUGGESTED, linewidth=1.6, label=f"suggested: {test.suggestion:.2g}")
        axes.fmt_xdata, axes.fmt_ydata = "rate {:.2g}".format, "{:.4f}".format
        axes.set_title(weighting_name(test.weighting), loc="left", weight="bold")
        axes.set(xlabel="learning rate", ylabel="minus weighted mean soft Dice")
        axes.legend(loc="best", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none")
    return figure


def _dice_on_test(report: Report) -> dict[str, float]:
    """Mean foreground Dice of those arms that have one, 0 to 1, by name."""
    percent = report.once(primary_comparisons).highest_first("FOREGROUND")
    return {str(arm): mean / 100 for arm, mean in percent.items()}


def validation_text(study: StudyResult) -> str:
    """What a caption says of the validation cases: how their curve is drawn, or why there is none."""
    measured = max((sum(bool(p.validation_dice) for p in run.curve) for run in study.runs), default=0)
    cases = study.split.validation if study.split else 0
    when = f"every {counted(study.record.config.train.validate_every, 'step')} and at the end"
    if measured > 1:
        return " (solid) and on the validation cases (dashed)"
    if measured:
        return f" (solid) and on the validation cases (a circle: they are measured {when}, here once)"
    if cases:
        return f"; none on the {counted(cases, 'validation case')}, which are measured {when}: not yet"
    return "; there is no validation set"


def _curve_values(report: Report) -> Mapping[str, object]:
    study, dice = report.study, _dice_on_test(report)
    alt = "Learning curve of {}: mean foreground Dice and loss over steps"
    curves = [inline_chart(arm_panel(study, arm, dice.get(arm.name)), alt.format(arm.title)) for arm in study.arms]
    return {"curves": curves, "of_validation": validation_text(study)}


def _curve_files(report: Report) -> Mapping[str, Content]:
    return {"figures/figure1.svg": to_bytes(figure1(report.study, _dice_on_test(report)), "svg")}


def _rate_values(report: Report) -> Mapping[str, object] | None:
    tests, tried = report.rate_ranges, report.study.record.config.study.learning_rates
    alt = "Range test of {} weighting: loss over learning rate"
    panels = [rate_range_panel(test, tried) for test in tests]
    names = [weighting_name(test.weighting) for test in tests]
    pictures = [inline_chart(panel, alt.format(name)) for panel, name in zip(panels, names, strict=True)]
    return {"rate_ranges": list(zip(names, tests, pictures, strict=True))} if tests else None


FIGURE1 = Section(
    "figure1",
    "Learning curves",
    _curve_values,
    _curve_files,
    group=Group.REASONS,
    heading="Learning curves, as in Figure 1 of the paper",
)
RATES = Section("rates", "Learning-rate range tests", _rate_values)
