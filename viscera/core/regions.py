"""Where the voxels of a mask or label map are: boxes, connected components, holes, the middle.

An organ fills a few per cent of its scan, and outside its box nothing need be looked at. Components come from
connected-components-3d where it is installed, else from SciPy, alike; of a large box slab by slab, joined across their
faces, so that the numbers of a whole scan are never held.
"""

import importlib
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
Numbers = npt.NDArray[np.int64]
_RANK = {6: 1, 26: 3}  # how many coordinates neighbours may differ in
_SLAB_VOXELS = 2**22  # that are looked at in one piece: numbers and their counts take 50 MB
_SLABS_KEPT = 4  # of up to so many, the numbers are held, not found again


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


@dataclass(frozen=True, eq=False)
class Components:
    """The components of a mask (I, J, K), N of them, of which no more than a slab along K is held at a time."""

    slabs: Sequence[slice]
    within: Callable[[slice], npt.NDArray[np.integer]]  # (I, J, planes) those of a slab, and of the plane below it
    piece_of: Sequence[Numbers]  # of each slab: from the number of a component in it to that of the whole, from 1 on
    sizes: Numbers  # (N + 1,) voxels of each component; none of number 0, what is outside
    enclosed: Mask  # (N + 1,) whether each reaches no face of the array
    kept: Sequence[npt.NDArray[np.integer]]  # the components of each slab, where slabs are few

    @classmethod
    def find(
        cls, array: npt.NDArray[Any], is_inside: Callable[[npt.NDArray[Any]], Mask], connectivity: Connectivity = 26
    ) -> "Components":
        """Of where an array (I, J, K) is as `is_inside` says, which is asked slab by slab, and in `numbered` again.

        A component that runs through slabs has a number in each; in the plane that two share both stand.
        """
        from scipy.sparse import coo_array  # noqa: PLC0415 - as above
        from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

        def within(planes: slice) -> npt.NDArray[np.integer]:
            return numbered_components(is_inside(array[:, :, max(planes.start - 1, 0) : planes.stop]), connectivity)

        slabs = slabs_of(array.shape)
        sizes, open_to, joined = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], [np.zeros((2, 0), np.int64)]
        below, kept = np.zeros(array.shape[:2], np.int64), []
        for at, planes in enumerate(slabs):
            numbered, first = within(planes), sum(map(len, sizes)) - 1
            count = int(numbered.max(initial=0))
            own = numbered[:, :, min(planes.start, 1) :]
            sizes.append(np.bincount(own.ravel(order="K"), minlength=count + 1)[1:])
            shared, bottom, top, *sides = (
                np.where(face, face + np.int64(first), 0)
                for face in (numbered[:, :, 0], own[:, :, 0], own[:, :, -1], own[0], own[-1], own[:, 0], own[:, -1])
            )
            open_to += [side.ravel() for side in sides]
            open_to += [bottom.ravel()] * (at == 0) + [top.ravel()] * (at == len(slabs) - 1)
            span = first + count + 1
            joined.append(np.stack(np.divmod(np.unique((below * span + shared)[below > 0]), span)))
            below = top
            if len(slabs) <= _SLABS_KEPT:
                kept.append(own)
        total = sum(map(len, sizes))
        one, other = np.concatenate(joined, axis=1)
        pieces, piece = connected_components(coo_array((np.ones(len(one)), (one, other)), (total, total)), False)
        number = (piece - piece[0]) % pieces  # 0 is outside
        whole = np.bincount(number, weights=np.concatenate(sizes)).astype(np.int64)
        enclosed = np.ones(pieces, dtype=np.bool_)
        enclosed[number[np.concatenate(open_to)]] = False
        ends = np.cumsum([len(each) for each in sizes])
        piece_of = [np.append(0, number[low:high]) for low, high in itertools.pairwise(ends)]
        return cls(slabs, within, piece_of, whole, enclosed, kept)

    def numbered(self) -> Iterator[tuple[slice, Numbers]]:
        """Slab by slab, (I, J, planes) the components, numbered from 1; 0 outside.

        What lies in a slab may be changed once it is there: the next one, which shares a plane with it, is numbered
        before.
        """
        own = self.kept or (self.within(planes)[:, :, min(planes.start, 1) :] for planes in self.slabs)
        ready: tuple[slice, Numbers] | None = None
        for planes, piece_of, numbered in zip(self.slabs, self.piece_of, own, strict=True):
            if ready is not None:
                yield ready
            ready = planes, piece_of[numbered]
        if ready is not None:
            yield ready

    @property
    def largest(self) -> int:
        """That with most voxels; of equal ones that whose first voxel comes first in C order; 0 where there is none."""
        equal = np.flatnonzero(self.sizes == max(self.sizes.max(), 1))
        if equal.size <= 1:
            return int(equal[0]) if equal.size else 0
        first: list[tuple[int, int, int, int]] = []
        for planes, numbers in self.numbered():
            voxels = np.argwhere(np.isin(numbers, equal))
            first += [(i, j, k + planes.start, int(numbers[i, j, k])) for i, j, k in voxels[:1].tolist()]
        return min(first)[-1]


