"""The page of a check: one self-contained index.html; and its pictures, three slices through a suspicious place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viscera.check.adult_volumes import ADULT_VOLUMES
from viscera.check.case_facts import Point
from viscera.check.check_tables import adult_range, capital, scan_cells, subject, summary, volume_cells
from viscera.check.findings import KINDS, DataSetCheck, Finding, by_kind
from viscera.core.anatomy import ClassTable, title_of
from viscera.core.geometry import AxisOrder
from viscera.core.scan import Case, LabelArray
from viscera.drawing.canvas import data_uri, house_style, page_environment, to_bytes
from viscera.drawing.slices import Backdrop, body_box_mm, draw_scan

MOST_PICTURES = 60  # places, of three slices each: about 10 MB
MOST_OF_A_CASE = 4  # of them
MOST_NAMES = 40  # cases that a note lists
_WIDTH_IN = 3.4
_CROSS_MM = (5.0, 14.0)


@dataclass(frozen=True)
class Plane:
    """How one of the three slices is shown; axes are 0 to the right, 1 to the front, 2 up."""

    title: str  # for people
    across: int  # axis along the picture's width
    up: int  # axis along its height
    left: str  # of the picture, in the patient's letters; the first axis runs against the picture's width
    right: str

    @property
    def through(self) -> int:
        """The axis at right angles to the slice."""
        return 3 - self.across - self.up


PLANES = (Plane("axial", 0, 1, "R", "L"), Plane("coronal", 0, 2, "R", "L"), Plane("sagittal", 1, 2, "A", "P"))


class PlacePictures(NamedTuple):
    """The pictures of one place of a case."""

    findings: tuple[Finding, ...]  # that they are about
    slices: tuple[tuple[str, bytes], ...]  # title of the plane and its PNG

    @property
    def title(self) -> str:
        """What they are about, for people."""
        titles = (": ".join(filter(None, (title_of(f.organ), KINDS[f.kind].title))) for f in self.findings)
        return "; ".join(titles)


def render_check_page(
    check: DataSetCheck, pictures: Mapping[str, Sequence[PlacePictures]], table: ClassTable, version: str
) -> str:
    """The HTML, which opens from disk without a network; `pictures` are by case, and may be missing."""
    suspicious = check.with_verdict("suspicious")
    drawn = sum(len(pictures.get(case.case, ())) for case in suspicious)
    wanted = sum(len({f.at_mm for f in case.findings if f.at_mm is not None}) for case in suspicious)
    environment = page_environment("viscera.check")
    environment.filters["capitalize_first"] = capital
    asked = (adult_range, by_kind, data_uri, scan_cells, subject, summary, title_of, volume_cells)
    environment.globals.update({function.__name__: function for function in asked})
    return environment.get_template("check.html.j2").render(
        check=check,
        suspicious=suspicious,
        anchors={case.case: f"case-{number}" for number, case in enumerate(suspicious, start=1)},
        pictures=pictures,
        not_drawn=wanted - drawn,
        organs=table.organs,
        ranges=[(organ, ADULT_VOLUMES[organ.name]) for organ in table.organs if organ.name in ADULT_VOLUMES],
        most_names=MOST_NAMES,
        version=version,
    )


def picture_places(case: Case, findings: Sequence[Finding], table: ClassTable, most: int) -> list[PlacePictures]:
    """Draw the places that the findings of a case name, in their order, `most` at the most."""
    places = list(dict.fromkeys(finding.at_mm for finding in findings if finding.at_mm is not None))[:most]
    pictures = []
    for at_mm in places:
        here = tuple(finding for finding in findings if finding.at_mm == at_mm)
        organs = {finding.organ for finding in here} - {""}
        slices = [(each.title, to_bytes(plane_figure(case, each, at_mm, table, organs), "png")) for each in PLANES]
        pictures.append(PlacePictures(here, tuple(slices)))
    return pictures


def plane_figure(case: Case, plane: Plane, at_mm: Point, table: ClassTable, organs: set[str]) -> Figure:
    """One slice through a place (RAS+): the scan, the outlines of its organs, a cross.

    Those of `organs` are outlined thickly; without any, all are.
    """
    order = AxisOrder.to_canonical(case.volume.geometry)
    geometry = order.apply_to_geometry(case.volume.geometry)
    place = np.linalg.inv(geometry.affine) @ (*at_mm, 1)
    index = [int(np.clip(round(i), 0, n - 1)) for i, n in zip(place[:3], geometry.shape, strict=True)]
    spacing_mm = (geometry.spacing_mm[plane.across], geometry.spacing_mm[plane.up])
    hu = np.take(order.apply(case.volume.hu), index[plane.through], axis=plane.through).astype(np.float32)
    labels = np.take(order.apply(case.label_map.labels), index[plane.through], axis=plane.through)
    scan = Backdrop(hu, spacing_mm, body_box_mm(hu, spacing_mm))
    (low, high), vertical = scan.view_mm
    with house_style():
        height_in = min(2 * _WIDTH_IN, _WIDTH_IN * (vertical[1] - vertical[0]) / (high - low))
        figure = Figure(figsize=(_WIDTH_IN, height_in), facecolor="black")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        draw_scan(axes, scan)
        _outline(axes, labels, spacing_mm, table, organs)
        _cross(axes, [(index[axis] + 0.5) * mm for axis, mm in zip((plane.across, plane.up), spacing_mm, strict=True)])
        axes.set_xlim(high, low)
        axes.set_ylim(vertical)
        axes.set_aspect("equal")
        for x, side in ((0.03, plane.left), (0.97, plane.right)):
            axes.text(
                x, 0.5, side, transform=axes.transAxes, color="white", weight="bold", size=11, ha="center", va="center"
            )
    return figure


def _outline(
    axes: Axes, labels_IJ: LabelArray, spacing_mm: tuple[float, float], table: ClassTable, organs: set[str]
) -> None:
    padded = np.pad(labels_IJ, 1)
    across_mm = (np.arange(padded.shape[0]) - 0.5) * spacing_mm[0]
    up_mm = (np.arange(padded.shape[1]) - 0.5) * spacing_mm[1]
    for organ in table.organs:
        mask = (padded == organ.label).T.astype(np.float32)
        if mask.any():
            width = 1.8 if organ.name in organs or not organs else 0.8
            axes.contour(across_mm, up_mm, mask, levels=[0.5], colors=[organ.colour], linewidths=width)


def _cross(axes: Axes, centre_mm: Sequence[float]) -> None:
    """Four strokes around the place, which itself stays visible."""
    x, y = centre_mm
    for sign in (-1, 1):
        near, far = (sign * mm for mm in _CROSS_MM)
        axes.plot([x + near, x + far], [y, y], color="white", linewidth=1.2)
        axes.plot([x, x], [y + near, y + far], color="white", linewidth=1.2)
