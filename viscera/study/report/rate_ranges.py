"""The learning-rate range tests: loss over rate, the suggestion, and the rates that were tried."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from viscera.core.arms import weighting_name
from viscera.drawing.canvas import house_style
from viscera.study.rate_range import RateRange

_RAW, _SMOOTH, _SUGGESTED, _TRIED = "#9aa3af", "#1f2937", "#047857", "#7c3aed"


def rate_range_panel(test: RateRange, tried: Sequence[float], *, phantom: bool = False) -> Figure:
    """One test.

    Args:
        test: of one weighting.
        tried: learning rates of the study's arms.
        phantom: whether the data are procedural.
    """
    with house_style():
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.plot(test.rates, test.losses, color=_RAW, linewidth=0.8)
        axes.plot(test.rates, test.smoothed, color=_SMOOTH, linewidth=1.8, label="smoothed")
        low, high = min((*test.rates, *tried)), max((*test.rates, *tried))
        axes.set_xlim(low, high)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _place: f"{rate:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        for number, rate in enumerate(tried):
            axes.axvline(rate, color=_TRIED, linewidth=1.2, linestyle=":", label=None if number else "rates tried")
        if test.suggestion is not None:
            axes.axvline(test.suggestion, color=_SUGGESTED, linewidth=1.6, label=f"suggested: {test.suggestion:.2g}")
        axes.set_title(weighting_name(test.weighting) + (" (phantom)" if phantom else ""), loc="left", weight="bold")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("minus weighted mean soft Dice")
        axes.legend(loc="best", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none")
    return figure


def sentence(test: RateRange) -> str:
    """What the test says, for people."""
    if test.suggestion is None or test.falls_from is None or test.rises_from is None:
        return f"{weighting_name(test.weighting)}: {test.remark}"
    said = (
        f"{weighting_name(test.weighting)}: falls from {test.falls_from:.2g} on, slows at {test.suggestion:.2g} "
        f"(suggested), rises above {test.rises_from:.2g}."
    )
    return f"{said} {test.remark}".strip()
