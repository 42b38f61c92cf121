"""What a check found, as rows for files, and as text for terminals of a hundred columns."""

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from viscera.check.case_facts import ADULT_VOLUMES, CaseFacts, LabelledOrgan
from viscera.check.findings import CaseCheck, DataSetCheck, Finding, by_kind
from viscera.core.anatomy import title_of
from viscera.core.geometry import size_text
from viscera.core.wording import counted

FINDINGS_HEADER = ("case", "organ", "finding", "value", "expected", "level", "x_mm", "y_mm", "z_mm")
_SCAN_HEADER = (
    *("case", "verdict", "reason", "voxels_i", "voxels_j", "voxels_k", "spacing_i_mm", "spacing_j_mm", "spacing_k_mm"),
    *("orientation", "lowest_hu", "highest_hu", "share_of_air", "organs", "image_sha256"),
)
_ORGAN_COLUMNS = ("volume_ml", "mean_hu", "share_in_air", "pieces", "largest_piece", "edges")


def capital(text: str) -> str:
    """With a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def case_table(check: DataSetCheck) -> tuple[tuple[str, ...], list[list[object]]]:
    """Header and lines of `check.csv`; of voxels that nobody labelled there is a column where any case has some."""
    header, rows = case_header(check.classes), [case_row(each, check.classes) for each in check.cases]
    ignored = ["" if each.facts is None else each.facts.ignored for each in check.cases]
    if not any(ignored):
        return header, rows
    return (*header, "ignored_voxels"), [[*row, number] for row, number in zip(rows, ignored, strict=True)]


def case_header(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of every `check.csv`; voxels and spacing run to the right, to the front and up."""
    return (*_SCAN_HEADER, *(f"{name}_{column}" for name in classes for column in _ORGAN_COLUMNS))


def case_row(case: CaseCheck, classes: Sequence[str]) -> list[object]:
    """A line under them; cells are empty where nothing was measured."""
    cells: list[object] = [case.case, case.verdict, case.reason]
    facts = case.facts
    if facts is None:
        return [*cells, *[""] * (len(case_header(classes)) - len(cells))]
    cells += [*facts.shape, *(f"{x:.4g}" for x in facts.spacing_mm), facts.orientation, facts.hu.lowest]
    cells += [facts.hu.highest, round(facts.hu.air, 6), len(facts.organs), facts.image_sha256]
    for name in classes:
        organ = facts.organ(name)
        if organ is None:
            cells += [0 if name in facts.labelled else "", *[""] * (len(_ORGAN_COLUMNS) - 1)]
        else:
            cells += [f"{organ.volume_ml:.3f}", f"{organ.mean_hu:.1f}", round(organ.in_air, 6), organ.pieces]
            cells += [round(organ.largest_piece, 6), organ.edges]
    return cells


def finding_rows(check: DataSetCheck) -> list[tuple[object, ...]]:
    """The lines of `findings.csv`; a case that could not be read is one of them."""
    unread, nowhere = check.with_verdict("not read"), ("", "", "")
    rows: list[tuple[object, ...]] = [
        (case.case, "", "not_read", case.reason, "a scan and its labels", "not read", *nowhere) for case in unread
    ]
    for f in check.all_findings():
        place = nowhere if f.at_mm is None else tuple(f"{x:.1f}" for x in f.at_mm)
        rows.append((f.case, f.organ, f.kind, f.value, f.expected, f.level, *place))
    return rows


def volume_text(facts: CaseFacts, name: str) -> str:
    """An organ's volume in mL; `–` where it is not there, empty where it is not labelled."""
    organ = facts.organ(name)
    if organ is None:
        return "–" if name in facts.labelled else ""
    return f"{organ.volume_ml:.{0 if organ.volume_ml >= 10 else 1}f}"


def adult_range(name: str) -> str:
    """What adults usually have, in mL; `–` where we know none."""
    usual = ADULT_VOLUMES.get(name)
    return "–" if usual is None else f"{usual.low_ml:g}–{usual.high_ml:g}"


def scan_cells(case: CaseCheck) -> tuple[str, ...]:
    """For example `0.98×0.98×2`, `512×512×20`, `LPS`, `-1024 to 1839`, `6 of 7`; empty where it could not be read."""
    facts = case.facts
    if facts is None:
        return ("",) * 5
    return (
        size_text(facts.spacing_mm),
        size_text(facts.shape),
        facts.orientation,
        f"{facts.hu.lowest} to {facts.hu.highest}",
        f"{len(facts.organs)} of {len(facts.labelled)}",
    )


