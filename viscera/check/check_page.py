"""The page of a check: one self-contained index.html; and its pictures, three slices through a suspicious place."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Base64Bytes

from viscera.check.case_facts import ADULT_VOLUMES
from viscera.check.check_tables import adult_range, capital, scan_cells, subject, summary, volume_text
from viscera.check.findings import KINDS, DataSetCheck, Finding, by_kind
from viscera.core.anatomy import ClassTable, title_of
from viscera.core.geometry import Point
from viscera.core.scan import Case
from viscera.core.wording import counted
from viscera.drawing.canvas import data_uri, page_environment, to_bytes
from viscera.drawing.slices import HATCHED_CSS, Backdrop, draw_organs, scan_figure

MOST_PICTURES = 60  # places, of three slices each: about 10 MB
MOST_OF_A_CASE = 4  # of them
_CROSS_MM = (5.0, 14.0)  # where a stroke begins and ends: the place itself stays visible


class Plane(NamedTuple):
    """How one of the three slices is shown; axes are 0 to the right, 1 to the front, 2 up."""

    title: str  # for people
    through: int  # axis at right angles; of the other two the first runs against the picture's width
    sides: tuple[str, str]  # the patient's, at the left and right of the picture


PLANES = (Plane("axial", 2, ("R", "L")), Plane("coronal", 1, ("R", "L")), Plane("sagittal", 0, ("A", "P")))


class PlacePictures(NamedTuple):
    """The pictures of one place of a case."""

    findings: tuple[Finding, ...]  # that they are about
    slices: tuple[tuple[str, Base64Bytes], ...]  # title of the plane and its PNG

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
    asked = (adult_range, by_kind, capital, data_uri, scan_cells, subject, summary, title_of, volume_text)
    environment.filters["counted"] = counted
    environment.globals.update({function.__name__: function for function in asked})
    return environment.get_template("check.html.j2").render(
        check=check,
        suspicious=suspicious,
        anchors={case.case: f"case-{number}" for number, case in enumerate(suspicious, start=1)},
        pictures=pictures,
        not_drawn=wanted - drawn,
        organs=table.organs,
        hatched=HATCHED_CSS,
        ranges=[(organ, ADULT_VOLUMES[organ.name]) for organ in table.organs if organ.name in ADULT_VOLUMES],
        version=version,
    )


def places_of(findings: Sequence[Finding]) -> list[Point]:
    """The places that findings of a case name, in their order."""
    return list(dict.fromkeys(finding.at_mm for finding in findings if finding.at_mm is not None))


def picture_places(case: Case, findings: Sequence[Finding], table: ClassTable, most: int) -> list[PlacePictures]:
    """Draw the places that the findings of a case name, in their order, `most` at the most."""
    pictures = []
    for at_mm in places_of(findings)[:most]:
        here = tuple(finding for finding in findings if finding.at_mm == at_mm)
        organs = {finding.organ for finding in here} - {""}
        slices = [(each.title, to_bytes(plane_figure(case, each, at_mm, table, organs), "png")) for each in PLANES]
        pictures.append(PlacePictures(here, tuple(slices)))
    return pictures


def plane_figure(case: Case, plane: Plane, at_mm: Point, table: ClassTable, organs: set[str]) -> Figure:
    """One slice through a place (RAS+): the scan, the outlines of its organs, a cross.

    Those of `organs` are outlined thickly; without any, all are.
    """
    scan = case.volume.canonical()
    label_map = case.label_map.in_order_of(scan.geometry)
    place = np.linalg.inv(scan.geometry.affine) @ (*at_mm, 1)
    index = [int(np.clip(round(i), 0, n - 1)) for i, n in zip(place[:3], scan.geometry.shape, strict=True)]
    across, up = (axis for axis in range(3) if axis != plane.through)
    spacing_mm = (scan.geometry.spacing_mm[across], scan.geometry.spacing_mm[up])
    hu = np.take(scan.hu, index[plane.through], axis=plane.through).astype(np.float32)
    labels = np.take(label_map.labels, index[plane.through], axis=plane.through)
    figure, axes = scan_figure(Backdrop(hu, spacing_mm), 3.4, 11, plane.sides)
    draw_organs(axes, labels, spacing_mm, {o: 1.8 if o.name in organs or not organs else 0.8 for o in table.organs})
    x, y = ((index[axis] + 0.5) * mm for axis, mm in zip((across, up), spacing_mm, strict=True))
    for near, far in (_CROSS_MM, np.negative(_CROSS_MM)):
        axes.plot([x + near, x + far], [y, y], color="white", linewidth=1.2)
        axes.plot([x, x], [y + near, y + far], color="white", linewidth=1.2)
    return figure
