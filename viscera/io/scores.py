"""`scores.csv`: one row a case, organ, grid and metric; six decimals, empty where undefined."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from viscera.core.errors import BadInputError
from viscera.io.records import is_table, read_csv, write_csv


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


def is_scores(path: Path) -> bool:
    """Whether a file begins as `write_scores` begins one, or is empty."""
    return path.stat().st_size == 0 or is_table(path, ScoreRow._fields)


def read_scores(path: Path) -> list[ScoreRow]:
    """Read what `write_scores` wrote.

    Raises:
        BadInputError: missing, or not a table of scores.
    """
    if not path.exists():
        raise BadInputError(f"{path}: there is no such file. Make it with `viscera evaluate`.")
    lines = read_csv(path)
    try:
        return [_row(line) for line in lines]
    except (KeyError, ValueError, TypeError) as error:
        raise BadInputError(
            f"{path}: this is not a table of scores ({error}). Run `viscera evaluate` again."
        ) from error


def _row(line: dict[str, str]) -> ScoreRow:
    missing = [name for name in ScoreRow._fields if name not in line]
    if missing:
        raise ValueError(f"the row of case {line.get('case', '?')} is cut short: it has no {', '.join(missing)}")
    case, organ, grid, metric, value = (line[name] for name in ScoreRow._fields)
    return ScoreRow(case, organ, grid, metric, float(value) if value else None)
