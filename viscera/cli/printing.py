"""Results as text."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel
from tabulate import tabulate

from viscera.core.arms import weighting_name
from viscera.core.config import Config
from viscera.io.scores import ScoreRow

if TYPE_CHECKING:
    from viscera.io.scans import Listing
    from viscera.study.rate_range import RateRange


def config_as_yaml(config: Config) -> str:
    """A configuration as YAML with a comment on every field; it can be read back with --config."""
    return "\n".join(_section(config, indent=0))


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * (len(headers) - 1)))


def rate_range_table(tests: Sequence["RateRange"]) -> str:
    """What each range test says, one row a weighting."""
    rows = [
        (
            weighting_name(test.weighting),
            *("–" if rate is None else f"{rate:.2g}" for rate in (test.falls_from, test.suggestion, test.rises_from)),
            test.remark,
        )
        for test in tests
    ]
    headers = ("weighting", "loss falls from", "suggested rate", "rises above", "")
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "right", "right", "left"))


_METRIC_TITLES = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "surface_dice": "surface Dice",
    "volume_ml": "volume, mL",
    "reference_volume_ml": "reference, mL",
}


def scores_table(rows: Sequence[ScoreRow]) -> str:
    """Means per class of each metric, on each grid, over the cases where it is a finite number."""
    columns = list(dict.fromkeys((row.grid, row.metric) for row in rows))
    grids = {grid for grid, _ in columns}
    values: dict[tuple[str, str, str], list[float | None]] = {}
    for row in rows:
        values.setdefault((row.organ, row.grid, row.metric), []).append(row.value)
    headers = [_METRIC_TITLES[metric] + (f", {grid} grid" if len(grids) > 1 else "") for grid, metric in columns]
    table = [
        (organ, *(_mean_cell(metric, values.get((organ, grid, metric), [])) for grid, metric in columns))
        for organ in dict.fromkeys(row.organ for row in rows)
    ]
    return _table(table, ("class", *headers))


def _mean_cell(metric: str, values: Sequence[float | None]) -> str:
    """`3.2 (1 absent, 2 infinite)`: the mean, and what it leaves out; empty where the metric is not measured."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    counts = {"absent": values.count(None), "infinite": values.count(math.inf)}
    left_out = {what: number for what, number in counts.items() if number}
    if not finite:
        return " or ".join(left_out)
    mean = f"{sum(finite) / len(finite):.{4 if metric.endswith('dice') else 1}f}"
    return f"{mean} ({', '.join(f'{number} {what}' for what, number in left_out.items())})" if left_out else mean


def series_table(listing: "Listing") -> str:
    """One row a DICOM series; a star at the one that would be read."""
    rows = [
        (
            "*" if series is listing.chosen else "",
            series.uid,
            series.patient_id,
            series.modality,
            series.description,
            series.date,
            str(series.number_of_images),
            "×".join(f"{x:.3g}" for x in series.geometry.spacing_mm) if series.geometry else "",
            series.passed_over or series.problem or " ".join(series.warnings),
        )
        for series in listing.series
    ]
    headers = ("", "series", "patient", "modality", "description", "date", "images", "mm", "")
    table = tabulate(rows, headers, disable_numparse=True, colalign=(*["left"] * 6, "right", "left", "left"))
    return f"{table}\n\n{listing.refusal}" if listing.refusal else table


def series_json(listing: "Listing") -> list[dict[str, Any]]:
    """One object a DICOM series."""
    return [
        {
            "uid": series.uid,
            "study_uid": series.study_uid,
            "patient_id": series.patient_id,
            "modality": series.modality,
            "description": series.description,
            "date": series.date,
            "images": series.number_of_images,
            "geometry": series.geometry.to_json() if series.geometry else None,
            "chosen": series is listing.chosen,
            "passed_over": series.passed_over,
            "problem": series.problem,
            "warnings": list(series.warnings),
        }
        for series in listing.series
    ]


def _section(section: BaseModel, indent: int) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        margin = "  " * indent
        if isinstance(value, BaseModel):
            lines += [f"{margin}{name}:", *_section(value, indent + 1)]
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
            comment = f"  # {field.description}" if field.description else ""
            lines.append(f"{margin}{name}: {text}{comment}")
    return lines