def slabs_of(shape: Sequence[int]) -> list[slice]:
    """Planes of an array (I, J, K) along K, as many together as may be looked at in one piece."""
    i, j, k = shape
    thick = max(1, _SLAB_VOXELS // max(i * j, 1))
    return [slice(first, min(first + thick, k)) for first in range(0, k, thick)]


def component_sizes(array: npt.NDArray[Any], value: float = True) -> Numbers:
    """(N,) voxels of each 26-connected component of where an array (I, J, K) has a value, largest first."""
    return np.sort(Components.find(array, partial(operator.eq, value)).sizes[1:])[::-1]


def central_voxel(mask: Mask) -> Index3:
    """The voxel of a mask nearest to its centre of mass; the first of several."""
    voxels = np.argwhere(mask)
    apart = np.square(voxels - voxels.mean(axis=0)).sum(axis=1)
    i, j, k = voxels[apart.argmin()].tolist()
    return (i, j, k)


def box_of(*arrays: npt.NDArray[Any]) -> Box:
    """The smallest box that holds all of masks or label maps (I, J, K) that is not 0; `EMPTY` where all is."""
    return _around([box for box in map(_box_of_one, arrays) if box != EMPTY])


def _around(boxes: Sequence[Box]) -> Box:
    """The smallest box around others; `EMPTY` around none."""
    if not boxes:
        return EMPTY
    i, j, k = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
    return (i, j, k)


def _box_of_one(array: npt.NDArray[Any]) -> Box:
    """In the order of memory: planes one upon another first, then those at the ends until one is not empty."""
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    planes = array.transpose(order)
    all_in_one = np.maximum.reduce(planes, axis=0, initial=array.dtype.type(0))
    rows, columns = (np.flatnonzero(all_in_one.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return EMPTY
    sides = [slice(int(found[0]), int(found[-1]) + 1) for found in (rows, columns)]
    filled = (n for n in range(len(planes)) if planes[n][*sides].any())
    first = next(filled)
    last = next(n for n in range(len(planes) - 1, -1, -1) if planes[n][*sides].any())
    i, j, k = (side for _, side in sorted(zip(order, [slice(first, last + 1), *sides], strict=True)))
    return (i, j, k)


def box_where(mask_of: Callable[[slice], Mask], shape: Sequence[int]) -> Box:
    """The smallest box that holds all of a mask of this shape, which is asked for slab by slab; else `EMPTY`."""
    boxes = ((planes.start, box_of(mask_of(planes))) for planes in slabs_of(shape))
    return _around([_moved(box, (0, 0, first)) for first, box in boxes if box != EMPTY])


def boxes_of(labels: npt.NDArray[np.uint8], length: int) -> list[Box]:
    """(L,) the box of each class of a label map (I, J, K) with L classes; background's is `EMPTY`, too."""
    from scipy import ndimage  # noqa: PLC0415 - as above

    boxes: list[list[Box]] = [[] for _ in range(length)]
    for planes in slabs_of(labels.shape):
        i, j, k = box = box_of(labels[:, :, planes])
        part = cropped(labels[:, :, planes], box)
        found = ndimage.find_objects(part, max_label=length - 1) if part.size else ()
        for label, within in enumerate(found, start=1):
            if within is not None:
                boxes[label].append(_moved(within, (i.start, j.start, k.start + planes.start)))
    return [_around(each) for each in boxes]


def borders_on(labels: npt.NDArray[np.uint8], label: int, box: Box, other: int) -> bool:
    """Whether a voxel of a label, all of which lie in a box of a map, has one of another among its 26 neighbours."""
    part = labels[tuple(slice(max(axis.start - 1, 0), axis.stop + 1) for axis in box)]
    others = part == other
    if not others.any():
        return False
    from scipy import ndimage  # noqa: PLC0415 - as above

    return bool((ndimage.binary_dilation(part == label, np.ones((3, 3, 3), dtype=np.bool_)) & others).any())


def _moved(box: Sequence[slice], by: Index3) -> Box:
    i, j, k = (slice(axis.start + n, axis.stop + n) for axis, n in zip(box, by, strict=True))
    return (i, j, k)


def cropped(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """What lies in a box, in C order."""
    return np.ascontiguousarray(array[box])
