"""From the images of a series, in any order, to slices in a row and the grid they make.

Positions are compared along the normal of the slices; the affine takes each voxel to where its header says it lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import LPS_FROM_RAS, Geometry
from viscera.io.dicom.doubles import drop_doubles, refuse_alternating
from viscera.io.dicom.series import Plane, Slice
from viscera.io.dicom.unusable import UnusableSeriesError

TILT_DEGREES = 0.1  # less is how positions were rounded
_TOLERANCE = 0.1  # of a voxel, that a slice may lie beside its place in the grid
_ROUNDING_MM = 0.1  # and no less than this: some headers give positions to a tenth of a millimetre
_SAME_DIRECTION = 0.005
_SAME_SPACING_MM = 0.001
_STRAYS = 2  # images of another plane that are left out without asking, such as a localizer of the same series
_NAMED = 3  # gaps that a message names


@dataclass(frozen=True)
class Stack:
    """Slices in order, the grid they make, and what is odd about them."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    warnings: tuple[str, ...]


def stack(images: Sequence[Slice]) -> Stack:
    """Put images in order along the normal of their plane.

    Raises:
        UnusableSeriesError: they do not make one regular grid: positions not given, several planes, different images
            at one position, phases between one another, slices that are missing, uneven spacing, images
            shifted against each other.
    """
    slices, strays = _main_plane(images)
    planes = _planes(slices)
    normal = np.cross(planes[0].row, planes[0].column)
    along_mm = np.array([plane.position_mm for plane in planes]) @ normal
    order = np.argsort(along_mm, kind="stable")
    kept, copies = drop_doubles([slices[n] for n in order], along_mm[order])
    refuse_alternating(kept)
    step_mm = _step(kept, normal)
    geometry = _geometry(kept, step_mm)
    tilt = geometry.skew_degrees
    warnings = [
        f"{strays} of {len(images)} images lie in another plane and are left out." if strays else "",
        f"{copies} {'image is there' if copies == 1 else 'images are there'} twice; one of each is read."
        if copies
        else "",
        f"the gantry was tilted by {tilt:.1f}°: slices and their stack are not at right angles. The voxels' true "
        "positions are kept in a sheared grid; viewers built on ITK refuse a NIfTI file with it."
        if tilt > TILT_DEGREES
        else "",
    ]
    return Stack(tuple(kept), geometry, tuple(text for text in warnings if text))


def same_plane(one: Slice, other: Slice) -> bool:
    """Whether two images, which say where they lie, have one size, orientation and pixel spacing, but for rounding."""
    a, b = _planes([one, other])
    apart = np.abs(np.subtract([*a.row, *a.column], [*b.row, *b.column])).max()
    spacings = np.abs(np.subtract(a.spacing_mm, b.spacing_mm)).max()
    return one.shape == other.shape and bool(apart < _SAME_DIRECTION and spacings < _SAME_SPACING_MM)


def _main_plane(images: Sequence[Slice]) -> tuple[list[Slice], int]:
    """The images of the plane and size that most have, and how many others there are."""
    unplaced = [image.path.name for image in images if image.plane is None]
    if unplaced:
        raise UnusableSeriesError(
            f"{len(unplaced)} of {len(images)} images do not say where they lie in the patient (ImagePositionPatient, "
            f"ImageOrientationPatient, PixelSpacing), {unplaced[0]} for one. Export the original series"
        )
    groups: list[list[Slice]] = []
    for image in images:
        group = next((group for group in groups if same_plane(group[0], image)), None)
        if group is None:
            groups.append([image])
        else:
            group.append(image)
    main = max(groups, key=len)
    strays = len(images) - len(main)
    if strays > _STRAYS or 1 < len(images) <= 2 * strays:
        counts = ", ".join(str(len(group)) for group in groups)
        raise UnusableSeriesError(
            f"its images are of {len(groups)} sizes or planes ({counts} images). Put those of one plane into a folder "
            "of their own"
        )
    return main, strays


def _step(slices: Sequence[Slice], normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(3,) from one slice to the next, LPS mm."""
    planes = _planes(slices)
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
    first = _planes(slices)[0]
    lps = np.eye(4)
    lps[:3, 0] = np.multiply(first.row, first.spacing_mm[0])
    lps[:3, 1] = np.multiply(first.column, first.spacing_mm[1])
    lps[:3, 2] = step_mm
    lps[:3, 3] = first.position_mm
    rows, columns = slices[0].shape
    return Geometry((columns, rows, len(slices)), LPS_FROM_RAS @ lps)


def _planes(slices: Sequence[Slice]) -> list[Plane]:
    return [each.plane for each in slices if each.plane is not None]


def _tolerance_mm(spacing_mm: float) -> float:
    return max(_TOLERANCE * spacing_mm, _ROUNDING_MM)
