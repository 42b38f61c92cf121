"""`rate_range/WEIGHTING.json`: a learning-rate range test and what it says."""

from pathlib import Path

from pydantic import ValidationError

from viscera.core.arms import weighting_name
from viscera.core.config import Settings
from viscera.io.records import damaged, read_json, write_json


class RateRange(Settings):
    """A range test of one weighting.

    Attributes:
        weighting: class weights.
        seed: of initialisation and windows.
        steps: planned; fewer rates than that: it ended early.
        rates: of each step, rising.
        losses: after the step with that rate: minus the weighted mean soft Dice over fixed training windows, -1 to 0,
            on one scale for all weightings.
        smoothed, falls_from, slows_from, rises_from, suggestion, remark: see `study.suggested_rate`.
    """

    weighting: str | float
    seed: int
    steps: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    falls_from: float | None
    slows_from: float | None
    rises_from: float | None
    suggestion: float | None
    remark: str = ""


def rate_range_path(folder: Path, weighting: str | float) -> Path:
    """Where the test of one weighting lies in a folder of them."""
    return folder / f"{weighting_name(weighting)}.json"


def write_rate_range(path: Path, value: RateRange) -> None:
    """Write one test."""
    write_json(path, value.model_dump(mode="json"))


def read_rate_range(path: Path) -> RateRange:
    """Read one test.

    Raises:
        BadInputError: no file, or none of ours.
    """
    try:
        return RateRange.model_validate(read_json(path))
    except ValidationError as error:
        raise damaged(path, error, "Run `viscera find-rate` again.") from error
