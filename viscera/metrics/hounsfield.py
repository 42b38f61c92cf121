"""Whether a scan's values can be Hounsfield units: their distribution, and what is wrong with it."""

from dataclasses import dataclass

import numpy as np

from viscera.core.scan import HuArray

_INT16 = np.iinfo(np.int16)
AIR_BELOW_HU = -500
TISSUE_HU = (-200, 300)
STORED_TISSUE_HU = (850, 1250)  # where water and soft tissue lie before the rescale intercept of -1024 is applied
MUCH_STORED_TISSUE = 0.05
LITTLE_TISSUE = 0.02
WINDOW_WIDTH = 600  # all values within it: no scan has so little between air and bone
CUT_AT_HIGHEST = 0.003  # that share of one scan's voxels has its highest value only if the values were cut there


@dataclass(frozen=True)
class HuFacts:
    """How a scan's values are distributed; shares are of all voxels, 0 to 1."""

    lowest: int  # value
    highest: int
    at_highest: float  # share that has the highest value
    commonest: int  # the value that most voxels have
    at_commonest: float  # share that has it
    air: float  # share below -500 HU
    tissue: float  # share from -200 to 300 HU
    stored_tissue: float  # share from 850 to 1250


def hu_facts(hu: HuArray) -> HuFacts:
    """The distribution of an (I, J, K) array of HU."""
    counts = np.zeros(2**16, dtype=np.int64)
    for plane in np.moveaxis(hu, 2, 0):
        counts += np.bincount(plane.ravel().astype(np.intp) - _INT16.min, minlength=2**16)
    present = np.flatnonzero(counts)
    commonest = int(counts.argmax())

    def share(low: int, high: int) -> float:
        return float(counts[low - _INT16.min : high - _INT16.min].sum() / hu.size)

    return HuFacts(
        lowest=int(present[0]) + _INT16.min,
        highest=int(present[-1]) + _INT16.min,
        at_highest=float(counts[present[-1]] / hu.size),
        commonest=commonest + _INT16.min,
        at_commonest=float(counts[commonest] / hu.size),
        air=share(_INT16.min, AIR_BELOW_HU),
        tissue=share(*TISSUE_HU),
        stored_tissue=share(*STORED_TISSUE_HU),
    )


def no_hu(hu: HuFacts) -> tuple[str, str, str] | None:
    """Why the values are no HU: kind, what was found, what was expected; None where they may be."""
    found = f"{hu.lowest} to {hu.highest}"
    if hu.stored_tissue >= MUCH_STORED_TISSUE:
        value = f"{found}, {hu.stored_tissue:.0%} of the voxels between 850 and 1250: looks unscaled"
        return "hu_scale", value, "soft tissue between -200 and 300 HU"
    if hu.highest - hu.lowest <= WINDOW_WIDTH or hu.at_highest >= CUT_AT_HIGHEST:
        value = f"{found}, {hu.at_highest:.1%} of the voxels at the highest value"
        return "hu_window", value, "from below -900 (air) to above 500 HU (bone), not cut"
    if hu.tissue < LITTLE_TISSUE:
        value = f"{found}, {hu.tissue:.1%} of the voxels between -200 and 300"
        return "hu_scale", value, f"{LITTLE_TISSUE:.0%} or more there: soft tissue"
    return None
