"""How often an organ's model is right about voxels that other organs claim as well, against how sure it is.

Platt's calibration: the log odds of the probability times a slope plus an offset, fitted by maximum likelihood on the
validation cases (Platt 1999, with his prior, so that few voxels say little). Two numbers an organ, and monotone: within
one organ no order of voxels changes.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from viscera.engine.fusion import claims, log_odds

_BINS_PER_UNIT, _LARGEST = 20, 14  # log odds; those of a probability of 1 - 1e-6 are 13.8
_LEAST_SLOPE, _LARGEST_SLOPE = 0.05, 20.0

Counts = npt.NDArray[np.int64]


def no_counts(organs: int) -> Counts:
    """(organs, bins of log odds, 2): voxels claimed rightly and wrongly."""
    return np.zeros((organs, 2 * _BINS_PER_UNIT * _LARGEST, 2), np.int64)


def count_conflicts(
    counts: Counts,
    planes: Iterable[tuple[Sequence[Tensor], npt.NDArray[np.uint8]]],
    owners: Sequence[int],
    labelled: Sequence[bool],
) -> None:
    """Add the voxels of one case that the models of several organs claim: there alone calibration decides.

    Args:
        counts: as `no_counts`.
        planes: (L, I, J) probabilities of each model, and (I, J) labels of the reference.
        owners: index of each organ's own model.
        labelled: whether the case labels each organ; there is nothing to learn about those that it does not.
    """
    for probabilities_MLIJ, reference in planes:
        labels = torch.from_numpy(np.ascontiguousarray(reference))
        claimed, own = claims(probabilities_MLIJ, owners)
        contested = claimed.sum(dim=0) > 1
        for organ in np.flatnonzero(labelled).tolist():
            voxels = claimed[organ] & contested
            at = ((log_odds(own[organ][voxels]) + _LARGEST) * _BINS_PER_UNIT).long()
            wrong = (labels[voxels] != organ + 1).long()
            flat = torch.bincount(2 * at + wrong, minlength=counts[organ].size)
            counts[organ] += flat.numpy().reshape(-1, 2)


def platt(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset of one organ's log odds, of (bins, 2) voxels; (1, 0) where there is none."""
    right, wrong = counts.T.astype(np.float64)
    if not counts.any():
        return 1.0, 0.0
    centres = (np.arange(len(counts)) + 0.5) / _BINS_PER_UNIT - _LARGEST
    # Platt's prior: targets a little within 0 and 1
    of_right, of_wrong = (right.sum() + 1) / (right.sum() + 2), 1 / (wrong.sum() + 2)
    hits = right * of_right + wrong * of_wrong
    misses = right * (1 - of_right) + wrong * (1 - of_wrong)

    def loss(at: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        odds = at[0] * centres + at[1]
        value = (hits * np.logaddexp(0, -odds) + misses * np.logaddexp(0, odds)).sum()
        slope = (hits + misses) * expit(odds) - hits
        return value / counts.sum(), np.array([(slope * centres).sum(), slope.sum()]) / counts.sum()

    bounds = [(_LEAST_SLOPE, _LARGEST_SLOPE), (None, None)]
    slope, offset = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds).x
    return round(float(slope), 4), round(float(offset), 4)
