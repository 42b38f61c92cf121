"""A check of a data set as text, for terminals of a hundred columns."""

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

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
from viscera.check.findings import CaseCheck, DataSetCheck, Finding, by_kind

WIDTH = 100
_MOST_CASES = 60
_MOST_LINES = 12
_MOST_ORGANS = 8
_LONGEST_NAME = 20


def check_text(check: DataSetCheck) -> str:
    """Scans, volumes, what is suspicious and what to do about it, notes."""
    shown = _shown(check)
    parts = [_scans(shown)] if shown else []
    if shown and len(check.classes) <= _MOST_ORGANS:
        parts.append(_volumes(shown, check.classes))
    if len(shown) < len(check.cases):
        parts.append(f"{len(check.cases) - len(shown)} cases of which nothing is suspicious are not shown here.")
    parts += [_not_read(case) for case in check.with_verdict("not read")]
    findings = check.all_findings()
    parts += [_kind(kind.title, kind.advice, group) for kind, group in by_kind(findings, "suspicious")]
    notes = [f"{capital(kind.title)}: {_named(group)}" for kind, group in by_kind(findings, "note")]
    if notes:
        parts.append("\n".join(["Notes", *(_wrapped(note) for note in notes)]))
    return "\n\n".join([*parts, summary(check)])


def _shown(check: DataSetCheck) -> list[CaseCheck]:
    """All of a small data set; of a large one what should be looked at."""
    if len(check.cases) <= _MOST_CASES:
        return list(check.cases)
    return check.with_verdict("suspicious", "not read")[:_MOST_CASES]


def _scans(cases: Sequence[CaseCheck]) -> str:
    rows = [
        (
            _short(case.case),
            case.verdict,
            spacing_cell(case),
            shape_cell(case),
            case.facts.orientation if case.facts else "",
            hu_cell(case),
            organs_cell(case),
        )
        for case in cases
    ]
    headers = ("case", "verdict", "spacing, mm", "voxels", "axes", "HU", "organs")
    align = ("left", "left", "right", "right", "left", "right", "right")
    return tabulate(rows, headers, disable_numparse=True, colalign=align)


def _volumes(cases: Sequence[CaseCheck], classes: Sequence[str]) -> str:
    read = [case for case in cases if case.facts is not None]
    usual = ("adults", *(adult_range(name) for name in classes))
    rows = [usual, *((_short(case.case), *map(_cell, volume_cells(case, classes))) for case in read)]
    headers = ("mL", *(name.replace("_", "\n") for name in classes))
    table = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * len(classes)))
    return f"{table}\n* unusual for an adult   / cut off by the edge of the scan   – not there"


def _cell(cell: VolumeCell) -> str:
    return f"{'* ' if cell.unusual else ''}{cell.text}{' /' if cell.cut_off else '  '}"


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


def _not_read(case: CaseCheck) -> str:
    return _wrapped(f"Not read: {case.reason}", "")


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def _short(name: str) -> str:
    """A long name without its middle: data sets count at the end."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
