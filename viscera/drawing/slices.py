"""Axial slices with organ overlays, in radiological convention: the patient's right on the viewer's left, front up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from viscera.core.anatomy import ABDOMEN, IGNORED, AnatomicalClass, ClassTable
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, LabelMap, Volume
from viscera.drawing.canvas import house_style

WINDOW_HU = (-150.0, 250.0)  # of an abdominal CT: level 50, width 400
_BODY_HU = -300.0
_MARGIN_MM = 8.0
_BACKDROP_PIXELS = 480
IGNORED_COLOUR, HATCH = "#9ca3af", "////"  # of voxels that nobody labelled
HATCHED_CSS = f"repeating-linear-gradient(135deg, {IGNORED_COLOUR} 0 2px, transparent 2px 5px)"  # alike, in a page


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The CT behind the overlays."""

    hu: npt.NDArray[np.float32]  # (A, B) float32, canonical: to the right, to the front
    spacing_mm: tuple[float, ...]  # of A and B

    @property
    def view_mm(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Bounds of what is no air, with a margin, from the slice's first corner; the whole slice where all is air."""
        bounds = []
        for axis, (n, mm) in enumerate(zip(self.hu.shape, self.spacing_mm, strict=True)):
            inside = np.flatnonzero((self.hu > _BODY_HU).any(axis=1 - axis))
            low, high = (inside[0], inside[-1] + 1) if inside.size else (0, n)
            bounds.append((max(0.0, low * mm - _MARGIN_MM), min(n * mm, high * mm + _MARGIN_MM)))
        return (bounds[0], bounds[1])


@dataclass(frozen=True, eq=False)
class LabelView:
    """A label map cut down to what is drawn."""

    axial: LabelArray  # (I, J) uint8, the shown slice
    spacing_mm: tuple[float, float]  # of I and J
    coarse: LabelMap  # the whole map, thinned to at most 128 voxels an edge

    @classmethod
    def of(cls, label_map: LabelMap, slice_index: int) -> "LabelView":
        """Cut down a canonical label map; the arrays are copies, so that the full one can go."""
        i, j, _ = label_map.geometry.spacing_mm
        return cls(label_map.labels[:, :, slice_index].copy(), (i, j), thinned(label_map))


def busiest_slice(truth: LabelMap) -> int:
    """The axial slice of a canonical label map with the most organs, then the most organ voxels, then the lowest."""
    length = int(truth.labels.max(initial=0)) + 1
    counts = np.stack([np.bincount(plane.ravel(), minlength=length) for plane in np.moveaxis(truth.labels, 2, 0)])
    organs = counts[:, 1:IGNORED]
    return int(np.lexsort((-np.arange(len(organs)), organs.sum(axis=1), (organs > 0).sum(axis=1)))[-1])


def backdrop(scan: Volume, grid: Geometry, slice_index: int) -> Backdrop:
    """The CT at one axial slice of a label map's grid, interpolated linearly between the prepared voxels.

    Both grids are canonical, that of the label maps is usually finer; `slice_index` is along its K. The slice comes at
    least 480 pixels long, with the part of it that holds the body.
    """
    factor = max(1, round(_BACKDROP_PIXELS / max(grid.shape[:2])))
    fine = grid.scaled((1 / factor, 1 / factor, 1), (grid.shape[0] * factor, grid.shape[1] * factor, grid.shape[2]))
    to_scan = np.linalg.inv(scan.geometry.affine) @ fine.affine
    offset = to_scan[:3, :3] @ (0, 0, slice_index) + to_scan[:3, 3]
    coarse, shape = np.asarray(scan.hu, dtype=np.float32), (*fine.shape[:2], 1)
    hu = ndimage.affine_transform(coarse, to_scan[:3, :3], offset, output_shape=shape, order=1, mode="nearest")[:, :, 0]
    return Backdrop(hu, fine.spacing_mm[:2])


@house_style()
def slice_figure(
    scene_backdrop: Backdrop,
    labels_IJ: LabelArray,
    spacing_mm: tuple[float, float],
    classes: ClassTable = ABDOMEN,
) -> Figure:
    """One panel of Figures 2-4.

    The CT is shared by all panels of a case; the labels are (I, J) uint8, canonical: to the right, to the front.
    """
    figure, axes = scan_figure(scene_backdrop, 4.0, 12)
    voxels = np.bincount(labels_IJ.ravel(), minlength=len(classes))
    small_on_top = sorted(classes.organs, key=lambda organ: -int(voxels[organ.label]))
    draw_organs(axes, labels_IJ, spacing_mm, dict.fromkeys(small_on_top, 1.3), opacity=0.45)
    if not voxels[1:IGNORED].any():
        axes.text(0.5, 0.04, "nothing labelled in this slice", transform=axes.transAxes, color="white", ha="center")
    return figure


@house_style()
def scan_figure(
    scan: Backdrop, width_in: float, letters: int, sides: tuple[str, str] = ("R", "L")
) -> tuple[Figure, Axes]:
    """The CT, at most twice as high as wide; its first axis runs to the left.

    Axes are in mm from the corner of the slice; `sides` name the patient's sides at the left and right edge.
    """
    (low, high), (bottom, top) = scan.view_mm
    figure = Figure((width_in, min(2 * width_in, width_in * (top - bottom) / (high - low))), facecolor="black")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    extent = (0, scan.hu.shape[0] * scan.spacing_mm[0], 0, scan.hu.shape[1] * scan.spacing_mm[1])
    low_hu, high_hu = WINDOW_HU
    axes.imshow(scan.hu.T, "gray", vmin=low_hu, vmax=high_hu, origin="lower", extent=extent, interpolation="bilinear")
    axes.set(xlim=(high, low), ylim=(bottom, top), aspect="equal")
    white: dict[str, Any] = {"color": "white", "weight": "bold", "size": letters, "ha": "center", "va": "center"}
    for x, side in zip((0.03, 0.97), sides, strict=True):
        axes.text(x, 0.5, side, transform=axes.transAxes, **white)
    return figure, axes


def draw_organs(
    axes: Axes,
    labels_AB: LabelArray,
    spacing_mm: tuple[float, ...],
    widths: Mapping[AnatomicalClass, float],
    opacity: float = 0.0,
) -> None:
    """Outline organs, each with its width in points, and fill them; the last are on top.

    Outlines run between voxel centres, at most half a voxel from the voxels' edges. What nobody labelled is hatched.
    """
    padded = np.pad(labels_AB, 1)
    across_mm, up_mm = ((np.arange(n) - 0.5) * mm for n, mm in zip(padded.shape, spacing_mm, strict=True))
    for organ, width in widths.items():
        mask = (padded == organ.label).T.astype(np.float32)
        if mask.any():
            if opacity:
                axes.contourf(across_mm, up_mm, mask, levels=[0.5, 1.5], colors=[organ.colour], alpha=opacity)
            axes.contour(across_mm, up_mm, mask, levels=[0.5], colors=[organ.colour], linewidths=width)
    ignored = (padded == IGNORED).T.astype(np.float32)
    if ignored.any():
        hatched = axes.contourf(across_mm, up_mm, ignored, levels=[0.5, 1.5], colors="none", hatches=[HATCH])
        hatched.set_edgecolor(IGNORED_COLOUR)
        hatched.set_linewidth(0.0)


def thinned(label_map: LabelMap, longest: int = 128) -> LabelMap:
    """Every n-th voxel of each axis longer than `longest`; a copy."""
    shape = label_map.labels.shape
    i, j, k = (-(-n // longest) for n in shape)
    labels = label_map.labels[i // 2 :: i, j // 2 :: j, k // 2 :: k].copy()
    return LabelMap(labels, label_map.geometry.scaled((i, j, k), (labels.shape[0], labels.shape[1], labels.shape[2])))
