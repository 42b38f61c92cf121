"""Results as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel
from tabulate import tabulate

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import weighting_name
from viscera.core.config import Config
from viscera.io.scores import ScoreRow

if TYPE_CHECKING:
    from viscera.io.rate_range import RateRange
    from viscera.stages.doctor import Diagnosis


def config_as_yaml(config: Config) -> str:
    """A configuration as YAML with a comment on every field; it can be read back with --config."""
    return "\n".join(_section(config, indent=0))


def diagnosis_table(diagnosis: "Diagnosis") -> str:
    """Counts and weights, one row a class."""
    rows = [
        (
            name,
            f"{diagnosis.voxel_counts[label]:,}",
            f"{diagnosis.fractions[label]:.4%}",
            f"{diagnosis.cases_with_class[label]}/{diagnosis.cases}",
            *(f"{vector[label]:.3g}" for vector in diagnosis.weights.values()),
        )
        for label, name in enumerate(diagnosis.classes)
    ]
    headers = ("class", "voxels", "share", "cases", *diagnosis.weights)
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


def scores_table(rows: Sequence[ScoreRow]) -> str:
    """Mean Dice per class and grid over the cases where it is defined."""
    grids = sorted({row.grid for row in rows})
    table = []
    for organ in CLASS_NAMES:
        line: list[str] = [organ]
        for grid in grids:
            values = [r.value for r in rows if r.organ == organ and r.grid == grid and r.metric == "dice"]
            defined = [value for value in values if value is not None]
            absent = f" ({len(values) - len(defined)} absent)" if len(defined) < len(values) else ""
            line.append(f"{sum(defined) / len(defined):.4f}{absent}" if defined else "absent")
        table.append(line)
    headers = ("class", *(f"Dice, {grid} grid" for grid in grids))
    return tabulate(table, headers, disable_numparse=True)


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
