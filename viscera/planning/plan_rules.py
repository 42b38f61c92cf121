"""What of a training depends on its data, memory and time, one rule each: network, windows, HU, schedule.

Each gives settings with the reason for them. What nnU-Net 2.8 decides alike and otherwise: docs/howto/planning.md.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from viscera.core.config import Config, IntensityConfig, TrainConfig
from viscera.core.network_config import NetworkConfig
from viscera.core.quantities import duration_text
from viscera.core.settings import differences
from viscera.engine.step_cost import TrainingCost
from viscera.networks.anisotropy import proposed_topology
from viscera.planning.fingerprint import Fingerprint, Presence
from viscera.planning.grid_rules import Grid, planned_grid, window_share

# edges of windows and filters, from the largest: nnU-Net has 32 filters always, and lowers the window alone
SIZES = (
    *((edge, 32) for edge in (128, 112, 96, 80, 64)),
    *((64, 16), (48, 16), (48, 8), (40, 8), (32, 8), (24, 8), (16, 8)),
)
MOST_CHANNELS = 512  # of the lowest level (nnU-Net: 320, at any depth)
LEAST_WINDOWS = 2  # of a batch, as nnU-Net's
LEAST_STEPS = 3_000  # that a larger network or window has to leave
FEW_STEPS = 2_000  # with which a plan is kept once its steps have been timed
LEAST_EDGE = 24  # of windows where time is short; smaller ones are for small scans, or little memory
MOST_STEPS = 250_000  # nnU-Net's 1,000 epochs of 250
_MOST_OF_THE_VOXELS = 0.05  # of the training set in one batch, as nnU-Net's
_ORGAN_WINDOWS = 0.33  # nnU-Net's
_OFTEN = 0.75  # of the windows contain every organ: none need be centred
_NARROWEST_HU = 100.0
_WARM_UP = 0.1  # of the steps, at most
_PARTS = 20  # of a training, after each of which it is validated and saved
_SHARE_OF_TIME = 0.05  # for lines of the curve, and for validation
_SAVED_EVERY_S = 600.0
_LINES = 200  # of a curve, or more


@dataclass(frozen=True)
class Choice:
    """A setting that was decided, and why."""

    key: str  # dotted
    value: Any
    reason: str


def edges_and_filters(base: TrainConfig, fixed: frozenset[str]) -> list[tuple[int, int]]:
    """Those that a plan may have, the largest first; what the user fixed stays, and the other is varied."""
    patches, filters = ({size[at] for size in SIZES} for at in (0, 1))
    if "train.patch" in fixed and "train.filters" in fixed:
        return [(base.patch, base.filters)]
    if "train.patch" in fixed:
        return [(base.patch, number) for number in sorted(filters, reverse=True)]
    if "train.filters" in fixed:
        return [(edge, base.filters) for edge in sorted(patches, reverse=True)]
    return list(SIZES)


@dataclass(frozen=True)
class Candidate:
    """A size of window and network with all that follows from it but the length of the training."""

    grid: Grid
    choices: tuple[Choice, ...]


def candidate(
    data: Fingerprint, base: TrainConfig, size: tuple[int, int], fixed: frozenset[str], kept_grid: Grid | None = None
) -> Candidate | None:
    """Of one size of window and network; None where the window is larger than the scans."""
    patch, filters = size
    grid = kept_grid or planned_grid(data, patch)
    narrowest = min(data.shape_at(grid.spacing_mm))
    if patch > max(SIZES[-1][0], 8 * math.ceil(narrowest / 8)) and "train.patch" not in fixed:
        return None
    share = window_share(data, grid.spacing_mm, patch)
    batch = min(LEAST_WINDOWS, data.cases)
    choices = [
        Choice("train.patch", patch, f"the largest that scans, memory and time allow; {share:.0%} of the median scan"),
        Choice("train.filters", filters, "as wide as memory and time allow, beside that patch"),
        Choice("train.batch_size", batch, "nnU-Net's least; patches are enlarged first"),
        *_topology(base, grid, size, fixed),
        *(() if _has_own_intensity(base, fixed) else intensity(data)),
    ]
    return Candidate(grid, tuple(each for each in choices if each.key not in fixed))


def _topology(base: TrainConfig, grid: Grid, size: tuple[int, int], fixed: frozenset[str]) -> Iterator[Choice]:
    """Levels, strides and kernels, by nnU-Net's rule for the spacing (`networks.anisotropy`)."""
    if {"train.network.strides", "train.network.kernels"} & fixed:
        return
    patch, filters = size
    most = base.levels if "train.levels" in fixed else min(6, max(2, int(math.log2(MOST_CHANNELS / filters))))
    found = proposed_topology(grid.spacing_mm, (patch,) * 3, most)
    if found.levels < 2 or (found.levels < most and "train.levels" in fixed):
        found = proposed_topology((1.0, 1.0, 1.0), (4 * 2**most,) * 3, most if "train.levels" in fixed else 2)
    plain = NetworkConfig()
    are_cubes = found.strides == plain.strides_of(found.levels) and found.kernels == plain.kernels_of(found.levels)
    lowest = "×".join(str(-(-patch // math.prod(along))) for along in zip((1, 1, 1), *found.strides, strict=False))
    yield Choice(
        "train.levels",
        found.levels,
        f"the lowest has {lowest} voxels (nnU-Net: at least 4) and at most {MOST_CHANNELS} channels",
    )
    blocks = base.network.blocks
    if base.network.encoder == "residual" and len(blocks) < found.levels:
        longer = [*blocks, *[blocks[-1]] * (found.levels - len(blocks))]
        yield Choice("train.network.blocks", longer, "the base's; further levels as its last")
    mm = "×".join(f"{each:.3g}" for each in grid.spacing_mm)
    for name, values in (("strides", found.strides), ("kernels", found.kernels)):
        why = f"voxels of {mm} mm are cubes, or nearly" if are_cubes else f"nnU-Net's rule for voxels of {mm} mm"
        yield Choice(f"train.network.{name}", None if are_cubes else [list(each) for each in values], why)


def _has_own_intensity(base: TrainConfig, fixed: frozenset[str]) -> bool:
    """Whether the base sees HU otherwise than by default, apart from what the user fixed."""
    other = [each.split()[0] for each in differences(IntensityConfig(), base.intensity, within="train.intensity.")]
    return not fixed.issuperset(other)


def intensity(data: Fingerprint) -> Iterator[Choice]:
    """nnU-Net's for CT: clipped to percentiles of the organs' HU, then z-scores by the organs' mean and deviation."""
    if data.hu is None:
        return
    low, high = math.floor(data.hu.low), math.ceil(data.hu.high)
    narrow = "" if high - low >= _NARROWEST_HU else f", widened to {_NARROWEST_HU:g} HU"
    if narrow:
        middle = (low + high) / 2
        low, high = math.floor(middle - _NARROWEST_HU / 2), math.ceil(middle + _NARROWEST_HU / 2)
    yield Choice("train.intensity.low_hu", float(low), f"0.5th percentile of the organs' HU, as nnU-Net{narrow}")
    yield Choice("train.intensity.high_hu", float(high), f"99.5th percentile of the organs' HU, as nnU-Net{narrow}")
    yield Choice("train.intensity.scaling", "z_score", "as nnU-Net")
    yield Choice("train.intensity.mean_hu", round(data.hu.mean, 1), "of the organs, as nnU-Net")
    yield Choice("train.intensity.sd_hu", max(1.0, round(data.hu.sd, 1)), "of the organs, as nnU-Net")


def larger_batch(data: Fingerprint, grid: Grid, patch: int, windows_in_memory: int, steps: float) -> Choice | None:
    """More windows where the largest window leaves memory and time; None where that is none.

    As nnU-Net, at most 5 % of the voxels of the training set; and no more than there are cases, of which each window
    is of another. `steps` of `LEAST_WINDOWS` fit into the time; a larger batch leaves three times `LEAST_STEPS`.
    """
    voxels = data.cases * math.prod(data.shape_at(grid.spacing_mm))
    limits = {
        "memory": windows_in_memory,
        "5 % of the training voxels, as nnU-Net": round(_MOST_OF_THE_VOXELS * voxels / patch**3),
        "training cases": data.cases,
        "time": int(min(steps * LEAST_WINDOWS / (3 * LEAST_STEPS), 10**9)),
    }
    what, number = min(limits.items(), key=lambda item: item[1])
    if number <= LEAST_WINDOWS:
        return None
    return Choice("train.batch_size", number, f"the patch is at its largest; limited by {what}")


def organ_windows(base: TrainConfig, seen: Presence) -> Choice | None:
    """A third, as nnU-Net, unless nearly every window has every organ; None where the base has a share of its own."""
    if base.organ_windows > 0 or not seen.anywhere:
        return None
    rarest = min(seen.anywhere)
    if rarest >= _OFTEN:
        return Choice("train.organ_windows", 0.0, f"every organ is in {rarest:.0%} of the windows or more")
    return Choice("train.organ_windows", _ORGAN_WINDOWS, f"as nnU-Net; the rarest organ is in {rarest:.0%} of patches")


def schedule(base: TrainConfig, iterations: int, reason: str) -> Iterator[Choice]:
    """How long, and how the learning rate falls; a schedule of the base stays, but for a warm-up that is too long."""
    yield Choice("train.iterations", iterations, reason)
    if base.rate_schedule.shape == "constant":
        yield Choice("train.rate_schedule.shape", "polynomial", "as nnU-Net, to 0 at the last step")
    longest = int(_WARM_UP * iterations)
    if base.rate_schedule.warm_up > longest:
        yield Choice("train.rate_schedule.warm_up", longest, f"a tenth of the steps (was {base.rate_schedule.warm_up})")
    if base.rate_schedule.steps is not None:
        yield Choice("train.rate_schedule.steps", None, "the rate falls over the whole training")


def intervals(train: TrainConfig, cost: TrainingCost) -> Iterator[Choice]:
    """How often a training is logged, validated and saved: lines and validations cost a twentieth of its time each."""
    n, share = train.iterations, _SHARE_OF_TIME * cost.step
    lines = min(n, rounded_up(max(50, n / _LINES, cost.line / share)))
    if cost.validation > 0:
        validate = min(n, rounded_up(max(n / _PARTS, (cost.validation + cost.line) / share)))
        times = -(-n // validate)
        why = f"{'once' if times == 1 else f'{times} times'}, for at most 5 % of the time"
    else:
        validate, why = n, "there is no validation case"
    save = min(n, rounded_up(n / _PARTS), rounded_up(_SAVED_EVERY_S / cost.step))
    yield Choice("train.log_every", lines, "lines of the curve, for at most 5 % of the time")
    yield Choice("train.validate_every", validate, why)
    yield Choice("train.checkpoint_every", save, f"a crash costs {duration_text(save * cost.step)} at most")


def rounded_up(value: float) -> int:
    """1, 2 or 5 times a power of ten, not below the value, and at least 1."""
    power = int(10 ** math.floor(math.log10(max(value, 1.0))))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= value)


def round_down(number: int) -> int:
    """To two digits."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return number // unit * unit


def chosen_settings(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Values by dotted key."""
    return {key: choice.value for key, choice in choices.items()}


def visits(config: Config, cases: int) -> float:
    """Windows of each case over the whole training, on average."""
    return config.train.iterations * config.train.batch_size / cases
