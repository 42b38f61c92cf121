"""`scores.csv`: one row a case, organ, grid and metric; six decimals, empty where undefined."""

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from viscera.core.errors import BadInputError
from viscera.io.records import is_table, read_csv, read_json, write_csv

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
    write_csv(path, ScoreRow._fields, (row.cells() for row in rows))


def refuse_other_scores(path: Path) -> None:
    """Raise BadInputError where a file is there that is not empty and does not begin as `write_scores` begins one."""
    if path.exists() and path.stat().st_size and not is_table(path, ScoreRow._fields):
        raise BadInputError(f"{path}: exists, and is no table of scores. Move it away, or give another --out.")


def refuse_other_summary(path: Path) -> None:
    """Raise BadInputError where a file is there that is no `summary.json` as nnU-Net writes it."""
    value = None
    with suppress(BadInputError):
        value = read_json(path) if path.exists() else {"metric_per_case": []}
    if not isinstance(value, dict) or "metric_per_case" not in value:
        raise BadInputError(f"{path}: exists, and is no summary of nnU-Net's. Move it away, or give --summary.")


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


def scores_table(rows: Sequence[ScoreRow]) -> str:
    """Means per class of each metric, on each grid, over the cases where it is a finite number."""
    columns = dict.fromkeys((row.grid, row.metric) for row in rows)
    several = len({grid for grid, _ in columns}) > 1
    headers = [metric_title(metric) + (f", {grid} grid" if several else "") for grid, metric in columns]
    values = defaultdict[tuple[str, ...], list[float | None]](list)
    for row in rows:
        values[row.organ, row.grid, row.metric].append(row.value)
    table = [
        (organ, *(_mean_cell(metric, values[organ, grid, metric]) for grid, metric in columns))
        for organ in dict.fromkeys(row.organ for row in rows)
    ]
    right = ["right"] * len(headers)
    return tabulate(table, ("class", *headers), disable_numparse=True, colalign=("left", *right))


def _mean_cell(metric: str, values: Sequence[float | None]) -> str:
    """`3.2 (1 absent, 2 infinite)`: the mean, and what it leaves out; empty where the metric is not measured."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    counts = {"absent": values.count(None), "infinite": values.count(math.inf)}
    left_out = {what: number for what, number in counts.items() if number}
    if not finite:
        return " or ".join(left_out)
    is_share = metric.endswith(("dice", "ece", "ace"))
    mean = f"{sum(finite) / len(finite):.{4 if is_share else 1}f}"
    return f"{mean} ({', '.join(f'{number} {what}' for what, number in left_out.items())})" if left_out else mean
