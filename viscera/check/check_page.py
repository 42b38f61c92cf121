"""The page of a check: one self-contained index.html, pictures inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from viscera.check.adult_volumes import ADULT_VOLUMES, AdultVolume
from viscera.check.case_pictures import PlacePictures
from viscera.check.check_tables import (
    VolumeCell,
    adult_range,
    capital,
    hu_cell,
    organs_cell,
    shape_cell,
    spacing_cell,
    subject,
    summary,
    title_of,
    volume_cells,
)
from viscera.check.findings import KINDS, CaseCheck, DataSetCheck, Finding, Kind, by_kind
from viscera.core.anatomy import AnatomicalClass, ClassTable
from viscera.drawing.canvas import data_uri
from viscera.drawing.page_environment import page_environment

MOST_PICTURES = 60  # places, of three slices each: about 10 MB
MOST_OF_A_CASE = 4  # of them
MOST_NAMES = 40  # cases that a note lists


@dataclass(frozen=True)
class CaseRow:
    """One line of the tables of cases; `anchor` is where its pictures are, empty where it has none."""

    case: CaseCheck
    anchor: str
    spacing: str
    shape: str
    hu: str
    organs: str
    volumes: tuple[VolumeCell, ...]


@dataclass(frozen=True)
class Place:
    """Pictures of one place: what they show, and for each slice its address, title and text."""

    title: str
    slices: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class SuspiciousCase:
    """One suspicious case: its suspicious findings with their kind, and pictures."""

    case: CaseCheck
    anchor: str
    findings: tuple[tuple[Kind, Finding], ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Group:
    """All findings of one kind.

    Attributes:
        kind: which.
        cases: how many cases it concerns.
        lines: who, and the value; at most 40.
        more: how many are not listed.
    """

    kind: Kind
    cases: int
    lines: tuple[tuple[str, str], ...]
    more: int


def render_check_page(
    check: DataSetCheck, pictures: Mapping[str, Sequence[PlacePictures]], table: ClassTable, version: str
) -> str:
    """The HTML; it opens from disk without a network.

    Args:
        check: what was found.
        pictures: by name of case; cases without one may be missing.
        table: the classes that were looked for.
        version: of viscera.
    """
    findings = check.all_findings()
    suspicious = check.with_verdict("suspicious")
    anchors = {case.case: f"case-{number}" for number, case in enumerate(suspicious, start=1)}
    drawn = sum(len(pictures.get(case.case, ())) for case in suspicious)
    wanted = sum(len({f.at_mm for f in case.findings if f.at_mm is not None}) for case in suspicious)
    environment = page_environment("viscera.check")
    environment.filters["capitalize_first"] = capital
    return environment.get_template("check.html.j2").render(
        check=check,
        of_phantom=" (phantom)" if check.phantom else "",
        summary=summary(check),
        groups=[_group(kind, group) for kind, group in by_kind(findings, "suspicious")],
        notes=[_group(kind, group) for kind, group in by_kind(findings, "note")],
        suspicious=[_suspicious(case, anchors[case.case], pictures.get(case.case, ())) for case in suspicious],
        not_read=check.with_verdict("not read"),
        not_drawn=wanted - drawn,
        rows=[_row(case, anchors.get(case.case, ""), check.classes) for case in check.cases],
        organs=table.organs,
        ranges=_ranges(table.organs),
        adult_range=adult_range,
        title_of=title_of,
        version=version,
    )


def _row(case: CaseCheck, anchor: str, classes: Sequence[str]) -> CaseRow:
    return CaseRow(
        case,
        anchor,
        spacing_cell(case),
        shape_cell(case),
        hu_cell(case),
        organs_cell(case),
        tuple(volume_cells(case, classes)),
    )


def _group(kind: Kind, findings: Sequence[Finding]) -> Group:
    lines = [(subject(finding), finding.value) for finding in findings]
    return Group(kind, len({f.case for f in findings}), tuple(lines[:MOST_NAMES]), max(0, len(lines) - MOST_NAMES))


def _suspicious(case: CaseCheck, anchor: str, pictures: Sequence[PlacePictures]) -> SuspiciousCase:
    groups = by_kind(case.findings, "suspicious")
    findings = tuple((kind, finding) for kind, group in groups for finding in group)
    return SuspiciousCase(case, anchor, findings, tuple(_place(case.case, each) for each in pictures))


def _place(case: str, pictures: PlacePictures) -> Place:
    titles = [
        ": ".join(filter(None, (title_of(finding.organ), KINDS[finding.kind].title))) for finding in pictures.findings
    ]
    title = "; ".join(titles)
    return Place(
        title,
        tuple(
            (data_uri(png, "png"), plane, f"{case}, {title}: {plane} slice with the outlines of the labels")
            for plane, png in pictures.slices
        ),
    )


def _ranges(organs: Sequence[AnatomicalClass]) -> list[tuple[AnatomicalClass, AdultVolume]]:
    return [(organ, ADULT_VOLUMES[organ.name]) for organ in organs if organ.name in ADULT_VOLUMES]
