"""A learning-rate range test and what it says (Smith, WACV 2017): where the loss begins to fall, slows, rises again.

It stands in `rate_range/WEIGHTING.json`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from tabulate import tabulate

from viscera.core.arms import weighting_name
from viscera.core.settings import Settings
from viscera.io.records import read_json, validated, write_record

TOLERANCE = 0.1  # of the whole fall
_SMOOTHING_DECADES = 0.15  # σ
_QUIET_DECADES = 1.0  # at the lowest rates, where nothing happens yet: level and noise of the start
_TIMES_NOISE = 5.0


class RangeReading(Settings):
    """What a curve of loss over rate says; no rates where the loss did not fall."""

    smoothed: tuple[float, ...]  # the loss, smoothed over the logarithm of the rate; as long as the curve
    falls_from: float | None = None  # the loss has fallen by a tenth of its whole fall (Smith's lower bound)
    slows_from: float | None = None  # at most a tenth of the fall is left (his upper bound)
    rises_from: float | None = None  # the highest beyond the lowest loss at which at most a tenth of the fall is lost
    suggestion: float | None = None  # the rate to train with, `slows_from`: the highest that is still gaining
    remark: str = ""  # what to keep in mind, a sentence


class RateRange(RangeReading):
    """A range test of one weighting, and what it says."""

    weighting: str | float
    seed: int  # of initialisation and windows
    steps: int  # planned; fewer rates than that: it ended early
    rates: tuple[float, ...]  # of each step, rising
    losses: tuple[float, ...]  # after the step with that rate, `find_rates.relative_loss`


def rate_range_path(folder: Path, weighting: str | float) -> Path:
    """Where the test of one weighting lies in a folder of them."""
    return folder / f"{weighting_name(weighting)}.json"


def write_rate_range(path: Path, value: RateRange) -> None:
    """Write one test."""
    write_record(path, value.model_dump(mode="json"))


def read_rate_range(path: Path) -> RateRange:
    """Read one test; raises BadInputError where there is no file, or none of ours."""
    return validated(RateRange, read_json(path), path, "Run `viscera find-rate` again.")


def read_range(rates: npt.ArrayLike, losses: npt.ArrayLike) -> RangeReading:
    """What at least three rates, rising evenly on a logarithmic scale, and the finite losses at each say."""
    tried = np.asarray(rates, dtype=np.float64)
    decades = np.log10(tried)
    per_decade = (len(decades) - 1) / (decades[-1] - decades[0])
    values = np.asarray(losses, dtype=np.float64)
    quiet = values[: max(3, int(_QUIET_DECADES * per_decade))]
    start, noise = float(np.median(quiet)), float(np.std(quiet))
    values = np.minimum(values, max(start, float(quiet.max())))  # how far it rises above the start says nothing
    sigma = _SMOOTHING_DECADES * per_decade
    smoothed = gaussian_filter1d(values, sigma, mode="reflect")
    lowest = int(np.argmin(smoothed))
    fall = start - float(smoothed[lowest])
    curve = tuple(smoothed.tolist())
    if fall <= _TIMES_NOISE * noise / max(1.0, np.sqrt(2 * np.sqrt(np.pi) * sigma)):  # noise of a smoothed value
        return RangeReading(smoothed=curve, remark="The loss did not fall at any rate: no suggestion.")
    still_high = np.flatnonzero(smoothed[: lowest + 1] > start - TOLERANCE * fall)
    low_enough = np.flatnonzero(smoothed <= smoothed[lowest] + TOLERANCE * fall)
    risen = np.flatnonzero(smoothed[lowest:] > smoothed[lowest] + TOLERANCE * fall)
    slows_from = float(tried[low_enough[0]])
    return RangeReading(
        smoothed=curve,
        falls_from=float(tried[min(int(still_high[-1]) + 1, lowest)]) if still_high.size else float(tried[0]),
        slows_from=slows_from,
        rises_from=float(tried[lowest + int(risen[0]) - 1]) if risen.size else float(tried[-1]),
        suggestion=slows_from,
        remark="" if risen.size else "The loss does not rise up to the highest rate tried.",
    )


def rate_range_table(tests: Sequence[RateRange]) -> str:
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