def summary(check: DataSetCheck) -> str:
    """One sentence: how many cases there are of each verdict."""
    words = {"suspicious": "suspicious", "not read": "could not be read", "note": "with notes only", "clean": "clean"}
    parts = [f"{len(cases)} {word}" for verdict, word in words.items() if (cases := check.with_verdict(verdict))]
    return f"{counted(len(check.cases), 'case')}: {', '.join(parts)}."


def subject(finding: Finding) -> str:
    """Case and organ of a finding, as far as it has them."""
    return ", ".join(part for part in (finding.case, title_of(finding.organ)) if part) or "data set"


WIDTH = 100
_MOST_CASES = 60
_MOST_LINES = 12
_MOST_ORGANS = 8
_LONGEST_NAME = 20


def check_text(check: DataSetCheck) -> str:
    """Scans, volumes, what is suspicious and what to do about it, notes."""
    shown = list(check.cases)  # of a large data set what should be looked at
    if len(shown) > _MOST_CASES:
        shown = check.with_verdict("suspicious", "not read")[:_MOST_CASES]
    parts = [_scans(shown)] if shown else []
    if shown and len(check.classes) <= _MOST_ORGANS:
        parts.append(_volumes(shown, check.classes))
    if len(shown) < len(check.cases):
        others = len(check.cases) - len(shown)
        parts.append(f"Not shown here: {counted(others, 'case')} of which nothing is suspicious.")
    parts += [_wrapped(f"Not read: {case.reason}", "") for case in check.with_verdict("not read")]
    findings = check.all_findings()
    parts += [_kind(kind.title, kind.advice, group) for kind, group in by_kind(findings, "suspicious")]
    notes = [f"{capital(kind.title)}: {_named(group)}" for kind, group in by_kind(findings, "note")]
    if notes:
        parts.append("\n".join(["Notes", *(_wrapped(note) for note in notes)]))
    return "\n\n".join([*parts, summary(check)])


def _scans(cases: Sequence[CaseCheck]) -> str:
    rows = [(_short(case.case), case.verdict, *scan_cells(case)) for case in cases]
    headers = ("case", "verdict", "spacing, mm", "voxels", "axes", "HU", "organs")
    align = ("left", "left", "right", "right", "left", "right", "right")
    return tabulate(rows, headers, disable_numparse=True, colalign=align)


def _volumes(cases: Sequence[CaseCheck], classes: Sequence[str]) -> str:
    rows = [("adults", *map(adult_range, classes))]
    for facts in (case.facts for case in cases if case.facts is not None):
        cells = [(volume_text(facts, name), facts.organ(name)) for name in classes]
        rows.append((_short(facts.case), *(f"{'* ' * bool(o and o.unusual)}{text} {_end(o)}" for text, o in cells)))
    headers = ("mL", *(name.replace("_", "\n") for name in classes))
    table = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * len(classes)))
    in_part = "~ labelled in part" if any(case.is_labelled_in_part for case in cases) else ""
    return f"{table}\n* unusual for an adult   / cut off by the edge of the scan   – not there   {in_part}".rstrip()


def _end(organ: LabelledOrgan | None) -> str:
    """A mark of a volume that is not that of the whole organ."""
    return "~" if organ and organ.beside_ignored else "/" if organ and organ.edges else " "


def _kind(title: str, advice: str, findings: Sequence[Finding]) -> str:
    lines = [f"{subject(finding)}: {finding.value} (expected: {finding.expected})" for finding in findings]
    more = [f"and {len(lines) - _MOST_LINES} more in findings.csv"] if len(lines) > _MOST_LINES else []
    return "\n".join([_wrapped(f"{capital(title)}. {advice}", ""), *map(_wrapped, lines[:_MOST_LINES] + more)])


def _named(findings: Sequence[Finding]) -> str:
    """Who: cases with their organs, or the value where no organ is concerned."""
    by_case: dict[str, list[str]] = {}
    for finding in findings:
        by_case.setdefault(finding.case, []).append(title_of(finding.organ) or finding.value)
    names = [f"{case} ({', '.join(what)})" if case else ", ".join(what) for case, what in by_case.items()]
    more = f", and {len(names) - _MOST_LINES} more in findings.csv" if len(names) > _MOST_LINES else ""
    return ", ".join(names[:_MOST_LINES]) + more


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def _short(name: str) -> str:
    """A long name without its middle: data sets count at the end."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
