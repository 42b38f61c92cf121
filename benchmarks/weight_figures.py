"""The figures of `why-weights-fail`, as SVG, each of what is in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.long_studies import study_config
from benchmarks.over_seeds import OverSeeds
from benchmarks.permuted_weights import POWER, RATE, complete_seeds, dice_table, weight_ranks
from benchmarks.seeded_arms import points
from benchmarks.weight_rules import Levels, Placed, last_stage
from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm
from viscera.drawing.canvas import house_style, to_bytes
from viscera.io.files import write_bytes
from viscera.metrics.learning import FAILING_DICE

COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of rates; Okabe and Ito
MARKERS = ("o", "s", "^")
_FAILING = {"color": "#6b7280", "lw": 0.8, "ls": "--"}


def write_figures(
    folder: Path, found: Mapping[str, Mapping[str, Any]], of: Levels, readings: Sequence[Placed]
) -> dict[str, bool]:
    """Draw what is in; says of each figure whether it is there."""
    permuted = found["permutation"]
    drawn = {
        "permuted": permuted_figure(
            last_stage(permuted["studies"], "permutation"), permuted["counts"].get("permutation", {})
        ),
        "power": power_figure(last_stage(found["weights"]["studies"], "direction")),
        "scale": scale_figure(of, readings),
    }
    for name, figure in drawn.items():
        if figure is not None:
            write_bytes(folder / f"why-weights-{name}.svg", to_bytes(figure, "svg"))
    return {name: figure is not None for name, figure in drawn.items()}


def permuted_figure(arms: Mapping[str, Any], counts: Mapping[str, int]) -> Figure | None:
    """The Dice of the 49 cells, by the rank of the organ's weight and by the organ."""
    seeds = complete_seeds(arms, POWER, RATE)
    if not seeds:
        return None
    dice, ranks = 100 * dice_table(arms, POWER, RATE, seeds), weight_ranks(counts, POWER)
    with house_style():
        figure = Figure(figsize=(8, 3.3), layout="constrained")
        by_weight, by_organ = figure.subplots(1, 2, sharey=True)
        for column, organ in enumerate(ORGANS):
            style = {"color": organ.colour, "ms": 5.5, "mec": "#374151", "mew": 0.4, "ls": "none"}
            apart = 0.08 * (column - 3)
            by_weight.plot(ranks[:, column] + apart, dice[:, column], "o", label=organ.title, **style)
            by_organ.plot([column + 0.06 * (r - 4) for r in ranks[:, column]], dice[:, column], "o", **style)
        by_weight.set_xticks(range(1, 8), ["1\nsmallest", *map(str, range(2, 7)), "7\nlargest"])
        by_weight.set_xlabel("rank of the organ's weight")
        by_weight.set_ylabel("Dice on the test cases, per cent")
        by_weight.set_title("By the weight")
        by_organ.set_xticks(range(7), [organ.title.replace(" ", "\n") for organ in ORGANS], fontsize=7)
        by_organ.set_title("By the organ")
        for axes in (by_weight, by_organ):
            axes.axhline(100 * FAILING_DICE, **_FAILING)
            axes.set_ylim(-3, 100)
        return figure


def power_figure(arms: Mapping[str, Any]) -> Figure | None:
    """Foreground Dice against the power of 1/R, by rate."""
    study = study_config("direction").study
    if not arms:
        return None
    with house_style():
        figure = Figure(figsize=(5.2, 3.3), layout="constrained")
        axes = figure.subplots()
        for rate, colour, marker in zip(study.learning_rates, COLOURS, MARKERS, strict=True):
            at = [(float(p), values) for p in study.weightings if (values := points(arms, Arm(float(p), rate)))]
            _with_intervals(axes, at, f"rate {rate:g}", colour, marker)
        axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0\nuniform", "0.5", "1\nsimple", "1.5", "2\nsquare"])
        axes.set_xlabel("power p of 1/R")
        axes.set_ylabel("foreground Dice, per cent")
        axes.set_ylim(0, 85)
        axes.legend(fontsize=8)
        return figure


def scale_figure(of: Levels, readings: Sequence[Placed]) -> Figure | None:
    """Foreground Dice of p = 2 against the share of the step that epsilon left, and the interpretations beside it."""
    if not of:
        return None
    with house_style():
        figure = Figure(figsize=(5.2, 3.3), layout="constrained")
        axes = figure.subplots()
        for rate, colour, marker in zip(study_config("scale").study.learning_rates, COLOURS, MARKERS, strict=True):
            at = sorted((by_rate[rate].kept, by_rate[rate].points) for _, by_rate in of if rate in by_rate)
            _with_intervals(
                axes, [(100 * kept, values) for kept, values in at], f"ε varied, rate {rate:g}", colour, marker
            )
            placed = [each for each in readings if each.rate == rate]
            label = f"interpretations, rate {rate:g}" if placed else None
            axes.plot(
                [100 * each.kept for each in placed],
                [each.found for each in placed],
                marker,
                color=colour,
                mfc="none",
                ms=7,
                label=label,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("share of Adam's step that ε left, per cent")
        axes.set_ylabel("foreground Dice at p = 2, per cent")
        axes.set_ylim(0, 60)
        axes.legend(fontsize=7)
        return figure


def _with_intervals(
    axes: Axes, at: Sequence[tuple[float, Mapping[str, float]]], label: str, colour: str, marker: str
) -> None:
    """A line through the means, with the 95 % interval over the seeds where there are two or more."""
    if not at:
        return
    over = [(x, OverSeeds.of(values.values())) for x, values in at]
    half = [each.half if each.seeds > 1 else 0 for _, each in over]
    axes.errorbar(
        [x for x, _ in over],
        [each.mean for _, each in over],
        half,
        fmt=f"{marker}-",
        color=colour,
        label=label,
        ms=4,
        capsize=2.5,
        lw=1.3,
    )
