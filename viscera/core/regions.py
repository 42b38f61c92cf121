"""Where the voxels of a mask or label map are: boxes, connected components, holes, the middle.

An organ fills a few per cent of its scan, and outside its box nothing need be looked at. Components come from
connected-components-3d where it is installed, else from SciPy, alike.
"""

import importlib
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import Index3

cc3d: ModuleType | None
try:
    cc3d = importlib.import_module("cc3d")
except ImportError:  # it comes with the extra `fast`
    cc3d = None

Box = tuple[slice, slice, slice]
EMPTY: Box = (slice(0, 0), slice(0, 0), slice(0, 0))
Mask = npt.NDArray[np.bool_]
Connectivity = Literal[6, 26]
_RANK = {6: 1, 26: 3}  # how many coordinates neighbours may differ in


def numbered_components(mask: Mask, connectivity: Connectivity = 26) -> npt.NDArray[np.integer]:
    """(I, J, K) the components of a mask (I, J, K), numbered from 1 in any order; 0 outside.

    Voxels that share a face are joined; with connectivity 26 also those that share an edge or a corner.
    """
    numbered: npt.NDArray[np.integer]
    if cc3d is not None:
        even = np.pad(mask, [(0, n % 2) for n in mask.shape])  # on masks one voxel thick, version 4.1.1 can fail
        i, j, k = mask.shape
        numbered = cc3d.connected_components(even, connectivity=connectivity)[:i, :j, :k]
    else:
        from scipy import ndimage  # noqa: PLC0415 - slow to load, and not needed for most of what stands here

        numbered, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, _RANK[connectivity]))
    return numbered


def component_sizes(mask: Mask) -> npt.NDArray[np.int64]:
    """(N,) voxels of each 26-connected component, largest first."""
    sizes = np.bincount(numbered_components(mask).ravel())[1:]
    return np.sort(sizes)[::-1].astype(np.int64)


def central_voxel(mask: Mask) -> Index3:
    """The voxel of a mask nearest to its centre of mass; the first of several."""
    voxels = np.argwhere(mask)
    apart = np.square(voxels - voxels.mean(axis=0)).sum(axis=1)
    i, j, k = voxels[apart.argmin()].tolist()
    return (i, j, k)


def largest_component(mask: Mask) -> Mask:
    """The 26-connected component with most voxels; of equal ones that whose first voxel comes first in C order."""
    numbered = numbered_components(mask)
    sizes = np.bincount(numbered.ravel(), minlength=1)
    sizes[0] = 0
    if sizes.size <= 2:
        return mask
    is_largest = (sizes == sizes.max())[numbered]
    result: Mask = numbered == numbered.ravel()[is_largest.argmax()]
    return result


def holes(mask: Mask) -> Mask:
    """What a mask encloses: the 6-connected components of its outside that reach no face of the array."""
    if not mask.any():
        return mask
    numbered = numbered_components(~mask, connectivity=6)
    is_open = np.zeros(int(numbered.max()) + 1, dtype=np.bool_)
    is_open[0] = True
    for axis in range(3):
        for end in (0, -1):
            is_open[numbered.take(end, axis=axis)] = True
    result: Mask = ~is_open[numbered]
    return result


def box_of(*arrays: npt.NDArray[Any]) -> Box:
    """The smallest box that holds all of masks or label maps (I, J, K) that is not 0; `EMPTY` where all is."""
    columns = np.logical_or.reduce([np.any(array, axis=2) for array in arrays])
    i, j = np.flatnonzero(np.any(columns, axis=1)), np.flatnonzero(np.any(columns, axis=0))
    if not i.size:
        return EMPTY
    in_plane = slice(int(i[0]), int(i[-1]) + 1), slice(int(j[0]), int(j[-1]) + 1)
    k = np.flatnonzero(np.logical_or.reduce([np.any(array[in_plane], axis=(0, 1)) for array in arrays]))
    return (*in_plane, slice(int(k[0]), int(k[-1]) + 1))


def boxes_of(labels: npt.NDArray[np.uint8], length: int) -> list[Box]:
    """(L,) the box of each class of a label map (I, J, K) with L classes; background's is `EMPTY`, too."""
    from scipy import ndimage  # noqa: PLC0415 - as above

    box = box_of(labels)
    found = ndimage.find_objects(cropped(labels, box), max_label=length - 1) if box != EMPTY else [None] * (length - 1)
    boxes = [EMPTY] * length
    for label, within in enumerate(found, start=1):
        if within is not None:
            i, j, k = (slice(at.start + by.start, at.stop + by.start) for at, by in zip(within, box, strict=True))
            boxes[label] = (i, j, k)
    return boxes


def cropped(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """What lies in a box, in C order."""
    return np.ascontiguousarray(array[box])
