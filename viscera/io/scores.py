"""`scores.csv`: one row a case, organ, grid and metric; six decimals, empty where undefined."""

import json
import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.core.errors import BadInputError
from viscera.core.wording import counted
from viscera.io.records import is_table, read_csv, read_json, write_csv
from viscera.io.seals import write_summed

_COLUMNS = 100
_METRIC_TITLES = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "surface_dice": "surface Dice",
    "volume_ml": "volume, mL",
    "reference_volume_ml": "reference, mL",
    "ece": "ECE",
    "ace": "ACE",
}


def metric_title(metric: str) -> str:
    """A metric's name for people; one without a title of its own is called as in the table."""
    return _METRIC_TITLES.get(metric, metric.replace("_", " "))


class ScoreRow(NamedTuple):
    """One value; None where it is undefined (an organ absent from both label maps)."""

    case: str
    organ: str
    grid: str
    metric: str
    value: float | None

    def cells(self) -> tuple[str, ...]:
        """As it stands in a table."""
        return (*self[:4], "" if self.value is None else f"{self.value:.6f}")


def write_scores(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Write the rows in their order, atomically."""
    write_csv(path, ScoreRow._fields, (row.cells() for row in rows), checksum=True)


def refuse_other_scores(path: Path) -> None:
    """Raise BadInputError where a file is there that is not empty and does not begin as `write_scores` begins one."""
    if path.exists() and path.stat().st_size and not is_table(path, ScoreRow._fields):
        raise BadInputError(f"{path}: exists, and is not a table of scores. Move it away, or give another --out.")


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write what nnU-Net's `summary.json` holds, atomically; its form has no room for a checksum, which lies beside."""
    write_summed(path, json.dumps(summary, indent=1, allow_nan=True) + "\n")  # as nnU-Net does


def refuse_other_summary(path: Path) -> None:
    """Raise BadInputError where a file is there that is no `summary.json` as nnU-Net writes it."""
    value = None
    with suppress(BadInputError):
        value = read_json(path) if path.exists() else {"metric_per_case": []}
    if not isinstance(value, dict) or "metric_per_case" not in value:
        raise BadInputError(
            f"{path}: exists, and is not a summary in nnU-Net's format. Move it away, or give --summary."
        )


def read_scores(path: Path) -> list[ScoreRow]:
    """Read what `write_scores` wrote; BadInputError where it is missing, or is no table of scores."""
    if not path.exists():
        raise BadInputError(f"{path}: there is no such file. Make it with `viscera evaluate`.")
    rows = []
    for line in read_csv(path):
        try:
            case, organ, grid, metric, value = (line[name] for name in ScoreRow._fields)
            rows.append(ScoreRow(case, organ, grid, metric, float(value) if value else None))
        except (KeyError, ValueError) as error:
            cut = f"the row of case {line.get('case', '?')} is cut short: it has no {error}"
            what = f"this is not a table of scores ({cut if isinstance(error, KeyError) else error})"
            raise BadInputError(f"{path}: {what}. Run `viscera evaluate` again.") from error
    return rows


class MeanScore(NamedTuple):
    """A metric of a class over the cases, and what its mean leaves out."""

    organ: str
    grid: str
    metric: str
    mean: float | None  # over the cases where it is finite; None where there is none
    cases: int  # of which it is the mean
    absent: int  # cases where it is undefined: the organ is in neither label map
    infinite: int  # cases where it is infinite: one of the label maps lacks the organ


def mean_scores(rows: Sequence[ScoreRow]) -> list[MeanScore]:
    """Means per class of each metric on each grid, over the cases where it is a finite number, in the rows' order."""
    values = defaultdict[tuple[str, str, str], list[float | None]](list)
    for row in rows:
        values[row.organ, row.grid, row.metric].append(row.value)
    means = []
    for key, found in values.items():
        finite = [value for value in found if value is not None and math.isfinite(value)]
        mean = sum(finite) / len(finite) if finite else None
        means.append(MeanScore(*key, mean, len(finite), found.count(None), found.count(math.inf)))
    return means


def scores_table(rows: Sequence[ScoreRow]) -> str:
    """The means of each class, a table for each grid, within 100 columns; below it, what the means leave out."""
    means = mean_scores(rows)
    grids = list(dict.fromkeys(each.grid for each in means))
    parts = []
    for grid in grids:
        own = [each for each in means if each.grid == grid]
        title = [f"{grid.capitalize()} grid"] if len(grids) > 1 else []
        parts.append("\n".join([*title, _table(own), *_left_out(own)]))
    return "\n\n".join(parts)


def _table(means: Sequence[MeanScore]) -> str:
    metrics = list(dict.fromkeys(each.metric for each in means))
    cells = {(each.organ, each.metric): _cell(each) for each in means}
    table = [
        (title_of(organ), *(cells.get((organ, metric), "") for metric in metrics))
        for organ in dict.fromkeys(each.organ for each in means)
    ]
    headers = ("class", *(metric_title(metric).replace(" ", "\n", 1) for metric in metrics))
    return tabulate(table, headers, disable_numparse=True, colalign=("left", *["right"] * len(metrics)))


def _cell(score: MeanScore) -> str:
    if score.mean is None:
        return "–"
    return f"{score.mean:.{4 if score.metric.endswith(('dice', 'ece', 'ace')) else 1}f}"


def _left_out(means: Sequence[MeanScore]) -> list[str]:
    """Which cases the means leave out, the metrics of which that holds alike together."""
    metrics = defaultdict[tuple[str, str], list[str]](list)
    for each in means:
        if each.absent:
            metrics[each.organ, f"undefined in {counted(each.absent, 'case')}"].append(metric_title(each.metric))
        if each.infinite:
            metrics[each.organ, f"infinite in {counted(each.infinite, 'case')}"].append(metric_title(each.metric))
    notes = defaultdict[str, list[str]](list)  # by what is said of them, the organs
    for (organ, what), titles in metrics.items():
        notes[f"{' and '.join(title.partition(',')[0] for title in titles)} {what}"].append(title_of(organ))
    lines = [f"  {what}: {', '.join(organs)}" for what, organs in notes.items()]
    wrapped = [textwrap.fill(line, _COLUMNS, subsequent_indent="    ") for line in lines]
    return ["Not included in the means:", *wrapped] if wrapped else []
