"""`viscera check`: what a labelled data set looks like, before anyone trains on it."""

from dataclasses import replace
from pathlib import Path

import viscera
from viscera.check.case_facts import measure_case
from viscera.check.check_page import MOST_OF_A_CASE, MOST_PICTURES, PlacePictures, picture_places, render_check_page
from viscera.check.check_tables import FINDINGS_HEADER, case_header, case_row, finding_rows
from viscera.check.finding_rules import findings_beside_others, findings_of_the_set, label_findings, scan_findings
from viscera.check.findings import CaseCheck, DataSetCheck
from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError, CaseBarrier, DefectError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.io.classes import ClassFile
from viscera.io.files import is_occupied, refuse_unwritable, write_text
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import dataset_title
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.records import is_table, write_csv

CASES, FINDINGS, PAGE = "check.csv", "findings.csv", "index.html"


def check(
    source: Path,
    out: Path,
    *,
    layout: str = "auto",
    classes: ClassFile | None = None,
    progress: OnProgress = unseen,
) -> DataSetCheck:
    """Read every case of a labelled data set once, say what is suspicious, and write tables and a page into `out`.

    The data set may lack some of the classes, by default the paper's eight. `progress` is called before each case.
    Raises BadInputError for no labelled data set, and for an `out` of something else; unread cases are no error.
    """
    if is_occupied(out) and not ((out / FINDINGS).is_file() and is_table(out / FINDINGS, FINDINGS_HEADER)):
        raise BadInputError(f"{out}: holds something that no check wrote. Give another folder with --out.")
    table, numbers = (classes.table, classes.numbers) if classes else (ABDOMEN, None)
    sources = find_cases(source, layout, table=table, partial=True, numbers=numbers)
    refuse_unwritable(out)
    pictures: dict[str, list[PlacePictures]] = {}
    cases = {}
    barrier = CaseBarrier()
    for done, case in enumerate(sources):
        progress(Progress("check", done, len(sources), case.name))
        left = MOST_PICTURES - sum(map(len, pictures.values()))
        with barrier.around(case.name):
            cases[case.name], pictures[case.name] = _look_at(case, table, min(left, MOST_OF_A_CASE))
    for name, error in barrier.left_out.items():
        cases[name] = CaseCheck(name, None, str(error), defect=isinstance(error, DefectError))
    progress(Progress("check", len(sources), len(sources)))
    facts = [found for each in sources if (found := cases[each.name].facts) is not None]
    for finding in findings_beside_others(facts):
        so_far = cases[finding.case]
        cases[finding.case] = replace(so_far, findings=(*so_far.findings, finding))
    organs, of_the_set = table.names[1:], tuple(findings_of_the_set(facts, table.names[1:]))
    checked = DataSetCheck(dataset_title(source), organs, tuple(cases[each.name] for each in sources), of_the_set)
    write_csv(out / CASES, case_header(organs), [case_row(each, organs) for each in checked.cases])
    write_csv(out / FINDINGS, FINDINGS_HEADER, finding_rows(checked))
    write_text(out / PAGE, render_check_page(checked, pictures, table, viscera.__version__))
    return checked


def refuse_unread(check: DataSetCheck, out: Path) -> None:
    """Raise BadInputError if there were cases that could not be read, or DefectError; findings are no error."""
    unread = check.with_verdict("not read")
    defects = [case for case in unread if case.defect]
    if unread:
        kind = DefectError if defects else BadInputError
        raise kind(
            f"{len(unread)} of {len(check.cases)} cases could not be read (reasons in {out / CASES}); the others were "
            f"looked at. The first: {(defects or unread)[0].reason}"
        )


def _look_at(source: CaseSource, table: ClassTable, most_pictures: int) -> tuple[CaseCheck, list[PlacePictures]]:
    case = source.read()
    facts = measure_case(case, table)
    findings = (*scan_findings(facts), *label_findings(facts))
    suspicious = [finding for finding in findings if finding.level == "suspicious"]
    return CaseCheck(case.name, facts, findings=findings), picture_places(case, suspicious, table, most_pictures)
