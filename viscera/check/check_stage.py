"""`viscera check`: what a labelled data set looks like, before anyone trains on it."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial as partial_of
from pathlib import Path
from typing import NamedTuple

import viscera
from viscera.check.case_facts import measure_case
from viscera.check.check_page import (
    MOST_OF_A_CASE,
    MOST_PICTURES,
    PlacePictures,
    picture_places,
    places_of,
    render_check_page,
)
from viscera.check.check_parts import (
    CheckPart,
    data_set_of,
    drop_pictures,
    has_parts,
    read_parts,
    remove_parts,
    write_part,
)
from viscera.check.check_tables import FINDINGS_HEADER, case_table, finding_rows
from viscera.check.finding_rules import findings_beside_others, findings_of_the_set, label_findings, scan_findings
from viscera.check.findings import CaseCheck, DataSetCheck, Finding
from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError, CaseBarrier, DefectError
from viscera.core.processes import Spread, for_each, watched
from viscera.core.progress import OnProgress, unseen
from viscera.core.shard import Shard
from viscera.core.wording import counted
from viscera.io.classes import ClassFile
from viscera.io.disk.file_sets import finish, together
from viscera.io.disk.folder_lock import TURN_S, exclusive
from viscera.io.files import is_occupied, refuse_unwritable, write_text
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import dataset_title
from viscera.io.layouts.labelled_cases import find_cases, names_of_no_class
from viscera.io.pseudonyms import Pseudonyms, pseudonymous
from viscera.io.records import is_table, write_csv
from viscera.io.remote.mirror_index import with_addresses

CASES, FINDINGS, PAGE = "check.csv", "findings.csv", "index.html"


def check(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    source: Path,
    out: Path,
    *,
    layout: str = "auto",
    classes: ClassFile | None = None,
    pseudonyms: Path | None = None,  # key file, see `io.pseudonyms`: no name of a case, file or folder is told
    jobs: int = 1,  # processes that work at the same time, where the machine allows several
    spread: Spread | None = None,  # over other machines instead, which reach the same files
    shard: Shard | None = None,  # this part of the cases alone; whichever part ends last writes tables and page
    progress: OnProgress = unseen,  # called before each case, or with several `jobs` after it; and at the end
) -> DataSetCheck:
    """Read the cases of a labelled data set, say what is suspicious, and write tables and a page into `out`.

    The data set may lack some of the classes, by default the paper's eight. Raises BadInputError for no labelled data
    set, and for an `out` of something else; unread cases are no error.
    """
    finish(out)
    is_ours = (out / FINDINGS).is_file() and is_table(out / FINDINGS, FINDINGS_HEADER)
    if is_occupied(out) and not is_ours and not has_parts(out):
        raise BadInputError(f"{out}: holds something that no check wrote. Give another folder with --out.")
    if spread is not None:  # other machines stand elsewhere
        source = source.absolute()
    table, numbers = (classes.table, classes.numbers) if classes else (ABDOMEN, None)
    keys = Pseudonyms.open(pseudonyms, [out]) if pseudonyms is not None else None
    with pseudonymous(keys, source), contextlib.ExitStack() as held:
        sources = find_cases(source, layout, table=table, partial=True, numbers=numbers)
        sources = keys.of_cases(sources) if keys else sources
        refuse_unwritable(out)
        if spread is None and jobs > 1:
            spread = partial_of(for_each, jobs=jobs)
        found = _looked_at(shard.of(sources) if shard else sources, table, spread, progress)
        found = _told(found, keys) if keys else found
        title, organs = dataset_title(source, or_folder=keys is None) or "a data set", table.names[1:]
        strangers = names_of_no_class(source, layout, table, numbers)
        held.enter_context(exclusive(out, wait_s=TURN_S))
        if shard is None:
            remove_parts(out)
            return _concluded(found, title, table, out, strangers)
        data_set = data_set_of(sources, table.names)
        write_part(out, shard, CheckPart(data_set, found.cases, found.pictures))
        parts = read_parts(out, shard.total, data_set)
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            return DataSetCheck(title, organs, found.cases, parts_missing=len(parts) - len(there))
        found = _joined(there, sources, table, spread or partial_of(for_each, jobs=1), progress)
        checked = _concluded(found, title, table, out, strangers)
        drop_pictures(out, there, found.pictures)
        return checked


def _told(found: "_Found", keys: Pseudonyms) -> "_Found":
    """Without names of files in the reasons why cases were not read."""
    return found._replace(cases=tuple(replace(case, reason=keys.told(case.reason)) for case in found.cases))


def refused_by_prepare(
    source: Path, layout: str = "auto", classes: ClassFile | None = None, pseudonyms: Path | None = None
) -> list[str]:
    """What `viscera prepare` will refuse without --partial, by its own rules: the data set, or single cases of it."""
    table, numbers = (classes.table, classes.numbers) if classes else (ABDOMEN, None)
    if pseudonyms is not None:
        keys = Pseudonyms.open(pseudonyms)
        with pseudonymous(keys, source):
            keys.of_cases(find_cases(source, layout, table=table, partial=True, numbers=numbers))
            return [keys.told(each) for each in refused_by_prepare(source, layout, classes)]
    taken = {case.name: case for case in find_cases(source, layout, table=table, partial=True, numbers=numbers)}
    try:
        strict = find_cases(source, layout, table=table, partial=False, numbers=numbers)
    except BadInputError as error:
        return [str(error)]
    return [case.refusal for case in strict if case.refusal and not taken[case.name].refusal]


def refuse_unread(check: DataSetCheck, out: Path, shard: Shard | None = None) -> None:
    """Raise BadInputError if there were cases that could not be read, or DefectError; findings are no error.

    Of a part of a job array its own cases count, also where it ended last and the check is of all.
    """
    cases = check.cases if shard is None or check.parts_missing else shard.of(check.cases)
    unread = [case for case in cases if case.verdict == "not read"]
    defects = [case for case in unread if case.defect]
    if unread:
        kind = DefectError if defects else BadInputError
        others = "; the others were looked at" if len(unread) < len(cases) else ""
        listed_in = f"{out / CASES}{' once all parts are done' if check.parts_missing else ''}"
        raise kind(
            f"{len(unread)} of {counted(len(cases), 'case')} could not be read (reasons in {listed_in}){others}. "
            f"The first: {(defects or unread)[0].reason}"
        )


class _Found(NamedTuple):
    """Cases in order, not yet compared with each other, and the pictures of those that the page has room for."""

    cases: tuple[CaseCheck, ...]
    pictures: dict[str, list[PlacePictures]]


def _looked_at(sources: Sequence[CaseSource], table: ClassTable, spread: Spread | None, progress: OnProgress) -> _Found:
    """What each case is by itself; in one process it is read once, else those that are drawn are read again."""
    names, look = [source.name for source in sources], partial_of(_look_at, table)
    pictures: dict[str, list[PlacePictures]] = {}
    if spread is None:
        checks = []
        # how much room is left is known when a case is read
        outcomes = (look((source, _room(pictures))) for source in sources)
        for check, drawn in watched("check", names, outcomes, lambda found: found[0].case, progress, in_order=True):
            checks.append(check)
            pictures[check.case] = drawn
        return _Found(tuple(checks), pictures)
    with closing(spread(look, [(source, 0) for source in sources])) as unordered:
        seen = watched("check", names, unordered, lambda found: found[0].case, progress, in_order=False)
        by_name = {check.case: check for check, _ in seen}
    cases = tuple(by_name[name] for name in names)
    return _Found(cases, _drawn(sources, cases, {}, table, spread, progress))


def _drawn(
    sources: Sequence[CaseSource],
    cases: Sequence[CaseCheck],
    before: Mapping[str, list[PlacePictures]],
    table: ClassTable,
    spread: Spread,
    progress: OnProgress,
) -> dict[str, list[PlacePictures]]:
    """The pictures that the page has room for, by case; where `before` has too few of a case, it is read again."""
    room, items, pictures = MOST_PICTURES, list[tuple[CaseSource, list[Finding], int]](), {}
    for source, case in zip(sources, cases, strict=True):
        suspicious = _suspicious(case.findings)
        most = min(len(places_of(suspicious)), MOST_OF_A_CASE, room)
        room -= most
        pictures[case.case] = before.get(case.case, [])[:most]
        if len(pictures[case.case]) < most:
            items.append((source, suspicious, most))
    drawn_of = [source.name for source, *_ in items]
    with closing(spread(partial_of(_draw, table), items)) as unordered:
        pictures |= watched("draw", drawn_of, unordered, lambda found: found[0], progress, in_order=False)
    return pictures


def _room(pictures: dict[str, list[PlacePictures]]) -> int:
    return min(MOST_PICTURES - sum(map(len, pictures.values())), MOST_OF_A_CASE)


def _suspicious(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "suspicious"]


def _look_at(table: ClassTable, item: tuple[CaseSource, int]) -> tuple[CaseCheck, list[PlacePictures]]:
    """Measure one case, in whichever process, and draw so many of its places."""
    source, most_pictures = item
    barrier, found, pictures = CaseBarrier(), CaseCheck(source.name, None), list[PlacePictures]()
    with barrier.around(source.name):
        case = source.read()
        facts = measure_case(case, table)
        findings = (*scan_findings(facts), *label_findings(facts))
        pictures = picture_places(case, _suspicious(findings), table, most_pictures)
        found = CaseCheck(source.name, facts, findings=findings)
    error = barrier.left_out.get(source.name)
    if error is not None:
        found = CaseCheck(source.name, None, with_addresses(str(error)), defect=isinstance(error, DefectError))
    return found, pictures


def _draw(table: ClassTable, item: tuple[CaseSource, list[Finding], int]) -> tuple[str, list[PlacePictures]]:
    """Draw so many places of one case; none where it cannot be read any more."""
    (source, findings, most), pictures = item, list[PlacePictures]()
    with CaseBarrier().around(source.name):
        pictures = picture_places(source.read(), findings, table, most)
    return source.name, pictures


def _joined(
    parts: Sequence[CheckPart], sources: Sequence[CaseSource], table: ClassTable, spread: Spread, progress: OnProgress
) -> _Found:
    """All parts in the order of the whole, with the pictures that it would have alone.

    Parts keep those that an earlier page had. Where one of them was checked again since, and has fewer, there is room
    for others.
    """
    cases = tuple(parts[at % len(parts)].cases[at // len(parts)] for at in range(len(sources)))
    kept = {case: places for part in parts for case, places in part.pictures.items()}
    return _Found(cases, _drawn(sources, cases, kept, table, spread, progress))


def _concluded(found: _Found, title: str, table: ClassTable, out: Path, strangers: Sequence[str]) -> DataSetCheck:
    """Compare all cases with each other, and write tables and page."""
    facts = [case.facts for case in found.cases if case.facts is not None]
    beside: dict[str, list[Finding]] = {}
    for finding in findings_beside_others(facts):
        beside.setdefault(finding.case, []).append(finding)
    cases = tuple(replace(case, findings=(*case.findings, *beside.get(case.case, ()))) for case in found.cases)
    organs = table.names[1:]
    checked = DataSetCheck(title, organs, cases, tuple(findings_of_the_set(facts, organs, strangers)))
    with together(out):
        write_csv(out / CASES, *case_table(checked))
        write_csv(out / FINDINGS, FINDINGS_HEADER, finding_rows(checked))
        write_text(out / PAGE, render_check_page(checked, found.pictures, table, viscera.__version__))
    return checked
