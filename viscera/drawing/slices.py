"""Axial slices with organ overlays, in radiological convention: the patient's right on the viewer's left, front up."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, LabelMap, Volume
from viscera.drawing.canvas import house_style

Bounds = tuple[float, float]
Box2 = tuple[Bounds, Bounds]
LEVEL_HU, WIDTH_HU = 50.0, 400.0
_BODY_HU = -300.0
_MARGIN_MM = 8.0
_BACKDROP_PIXELS = 480
_LONGEST_EDGE = 128


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The CT behind the overlays."""

    hu: npt.NDArray[np.float32]  # (A, B) float32, canonical: to the right, to the front
    spacing_mm: tuple[float, ...]  # of A and B
    view_mm: Box2  # the part worth showing, from the slice's first corner


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
    length = int(truth.labels.max()) + 1
    counts = np.stack([np.bincount(plane.ravel(), minlength=length) for plane in np.moveaxis(truth.labels, 2, 0)])
    organs = counts[:, 1:]
    ranked = [((row > 0).sum(), row.sum(), -index) for index, row in enumerate(organs)]
    return -int(max(ranked)[2])


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
    return Backdrop(hu, fine.spacing_mm[:2], body_box_mm(hu, fine.spacing_mm[:2]))


def slice_figure(
    scene_backdrop: Backdrop,
    labels_IJ: LabelArray,
    spacing_mm: tuple[float, float],
    classes: ClassTable = ABDOMEN,
) -> Figure:
    """One panel of Figures 2-4.

    The CT is shared by all panels of a case; the labels are (I, J) uint8, canonical: to the right, to the front.
    """
    width_mm, height_mm = (high - low for low, high in scene_backdrop.view_mm)
    width_in = 4.0
    with house_style():
        figure = Figure(figsize=(width_in, width_in * height_mm / width_mm), facecolor="black")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        draw_scan(axes, scene_backdrop)
        _draw_organs(axes, labels_IJ, spacing_mm, classes)
        (left, right), vertical = scene_backdrop.view_mm
        axes.set_xlim(right, left)  # the patient's right, at high x, comes to the viewer's left
        axes.set_ylim(vertical)
        axes.set_aspect("equal")
        white: dict[str, Any] = {"transform": axes.transAxes, "color": "white", "ha": "center"}
        for x, side in ((0.03, "R"), (0.97, "L")):
            axes.text(x, 0.5, side, weight="bold", size=12, va="center", **white)
        if not labels_IJ.any():
            axes.text(0.5, 0.04, "nothing labelled in this slice", **white)
    return figure


def draw_scan(axes: Axes, scan: Backdrop) -> None:
    """The CT alone, in mm from the corner of the slice, in the window of an abdominal CT."""
    extent = (0, scan.hu.shape[0] * scan.spacing_mm[0], 0, scan.hu.shape[1] * scan.spacing_mm[1])
    low, high = LEVEL_HU - WIDTH_HU / 2, LEVEL_HU + WIDTH_HU / 2
    axes.imshow(scan.hu.T, "gray", vmin=low, vmax=high, origin="lower", extent=extent, interpolation="bilinear")


def _draw_organs(axes: Axes, labels_IJ: LabelArray, spacing_mm: tuple[float, float], classes: ClassTable) -> None:
    """Fill and outline each organ; outlines run between voxel centres, at most half a voxel from the voxels' edges."""
    padded = np.pad(labels_IJ, 1)
    x_mm = (np.arange(padded.shape[0]) - 0.5) * spacing_mm[0]
    y_mm = (np.arange(padded.shape[1]) - 0.5) * spacing_mm[1]
    voxels = np.bincount(padded.ravel(), minlength=len(classes))
    for organ in sorted(classes.organs, key=lambda organ: -int(voxels[organ.label])):  # small ones on top of large ones
        mask = (padded == organ.label).T.astype(np.float32)
        if mask.any():
            axes.contourf(x_mm, y_mm, mask, levels=[0.5, 1.5], colors=[organ.colour], alpha=0.45)
            axes.contour(x_mm, y_mm, mask, levels=[0.5], colors=[organ.colour], linewidths=1.3)


def body_box_mm(hu: npt.NDArray[np.float32], spacing_mm: tuple[float, ...]) -> Box2:
    """Bounds of what is no air, with a margin, within the slice; the whole slice where all is air."""
    bounds = []
    for axis in (0, 1):
        inside = np.flatnonzero((hu > _BODY_HU).any(axis=1 - axis))
        length_mm = hu.shape[axis] * spacing_mm[axis]
        low, high = (inside[0], inside[-1] + 1) if inside.size else (0, hu.shape[axis])
        low_mm, high_mm = low * spacing_mm[axis] - _MARGIN_MM, high * spacing_mm[axis] + _MARGIN_MM
        bounds.append((max(0.0, low_mm), min(length_mm, high_mm)))
    return (bounds[0], bounds[1])


def thinned(label_map: LabelMap, longest: int = _LONGEST_EDGE) -> LabelMap:
    """Every n-th voxel of each axis longer than `longest`; a copy."""
    shape = label_map.labels.shape
    i, j, k = (-(-n // longest) for n in shape)
    labels = label_map.labels[i // 2 :: i, j // 2 :: j, k // 2 :: k].copy()
    geometry = label_map.geometry.scaled((i, j, k), (labels.shape[0], labels.shape[1], labels.shape[2]))
    return LabelMap(labels, Geometry(geometry.shape, geometry.affine))
