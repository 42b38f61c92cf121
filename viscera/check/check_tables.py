"""What a check found, as rows: for files, the terminal and the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from viscera.check.adult_volumes import ADULT_VOLUMES
from viscera.check.findings import CaseCheck, DataSetCheck, Finding
from viscera.check.label_findings import unusual_volume

FINDINGS_HEADER = ("case", "organ", "finding", "value", "expected", "level", "x_mm", "y_mm", "z_mm")
_SCAN_HEADER = (
    *("case", "verdict", "reason", "voxels_i", "voxels_j", "voxels_k", "spacing_i_mm", "spacing_j_mm", "spacing_k_mm"),
    *("orientation", "lowest_hu", "highest_hu", "share_of_air", "organs", "image_sha256"),
)
_ORGAN_COLUMNS = ("volume_ml", "mean_hu", "share_in_air", "pieces", "largest_piece", "edges")
_SHARE_DIGITS = 6


@dataclass(frozen=True)
class VolumeCell:
    """One organ's volume in one case.

    Attributes:
        text: in mL; `–` where the organ is not there, empty where it is not labelled.
        unusual: outside the range of adults.
        cut_off: touches the edge of the scan.
    """

    text: str
    unusual: bool = False
    cut_off: bool = False


def title_of(name: str) -> str:
    """The name of a class, for people."""
    return name.replace("_", " ")


def capital(text: str) -> str:
    """With a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def case_header(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of `check.csv`; voxels and spacing run to the right, to the front and up."""
    return (*_SCAN_HEADER, *(f"{name}_{column}" for name in classes for column in _ORGAN_COLUMNS))


def case_rows(check: DataSetCheck) -> list[tuple[object, ...]]:
    """The lines of `check.csv`; cells are empty where nothing was measured."""
    return [_case_row(case, check.classes) for case in check.cases]


def _case_row(case: CaseCheck, classes: Sequence[str]) -> tuple[object, ...]:
    start = (case.case, case.verdict, case.reason)
    facts = case.facts
    if facts is None:
        return (*start, *[""] * (len(case_header(classes)) - len(start)))
    cells: list[object] = [*start, *facts.shape, *(f"{x:.4g}" for x in facts.spacing_mm), facts.orientation]
    cells += [facts.hu.lowest, facts.hu.highest, round(facts.hu.air, _SHARE_DIGITS), len(facts.organs)]
    cells.append(facts.image_sha256)
    for name in classes:
        organ = facts.organ(name)
        if organ is None:
            cells += [0 if name in facts.labelled else "", *[""] * (len(_ORGAN_COLUMNS) - 1)]
        else:
            cells += [f"{organ.volume_ml:.3f}", f"{organ.mean_hu:.1f}", round(organ.in_air, _SHARE_DIGITS)]
            cells += [organ.pieces, round(organ.largest_piece, _SHARE_DIGITS), organ.edges]
    return tuple(cells)


def finding_rows(check: DataSetCheck) -> list[tuple[object, ...]]:
    """The lines of `findings.csv`; a case that could not be read is one of them."""
    not_read = [
        (case.case, "", "not_read", case.reason, "a scan and its labels", "not read", "", "", "")
        for case in check.with_verdict("not read")
    ]
    return [*not_read, *(_finding_row(finding) for finding in check.all_findings())]


def _finding_row(finding: Finding) -> tuple[object, ...]:
    place = ("", "", "") if finding.at_mm is None else tuple(f"{x:.1f}" for x in finding.at_mm)
    return (finding.case, finding.organ, finding.kind, finding.value, finding.expected, finding.level, *place)


def volume_cells(case: CaseCheck, classes: Sequence[str]) -> list[VolumeCell]:
    """Volumes of a case, one a class."""
    facts = case.facts
    if facts is None:
        return [VolumeCell("") for _ in classes]
    cells = []
    for name in classes:
        organ = facts.organ(name)
        if organ is None:
            cells.append(VolumeCell("–" if name in facts.labelled else ""))
        else:
            digits = 0 if organ.volume_ml >= 10 else 1
            cells.append(VolumeCell(f"{organ.volume_ml:.{digits}f}", bool(unusual_volume(organ)), bool(organ.edges)))
    return cells


def adult_range(name: str) -> str:
    """What adults usually have, in mL; `–` where we know none."""
    usual = ADULT_VOLUMES.get(name)
    return "–" if usual is None else f"{usual.low_ml:g}–{usual.high_ml:g}"


def spacing_cell(case: CaseCheck) -> str:
    """For example `0.98×0.98×2`."""
    return "" if case.facts is None else "×".join(f"{x:.3g}" for x in case.facts.spacing_mm)


def shape_cell(case: CaseCheck) -> str:
    """For example `512×512×20`."""
    return "" if case.facts is None else "×".join(map(str, case.facts.shape))


def hu_cell(case: CaseCheck) -> str:
    """For example `-1024 to 1839`."""
    return "" if case.facts is None else f"{case.facts.hu.lowest} to {case.facts.hu.highest}"


def organs_cell(case: CaseCheck) -> str:
    """For example `6 of 7`."""
    return "" if case.facts is None else f"{len(case.facts.organs)} of {len(case.facts.labelled)}"


def summary(check: DataSetCheck) -> str:
    """One sentence: how many cases there are of each verdict."""
    counts = {verdict: len(check.with_verdict(verdict)) for verdict in ("suspicious", "not read", "note", "clean")}
    words = {"suspicious": "suspicious", "not read": "could not be read", "note": "with notes only", "clean": "clean"}
    parts = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
    return f"{len(check.cases)} {'case' if len(check.cases) == 1 else 'cases'}: {', '.join(parts)}."


def subject(finding: Finding) -> str:
    """Case and organ of a finding, as far as it has them."""
    return ", ".join(part for part in (finding.case, title_of(finding.organ)) if part) or "data set"
