"""From the images of a series, in any order, to slices in a row and the grid they make.

Positions are compared along the normal of the slices; the affine takes each voxel to where its header says it lies.
Several images at one position are copies of one another, or phases of a time series.
"""

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from viscera.core.errors import BadInputError
from viscera.core.geometry import LPS_FROM_RAS, Geometry
from viscera.core.wording import agreeing, counted
from viscera.io.dicom.dicom_header import Plane, Slice, UnusableSeriesError
from viscera.io.dicom.hounsfield_pixels import read_images

TILT_DEGREES = 0.1  # less is how positions were rounded
_TOLERANCE = 0.1  # of a voxel, that a slice may lie beside its place in the grid
_ROUNDING_MM = 0.1  # and no less than this: some headers give positions to a tenth of a millimetre
_SAME_DIRECTION = 0.005
_SAME_SPACING_MM = 0.001
_SAME_POSITION_MM = 0.01
_NAMED = 3  # that a message names
_PLURALS = {"acquisition": "acquisitions", "time point": "time points", "acquisition time": "acquisition times"}
_TELLING = tuple(_PLURALS)  # not the trigger time: it varies from beat to beat
_OFTEN = 0.25  # returns to an acquisition, of all slices; a single slice may have been scanned again
_SEVERAL_PHASES = (
    "Several phases or time points under one series UID? Put the files of one of them into a folder of their own"
)


@dataclass(frozen=True)
class Stack:
    """Slices in order, the grid they make, and what is odd about them."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    warnings: tuple[str, ...]


def stack(images: Sequence[Slice], most_strays: int = 2) -> Stack:
    """Put the images of one series, in any order, in order along the normal of their plane.

    Up to `most_strays` images of another plane, such as a localizer, are left out without asking. Raises
    UnusableSeriesError where they do not make one regular grid.
    """
    if not images:
        raise UnusableSeriesError("it holds no images. Give the images of a CT series")
    if len({image.frame_of_reference for image in images} - {""}) > 1:
        raise UnusableSeriesError("its images have several frames of reference: their positions cannot be compared")
    slices, strays = _main_plane(images, most_strays)
    planes = planes_of(slices)
    normal = np.cross(planes[0].row, planes[0].column)
    along_mm = np.array([plane.position_mm for plane in planes]) @ normal
    order = np.argsort(along_mm, kind="stable")
    kept = _drop_doubles([slices[n] for n in order], along_mm[order])
    _refuse_alternating(kept)
    geometry = _geometry(kept, _step(kept, normal))
    warnings = []
    if strays:
        lie, are = agreeing(len(strays), "lies", "lie"), agreeing(len(strays))
        warnings.append(f"{len(strays)} of {len(images)} images {lie} in another plane and {are} left out.")
    if copies := len(slices) - len(kept):
        are = "image is" if copies == 1 else "images are"
        warnings.append(f"{copies} {are} there twice; one of each is read.")
    if geometry.skew_degrees > TILT_DEGREES:
        warnings.append(
            f"the gantry was tilted by {geometry.skew_degrees:.1f}°: slices and their stack are not at right angles. "
            "The voxels' true positions are kept in a sheared grid; viewers built on ITK refuse a NIfTI file with it."
        )
    return Stack(tuple(kept), geometry, tuple(warnings))


def _main_plane(images: Sequence[Slice], most_strays: int) -> tuple[list[Slice], list[Slice]]:
    """The images of the plane and size that most have, and the others."""
    unplaced = [image.path.name for image in images if image.plane is None]
    if unplaced:
        do = agreeing(len(unplaced), "does", "do")
        raise UnusableSeriesError(
            f"{len(unplaced)} of {counted(len(images), 'image')} {do} not say where they lie in the patient "
            f"(ImagePositionPatient, ImageOrientationPatient, PixelSpacing), {unplaced[0]} for one. Export the "
            "original series"
        )
    groups: list[list[Slice]] = []
    for image in images:
        group = next((group for group in groups if _is_alike(group[0], image)), None)
        if group is None:
            groups.append(group := [])
        group.append(image)
    main = max(groups, key=len)
    strays = [image for group in groups if group is not main for image in group]
    if len(strays) > most_strays or 1 < len(images) <= 2 * len(strays):
        counts = ", ".join(str(len(group)) for group in groups)
        raise UnusableSeriesError(
            f"its images are of {len(groups)} sizes or planes ({counts} images). Put those of one plane into a folder "
            "of their own"
        )
    return main, strays


def _is_alike(one: Slice, other: Slice) -> bool:
    """Whether two images have one size, orientation and pixel spacing, but for rounding."""
    a, b = planes_of([one, other])
    return (
        one.shape == other.shape
        and all(abs(x - y) < _SAME_DIRECTION for x, y in zip(a.row + a.column, b.row + b.column, strict=True))
        and all(abs(x - y) < _SAME_SPACING_MM for x, y in zip(a.spacing_mm, b.spacing_mm, strict=True))
    )


def _step(slices: Sequence[Slice], normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(3,) from one slice to the next, LPS mm."""
    planes = planes_of(slices)
    if len(slices) == 1:
        thickness = planes[0].thickness_mm
        if thickness is None:
            raise UnusableSeriesError("a single image without a slice thickness. Give the whole series")
        return normal * thickness
    positions = np.array([plane.position_mm for plane in planes])
    along_mm = positions @ normal
    _refuse_gaps(slices, along_mm)
    step_mm: npt.NDArray[np.float64] = (positions[-1] - positions[0]) / (len(slices) - 1)
    beside = positions - positions[0] - np.outer(np.arange(len(slices)), step_mm)
    off_mm = np.abs(beside @ normal)
    gaps_mm = np.diff(along_mm)
    if off_mm.max() > _tolerance_mm(float(step_mm @ normal)):
        raise UnusableSeriesError(
            f"uneven spacing: neighbouring slices are {gaps_mm.min():.3g} to {gaps_mm.max():.3g} mm apart, and "
            f"{slices[int(off_mm.argmax())].path.name} lies {off_mm.max():.3g} mm beside its place in an even stack. "
            "Reconstruct the series with even spacing"
        )
    in_plane_mm = np.linalg.norm(beside - np.outer(beside @ normal, normal), axis=1)
    if in_plane_mm.max() > _tolerance_mm(min(planes[0].spacing_mm)):
        raise UnusableSeriesError(
            f"the images are shifted against each other: {slices[int(in_plane_mm.argmax())].path.name} lies "
            f"{in_plane_mm.max():.3g} mm beside the line through the first and the last. Reconstruct the series with "
            "one field of view"
        )
    return step_mm


