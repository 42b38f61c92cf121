"""`quarantine.csv`: the cases that were left out, each with its reason."""

from collections.abc import Mapping
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.files import write_csv

NAME = "quarantine.csv"


def write_quarantine(folder: Path, reasons: Mapping[str, str]) -> None:
    """Write case and reason; with nothing to say, a list of an earlier call is removed."""
    path = folder / NAME
    if not reasons:
        path.unlink(missing_ok=True)
        return
    write_csv(path, ("case", "reason"), sorted(reasons.items()))


def left_out(folder: Path, reasons: Mapping[str, str], total: int) -> BadInputError:
    """The error that ends a command which did the rest."""
    first = next(iter(sorted(reasons)))
    return BadInputError(
        f"{len(reasons)} of {total} cases were left out (reasons in {folder / NAME}); the others are done. "
        f"The first: {reasons[first]}"
    )
