"""Which voxel size to train on, by nnU-Net's rules for its two resolutions and by what a window and an organ need.

Isensee et al., Nature Methods 2021, supplementary note 2; in nnU-Net 2.8 `determine_fullres_target_spacing` and
`plan_experiment`. What is decided otherwise, and why: docs/howto/planning.md.
"""

import math
from typing import NamedTuple

import numpy as np

from viscera.core.wording import listed
from viscera.planning.fingerprint import Fingerprint
from viscera.planning.labelled_part import Spacing

WINDOW_SHARE = 0.1  # of the voxels of the median scan, which a window is to hold; docs/results/planned-grids.md
COARSEST_MM = 5.0  # that a grid becomes: what it costs an organ is measured in docs/results/downsampling-cost.md
LEAST_VOXELS = 64  # of the smallest organ of the median case: 4 along each axis
ALIKE = 1.25  # spacings whose ratio is less are not worth another store
ALIKE_CASES = 1.5  # likewise, from the finest tenth of the cases to the coarsest
_THICK = 3  # an axis with so many times the spacing of the others, and so many times fewer voxels
_PERCENTILE = 10  # of the spacings of that axis
_FINE_MM = 2.0  # below it a hundredth of a millimetre counts, above it a tenth
_STEP = 1.03  # by which the grid is made coarser, as there


class Grid(NamedTuple):
    """Voxels to train on."""

    spacing_mm: Spacing
    reason: str
    is_the_stores: bool  # whether the store need not be prepared again


def full_resolution(data: Fingerprint) -> Spacing:
    """nnU-Net's: the median of the scans' spacings; of one axis of thick slices the 10th percentile instead."""
    spacings = np.array(data.scan_spacings_mm)
    target, size = np.median(spacings, axis=0), np.median(np.array(data.scan_shapes), axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    if target[worst] > _THICK * target[others].max() and size[worst] * _THICK < size[others].min():
        thinner = float(np.percentile(spacings[:, worst], _PERCENTILE))
        target[worst] = max(thinner, target[others].max() + 1e-5)
    i, j, k = target.tolist()
    return i, j, k


def window_share(data: Fingerprint, spacing_mm: Spacing, patch: int) -> float:
    """Share of the voxels of the median scan that lies in a window of that edge."""
    shape = data.shape_at(spacing_mm)
    return math.prod(min(patch, n) for n in shape) / math.prod(shape)


def smallest_organ(data: Fingerprint, spacing_mm: Spacing) -> tuple[str, float]:
    """Name and voxels of the organ that has fewest in the median case, of those whose volume is known.

    None and infinity where there is no such organ.
    """
    found = [(organ.voxels_at(spacing_mm), organ.name) for organ in data.organs if organ.has_volume]
    voxels, name = min(found, default=(math.inf, ""))
    return name, voxels


def planned_grid(data: Fingerprint, patch: int, least_share: float = WINDOW_SHARE) -> Grid:
    """From the scans' own resolution coarser, until a window of that edge holds a share of the median scan.

    As nnU-Net makes its low resolution: finer axes first, until they are within a factor of two of the coarsest, then
    all. It ends earlier where the smallest organ would have fewer than `LEAST_VOXELS`, or an axis reaches
    `COARSEST_MM`; an axis that is coarser as it is stays. Where slices or strokes are labelled among voxels that nobody
    labelled, it ends at their thickness: in a coarser voxel they would be outvoted. Within a factor of 1.25 the store's
    grid is taken, unless its cases differ.
    """
    own = np.array(full_resolution(data))
    at, most = own.copy(), np.maximum(own, np.minimum(COARSEST_MM, data.labelled_mm))
    why = f"the scans' own, as a patch of {patch} voxels holds {least_share:.0%} of a scan"
    while window_share(data, _three(at), patch) < least_share:
        coarser = at.copy()
        coarser[at.max() / at > 2 if np.any(at.max() / at > 2) else slice(None)] *= _STEP
        coarser = np.minimum(coarser, most)
        share = f"{window_share(data, _three(at), patch):.0%}"
        if np.array_equal(coarser, at):
            why = f"not coarser than {_limit_text(data)}, though a patch holds only {share} of a scan"
            break
        name, voxels = smallest_organ(data, _three(coarser))
        if voxels < LEAST_VOXELS:
            why = f"not coarser, or the {name} would have under {LEAST_VOXELS} voxels; a patch holds {share} of a scan"
            break
        at = coarser
        why = (
            f"coarsened until a patch of {patch} voxels holds {least_share:.0%} of a scan (nnU-Net: its low resolution)"
        )
    return _or_the_stores(data, at, why)


def _limit_text(data: Fingerprint) -> str:
    thin = [f"{mm:.3g} mm along {axis}" for axis, mm in zip("RAS", data.labelled_mm, strict=True) if mm < COARSEST_MM]
    beside = f", or what is labelled in one piece ({listed(thin)})" if thin else ""
    return f"{COARSEST_MM:g} mm{beside}"


def _or_the_stores(data: Fingerprint, at: np.ndarray[tuple[int, ...], np.dtype[np.float64]], why: str) -> Grid:
    store = np.array(data.spacing_mm)
    if data.spacing_ratio <= ALIKE_CASES and max((at / store).max(), (store / at).max()) <= ALIKE:
        return Grid(data.spacing_mm, f"the store's, within a factor of {ALIKE:g} of the rule's: {why}", True)
    i, j, k = (round(mm, 1 if mm >= _FINE_MM else 2) for mm in at.tolist())
    return Grid((i, j, k), why, is_the_stores=False)


def _three(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Spacing:
    i, j, k = values.tolist()
    return i, j, k
