"""Training windows that are centred on an organ: which ones, and where (`train.organ_windows`)."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import Index3
from viscera.core.scan import LabelArray

_STREAM = 4  # of random numbers of a window, beside those of `imaging.augment`


@dataclass(frozen=True, eq=False)
class OrganWindows:
    """A share of the windows has a voxel of an organ at its centre: a pure function of (seed, step, slot).

    The organ is drawn evenly among those that the case has, then a voxel of it, evenly. The window stays within the
    scan, as nnU-Net's (`oversample_foreground_percent`), so that near a face the voxel is not at its centre.
    """

    share: float  # of the windows
    voxel_counts: npt.NDArray[np.int64]  # (cases, L) of each class, background first
    # by case (I, L) voxels of each class in each plane: the labels of a case are read once as a whole
    _planes: dict[int, npt.NDArray[np.int32]] = field(default_factory=dict)

    def origin(self, key: tuple[int, int, int], number: int, labels: LabelArray, patch: int) -> Index3 | None:
        """First voxel of the window of edge `patch` of key (seed, step, slot), in case `number` of these labels.

        None where the window is none of the share, or the case has no organ.
        """
        seed, step, slot = key
        random = np.random.default_rng((seed, step, slot + 1, _STREAM))
        organs = np.flatnonzero(self.voxel_counts[number, 1:]) + 1
        if random.random() >= self.share or not organs.size:
            return None
        label = int(random.choice(organs))
        voxel = self._voxel(number, labels, label, int(random.integers(self.voxel_counts[number, label])))
        room = (max(n - patch, 0) for n in labels.shape)
        i, j, k = (min(max(at - patch // 2, 0), most) for at, most in zip(voxel, room, strict=True))
        return i, j, k

    def _voxel(self, number: int, labels: LabelArray, label: int, which: int) -> Index3:
        """The voxel of a label that comes so far in the order of memory."""
        if number not in self._planes:
            length = self.voxel_counts.shape[1]
            counts = [np.bincount(plane.ravel(), minlength=length)[:length] for plane in labels]
            self._planes[number] = np.array(counts, dtype=np.int32)
        until = self._planes[number][:, label].cumsum(dtype=np.int64)
        i = int(until.searchsorted(which, side="right"))
        before = int(until[i - 1]) if i else 0
        j, k = divmod(int(np.flatnonzero(labels[i] == label)[which - before]), labels.shape[2])
        return i, j, k