def _refuse_gaps(slices: Sequence[Slice], along_mm: npt.NDArray[np.float64]) -> None:
    """Refuse gaps that are whole multiples of the usual one."""
    gaps_mm = np.diff(along_mm)
    usual_mm = float(np.median(gaps_mm))
    multiples = gaps_mm / usual_mm
    whole = np.rint(multiples)
    wide = np.flatnonzero(whole > 1)
    if not wide.size or np.abs(multiples - whole).max() * usual_mm > _tolerance_mm(usual_mm):
        return
    places = [
        f"{int(whole[n] - 1)} between {slices[n].path.name} at {along_mm[n]:.5g} mm and {slices[n + 1].path.name} at "
        f"{along_mm[n + 1]:.5g} mm"
        for n in wide[:_NAMED]
    ]
    more = f", and {len(wide) - _NAMED} gaps more" if len(wide) > _NAMED else ""
    missing = int((whole[wide] - 1).sum())
    raise UnusableSeriesError(
        f"{missing} {'slice is' if missing == 1 else 'slices are'} missing, where {usual_mm:.4g} mm is usual: "
        f"{'; '.join(places)}{more}. Export the whole series again"
    )


def _geometry(slices: Sequence[Slice], step_mm: npt.NDArray[np.float64]) -> Geometry:
    """PS3.3, equation C.7.6.2.1-1, with I along rows, J down columns, K along the stack, in RAS+."""
    first = planes_of(slices)[0]
    across, down = np.multiply(first.row, first.spacing_mm[0]), np.multiply(first.column, first.spacing_mm[1])
    lps = np.vstack([np.column_stack([across, down, step_mm, first.position_mm]), [0, 0, 0, 1]])
    rows, columns = slices[0].shape
    return Geometry((columns, rows, len(slices)), LPS_FROM_RAS @ lps)


def planes_of(slices: Sequence[Slice]) -> list[Plane]:
    """Where slices of a stack lie: all of them say so."""
    return [each.plane for each in slices if each.plane is not None]


def _tolerance_mm(spacing_mm: float) -> float:
    return max(_TOLERANCE * spacing_mm, _ROUNDING_MM)


# ------------------------------------------------------------------------------------------ several at one position


def _drop_doubles(slices: Sequence[Slice], along_mm: npt.NDArray[np.float64]) -> list[Slice]:
    """One slice for each position; different images at one position are refused."""
    is_double = np.diff(along_mm, prepend=-np.inf) < _SAME_POSITION_MM
    for n in np.flatnonzero(is_double).tolist():
        one, other = slices[n - 1], slices[n]
        if not _is_copy(one, other):
            a, b = dict(one.acquisition), dict(other.acquisition)
            differing = [name for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]
            phases = f" (of another {' and '.join(differing)})" if differing else ""
            lie = "image lies" if is_double.sum() == 1 else "images lie"
            raise UnusableSeriesError(
                f"{is_double.sum()} {lie} where another lies already, with other pixels: {one.path.name} and "
                f"{other.path.name} at {along_mm[n]:.5g} mm{phases}. {_SEVERAL_PHASES}"
            )
    return [each for each, double in zip(slices, is_double, strict=True) if not double]


def _refuse_alternating(slices: Sequence[Slice]) -> None:
    """Refuse phases whose positions lie between one another; one block of an acquisition after another is a scan."""
    for name in _TELLING:
        values = [dict(each.acquisition).get(name, "") for each in slices]
        runs = [value for value, _ in groupby(values)]
        if len(runs) - len(set(runs)) > _OFTEN * len(slices):
            several = f"{len(set(runs))} {_PLURALS[name]}"
            first = ", ".join(each.path.name for each in slices[:_NAMED])
            raise UnusableSeriesError(
                f"slices of {several} alternate along the stack: {first} and so on. "
                f"{_SEVERAL_PHASES}; if they are one scan all the same, convert it to NIfTI"
            )


def _is_copy(one: Slice, other: Slice) -> bool:
    """Whether two files hold the same HU, however these are stored; frames of one file are no copies."""
    if one.shape != other.shape or one.path == other.path:
        return False
    if filecmp.cmp(one.path, other.path, shallow=False):
        return True
    try:
        return np.array_equal(next(read_images([one])), next(read_images([other])))
    except BadInputError:
        return False
