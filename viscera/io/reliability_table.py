"""`reliability.csv`: by case, organ and bin of probability, how many voxels were what the probability was of."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from viscera.core.errors import BadInputError
from viscera.io.records import is_table, read_csv, refuse_other_table, write_csv
from viscera.io.remote.mirror_index import remove

NAME = "reliability.csv"
_HEADER = ("case", "organ", "lower", "upper", "voxels", "correct", "probability", "fraction")


class ReliabilityRow(NamedTuple):
    """One bin that has voxels."""

    case: str
    organ: str
    lower: float  # end of the bin, not in it but for 0
    upper: float  # end of the bin, in it
    voxels: int  # with a probability of the organ in the bin
    correct: int  # of these, what is the organ
    probability: float  # mean over the voxels

    def cells(self) -> tuple[str, ...]:
        """As it stands in the table, with the fraction that is correct."""
        shares = (f"{self.probability:.9f}", f"{self.correct / self.voxels:.9f}")
        return (*self[:2], f"{self.lower:.2f}", f"{self.upper:.2f}", str(self.voxels), str(self.correct), *shares)


def refuse_other_reliability(path: Path) -> None:
    """Raise BadInputError where a file of that name is no such table."""
    refuse_other_table(path, _HEADER)


def write_reliability(path: Path, rows: Iterable[ReliabilityRow]) -> None:
    """Write the rows in their order, atomically."""
    write_csv(path, _HEADER, (row.cells() for row in rows), checksum=True)


def remove_reliability(path: Path) -> None:
    """Delete a table of an earlier call, beside scores that have none; a file of others stays."""
    if path.is_file() and is_table(path, _HEADER):
        remove(path)


def read_reliability(path: Path) -> list[ReliabilityRow]:
    """Read what `write_reliability` wrote; BadInputError where it is no such table."""
    try:
        return [
            ReliabilityRow(
                *(line["case"], line["organ"], float(line["lower"]), float(line["upper"])),
                *(int(line["voxels"]), int(line["correct"]), float(line["probability"])),
            )
            for line in read_csv(path)
        ]
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{path}: damaged ({error}). Run `viscera evaluate` again.") from error
