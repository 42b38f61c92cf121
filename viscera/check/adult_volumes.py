"""How large organs of adults are: the table `adult_volumes.csv`, in mL, with what was measured and where that stands.

The ranges are meant for catching mistakes in labels and headers: far wider than the normal ones, so that common
disease stays inside. Outside of one means unusual, not wrong. Children are smaller.
"""

from dataclasses import dataclass
from pathlib import Path

from viscera.io.records import read_csv


@dataclass(frozen=True)
class AdultVolume:
    """A wide range of one organ's volume."""

    low_ml: float  # smaller or larger ones are called unusual
    high_ml: float
    published: str  # what was measured, in words
    source: str  # where


ADULT_VOLUMES: dict[str, AdultVolume] = {
    row["organ"]: AdultVolume(float(row["low_ml"]), float(row["high_ml"]), row["published"], row["source"])
    for row in read_csv(Path(__file__).with_name("adult_volumes.csv"))
}
