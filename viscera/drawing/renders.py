"""3D surfaces of label maps: the one door to the mesh renderer (scikit-image's marching cubes, matplotlib's polygons).

Seen from the front and slightly above; the patient's right is on the viewer's left, as in the slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from scipy import ndimage
from skimage.measure import marching_cubes

from viscera.core.anatomy import ABDOMEN, AnatomicalClass, ClassTable
from viscera.core.regions import EMPTY, boxes_of
from viscera.core.scan import LabelMap
from viscera.drawing.canvas import house_style

FloatArray = npt.NDArray[np.float64]
Box3 = npt.NDArray[np.floating[Any]]  # (2, 3) lowest and highest corner, mm
_ELEVATION_DEG, _AZIMUTH_DEG = 14.0, 90.0
_PANEL_IN = (4.0, 3.4)
_VIEWER = np.array([0.0, np.cos(np.radians(_ELEVATION_DEG)), np.sin(np.radians(_ELEVATION_DEG))])
_LIGHT = np.array([0.35, 0.75, 0.55]) / np.linalg.norm([0.35, 0.75, 0.55])  # from front, above, the patient's right
_AMBIENT, _DIFFUSE = 0.45, 0.6
_FINE_EDGE = 64  # maps with shorter edges are interpolated to twice as many voxels
_LARGE_ORGAN_VOXELS = 12_000  # larger ones are meshed with every second voxel
_SMOOTHING_VOXELS = 0.8


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of one organ."""

    colour: str  # sRGB hex
    vertices_mm: FloatArray  # (V, 3) along canonical axes, from the first voxel
    faces: npt.NDArray[np.int32]  # (F, 3) indices of vertices
    normals: FloatArray  # (V, 3) unit length, outwards
    label: int  # of the organ


def surfaces(label_map: LabelMap, classes: ClassTable = ABDOMEN) -> tuple[Surface, ...]:
    """One smooth surface for each organ of a canonical label map; organs without a voxel have none."""
    spacing_mm = np.asarray(label_map.geometry.spacing_mm)
    boxes = boxes_of(label_map.labels, len(classes))[1:]
    return tuple(
        _surface(label_map.labels[box] == organ.label, np.array([s.start for s in box]), spacing_mm, organ)
        for organ, box in zip(classes.organs, boxes, strict=True)
        if box != EMPTY
    )


def common_box(scenes: Sequence[tuple[Surface, ...]]) -> Box3 | None:
    """The box in mm that holds the surfaces of all, so that every panel has the same view; None without any."""
    points = [s.vertices_mm for scene in scenes for s in scene]
    if not points:
        return None
    every = np.concatenate(points)
    return np.array([every.min(axis=0), every.max(axis=0)])


@house_style()
def render_figure(organs: tuple[Surface, ...], box: Box3 | None) -> Figure:
    """One panel of Figures 2-4: the organs in a box (mm); without any it says so."""
    figure = Figure(figsize=_PANEL_IN, facecolor="white")
    if not organs or box is None:
        figure.text(0.5, 0.5, "nothing predicted", ha="center", va="center", size=13, color="#6b7280")
        return figure
    overhang = _PANEL_IN[0] / _PANEL_IN[1] - 1  # 3D axes are square: let them be as wide as the panel
    square = (0.0, -overhang / 2 - 0.03, 1.0, 1 + overhang)
    axes: Any = figure.add_axes(square, projection="3d", computed_zorder=False)
    axes.set_axis_off()
    axes.set_proj_type("ortho")
    axes.view_init(elev=_ELEVATION_DEG, azim=_AZIMUTH_DEG)
    axes.add_collection3d(_polygons(organs))
    low, high = box
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(np.maximum(high - low, 1e-3), zoom=_zoom(high - low))
    for x, side in ((0.04, "R"), (0.96, "L")):
        figure.text(x, 0.93, side, color="#374151", weight="bold", size=12, ha="center", va="center")
    return figure


def _polygons(organs: tuple[Surface, ...]) -> Poly3DCollection:
    """All organs in one collection, so that faces of different organs are sorted by depth together.

    Faces that look away are left out: the surfaces are closed, so that they are hidden anyway.
    """
    triangles, colours = [], []
    for organ in organs:
        normals = organ.normals[organ.faces].mean(axis=1)
        seen = normals @ _VIEWER > -0.2
        brightness = _AMBIENT + _DIFFUSE * np.clip(normals[seen] @ _LIGHT, 0, None)
        triangles.append(organ.vertices_mm[organ.faces[seen]])
        colours.append(np.clip(brightness[:, None] * np.asarray(to_rgb(organ.colour)), 0, 1))
    colours_F3 = np.concatenate(colours)
    return Poly3DCollection(np.concatenate(triangles), facecolors=colours_F3, edgecolors=colours_F3, linewidths=0.3)


def _zoom(size_mm: FloatArray) -> float:
    """The zoom at which the projected box fills the panel but for a margin.

    Matplotlib scales a box so that its diagonal is constant on the screen; 0.84 of that constant was measured to fill
    nine tenths of square axes.
    """
    tilt = np.radians(_ELEVATION_DEG)
    width_mm, depth_mm, height_mm = np.maximum(size_mm, 1e-3)
    seen_height_mm = height_mm * np.cos(tilt) + depth_mm * np.sin(tilt)
    return float(0.84 * np.linalg.norm(size_mm) / max(width_mm, seen_height_mm * _PANEL_IN[0] / _PANEL_IN[1]))


def _surface(
    mask: npt.NDArray[np.bool_], start: npt.NDArray[np.int_], spacing_mm: FloatArray, organ: AnatomicalClass
) -> Surface:
    """Smooth, then take the level that encloses as many voxels as the mask has: thin vessels do not vanish."""
    pad, factor = 3, 2 if max(mask.shape) < _FINE_EDGE else 1
    field = np.pad(mask, pad).astype(np.float32)
    field = ndimage.gaussian_filter(field, _SMOOTHING_VOXELS)
    if factor > 1:
        field = ndimage.zoom(field, factor, order=1, grid_mode=True, mode="grid-constant")
    count = int(mask.sum()) * factor**3
    level = float(np.partition(field.ravel(), -count)[-count])
    level = float(np.clip(level, 0.02 * field.max(), 0.95 * field.max()))
    step = 2 if count > _LARGE_ORGAN_VOXELS else 1
    vertices, faces, normals, _ = marching_cubes(field, level, step_size=step, gradient_direction="descent")
    voxels = (vertices + 0.5) / factor - 0.5 - pad + start
    normals = normals / spacing_mm
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Surface(organ.colour, voxels * spacing_mm, faces, normals, organ.label)
