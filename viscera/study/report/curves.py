"""Figure 1: how each arm learned. One panel an arm: mean foreground Dice above, loss below, over steps."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from viscera.core.arms import Arm
from viscera.drawing.canvas import house_style
from viscera.study.results import RunResult, StudyResult, mean_defined

TRAINING, VALIDATION, TEST = "#1f2937", "#7c3aed", "#111827"  # none of them an organ's colour
_PANEL_IN = (4.2, 3.7)
_MARGINS = {"left": 0.175, "right": 0.97, "top": 0.925, "bottom": 0.115, "hspace": 0.22}
_ALARM = "#b91c1c"
Series = list[tuple[int, float]]


def arm_panel(study: StudyResult, arm: Arm, test_dice: float | None) -> Figure:
    """The panel of one arm, by itself.

    Args:
        study: its curves.
        arm: which.
        test_dice: mean foreground Dice on the test cases, 0 to 1, marked at the last step; None where not scored.
    """
    with house_style():
        figure = Figure(figsize=_PANEL_IN)
        _draw_panel(figure, study, arm, test_dice, legend=True)
    return figure


def figure1(study: StudyResult, test_dice: dict[str, float | None]) -> Figure:
    """All panels in one picture: a row a learning rate (and variant), a column a weighting.

    Args:
        study: its curves.
        test_dice: by name of arm, 0 to 1.
    """
    grid = study.record.config.study
    rows, columns = len(grid.variants) * len(grid.learning_rates), len(grid.weightings)
    with house_style():
        figure = Figure(figsize=(_PANEL_IN[0] * columns, _PANEL_IN[1] * rows))
        panels = figure.subfigures(rows, columns, squeeze=False)
        with_legend = next((run.arm for run in study.runs if run.curve), None)
        for panel, arm in zip(panels.ravel(), study.arms, strict=True):
            _draw_panel(panel, study, arm, test_dice.get(arm.name), legend=arm == with_legend)
    return figure


def _draw_panel(
    figure: Figure | SubFigure, study: StudyResult, arm: Arm, test_dice: float | None, *, legend: bool
) -> None:
    runs = study.runs_of(arm)
    dice_axes, loss_axes = figure.subplots(2, 1, sharex=True, height_ratios=[5, 3], gridspec_kw=_MARGINS)
    dice_axes.set_title(arm.title + (" (phantom)" if study.phantom else ""), loc="left", weight="bold")
    _draw_dice(dice_axes, runs, test_dice)
    _draw_loss(loss_axes, runs)
    if not any(run.curve for run in runs):
        dice_axes.text(0.5, 0.5, "no curve", transform=dice_axes.transAxes, ha="center", color="#6b7280", size=12)
        loss_axes.set_yticks([])
    elif legend:
        dice_axes.legend(loc="best", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none")
    last_step = max([study.record.config.train.iterations, *(point.step for run in runs for point in run.curve)])
    loss_axes.set_xlim(0, last_step * 1.02)
    for step in [run.status.step for run in runs if run.status is not None and run.status.state == "failed"]:
        dice_axes.axvline(step, color=_ALARM, linewidth=1, linestyle=":")
        side = "right" if step > last_step / 2 else "left"
        dice_axes.text(step, 0.55, " failed ", color=_ALARM, size=8, ha=side, va="center")


def _draw_dice(axes: Axes, runs: Sequence[RunResult], test_dice: float | None) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel("mean foreground Dice")
    axes.yaxis.set_label_coords(-0.165, 0.5)
    training = [[(p.step, d) for p in run.curve if (d := mean_defined(p.dice[1:])) is not None] for run in runs]
    validation = [
        [(p.step, d) for p in run.curve if (d := mean_defined(p.validation_dice[1:])) is not None] for run in runs
    ]
    _draw_series(axes, training, TRAINING, "training windows")
    _draw_series(axes, validation, VALIDATION, "validation cases", marker="o", linestyle="--")
    steps = [point.step for run in runs for point in run.curve]
    if test_dice is not None and steps:
        axes.plot(
            [max(steps)], [test_dice], "D", color=TEST, mfc="white", ms=6, label="test cases", zorder=5, clip_on=False
        )


def _draw_loss(axes: Axes, runs: Sequence[RunResult]) -> None:
    losses = [[(p.step, p.loss) for p in run.curve if p.loss is not None] for run in runs]
    _draw_series(axes, losses, TRAINING, "training batches")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.yaxis.set_label_coords(-0.165, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useOffset=False)


def _draw_series(
    axes: Axes, runs: Sequence[Series], colour: str, label: str, marker: str = "", linestyle: str = "-"
) -> None:
    """One line a seed; with several, thin, and their mean over the steps that all have, thick."""
    runs = [series for series in runs if series]
    style: dict[str, Any] = {"color": colour, "linestyle": linestyle, "marker": marker, "markersize": 4, "mfc": "white"}
    for series in runs:
        alone = len(runs) == 1
        axes.plot(
            *zip(*series, strict=True),
            linewidth=1.7 if alone else 0.7,
            alpha=1 if alone else 0.45,
            label=label if alone else None,
            **style,
        )
    if len(runs) > 1:
        values = [dict(series) for series in runs]
        steps = sorted(set.intersection(*(set(v) for v in values)))
        mean = [fmean(v[step] for v in values) for step in steps]
        axes.plot(steps, mean, linewidth=1.9, label=f"{label}, mean of {len(runs)} seeds", **style)
