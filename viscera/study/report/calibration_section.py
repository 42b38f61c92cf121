"""The section "Calibration": how far the probabilities of each arm can be believed, organ by organ."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from viscera.core.arms import Arm
from viscera.drawing.canvas import house_style
from viscera.drawing.inline_chart import inline_chart
from viscera.io.reliability_table import ReliabilityRow
from viscera.metrics.calibration import BINS, Reliability
from viscera.study.report.page_section import Content, Report, Rows, Section
from viscera.study.results import StudyResult

_FEWEST = 20  # voxels of a bin that is drawn
_QUIET = "#6b7280"


class ArmCalibration(NamedTuple):
    """One arm: all voxels of its seeds and test cases together, by class; empty where nothing was measured."""

    arm: Arm
    classes: dict[str, Reliability]

    def errors(self, names: Sequence[str]) -> list[tuple[float | None, float | None]]:
        """Expected and average calibration error of these classes, per cent."""
        found = [self.classes.get(name, Reliability()) for name in names]
        return [(_percent(each.expected_error()), _percent(each.average_error())) for each in found]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def arm_calibrations(study: StudyResult) -> list[ArmCalibration]:
    """In the order of Table 1."""
    found = []
    for arm in study.arms:
        classes: dict[str, Reliability] = {}
        for row in (row for run in study.counted_runs_of(arm) for row in run.reliability):
            _add(classes.setdefault(row.organ, Reliability()), row)
        found.append(ArmCalibration(arm, classes))
    return found


def _add(reliability: Reliability, row: ReliabilityRow) -> None:
    at = min(round(row.lower * BINS), BINS - 1)
    reliability.voxels[at] += row.voxels
    reliability.correct[at] += row.correct
    reliability.total[at] += row.probability * row.voxels


def reliability_panel(study: StudyResult, found: ArmCalibration) -> Figure:
    """Share of the voxels that are the organ against their mean probability, bin by bin."""
    with house_style():
        figure = Figure(figsize=(4.2, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.set_title(found.arm.title, loc="left", weight="bold")
        axes.plot([0, 1], [0, 1], ":", color=_QUIET, linewidth=1)
        for organ in study.classes.organs:
            of = found.classes.get(organ.name, Reliability())
            enough = of.voxels >= _FEWEST
            if enough.any():
                x, y = of.total[enough] / of.voxels[enough], of.correct[enough] / of.voxels[enough]
                axes.plot(x, y, "-o", color=organ.colour, linewidth=1.4, markersize=3, label=organ.title)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability of the organ", ylabel="voxels that are the organ")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def _values(report: Report) -> Mapping[str, object] | None:
    study = report.study
    measured = [each for each in report.once(_calibrations) if each.classes]
    if not measured:
        return None
    alt = "{}: share of voxels that are each organ, against their probability of it"
    columns = [each.errors(study.classes.names) for each in measured]
    return {
        "calibrated": measured,
        "errors": [(of.title, row) for of, *row in zip(study.classes.classes, *columns, strict=True)],
        "panels": [inline_chart(reliability_panel(study, each), alt.format(each.arm.title)) for each in measured],
        "bins": BINS,
        "fewest": _FEWEST,
    }


def _files(report: Report) -> Mapping[str, Content]:
    rows = [
        (each.arm.name, organ, f"{at / BINS:.2f}", f"{(at + 1) / BINS:.2f}", *_cells(of, at))
        for each in report.once(_calibrations)
        for organ, of in each.classes.items()
        for at in np.flatnonzero(of.voxels).tolist()
    ]
    header = ("arm", "organ", "lower", "upper", "voxels", "correct", "probability", "fraction")
    return {"reliability.csv": Rows(header, rows)} if rows else {}


def _cells(of: Reliability, at: int) -> tuple[str, ...]:
    n, correct = int(of.voxels[at]), int(of.correct[at])
    return str(n), str(correct), f"{of.total[at] / n:.6f}", f"{correct / n:.6f}"


def _calibrations(report: Report) -> list[ArmCalibration]:
    return arm_calibrations(report.study)


CALIBRATION = Section(
    "calibration",
    "Calibration: how far the probabilities can be believed",
    _values,
    _files,
    owns=("reliability.csv",),
)
