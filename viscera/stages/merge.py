"""`viscera merge`: tables that parts of a job wrote into folders of their own, as one call would have written them."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from viscera.core.errors import BadInputError
from viscera.io import quarantine
from viscera.io.disk.file_sets import together
from viscera.io.files import refuse_unwritable
from viscera.io.job_parts import difference, parts_path, read_parts
from viscera.io.layouts.dataset_tables import case_name, scan_case_name
from viscera.io.predictions import TABLE as MEASUREMENTS
from viscera.io.predictions import refuse_other_measurements
from viscera.io.records import is_table, read_csv, read_json, validated, write_csv
from viscera.io.reliability_table import NAME as RELIABILITY
from viscera.io.reliability_table import refuse_other_reliability
from viscera.io.remote.mirror_index import remove
from viscera.io.scores import read_scores, refuse_other_scores, refuse_other_summary, write_scores, write_summary
from viscera.io.seals import sum_path
from viscera.metrics.nnunet_summary import CaseMetrics, with_means

log = logging.getLogger(__name__)
_SCORES, _SUMMARY = "scores.csv", "summary.json"
_OF_SCORES = {_SUMMARY, RELIABILITY}  # which belong to the table of scores beside them
_ByCase = dict[str, list[Any]]  # rows, in their order


@dataclass(frozen=True)
class _Kind:
    """One kind of table."""

    name: str  # of the file
    read: Callable[[Path], _ByCase]
    write: Callable[[Path, Sequence[Any]], None]  # rows of all cases, one or more, in the order of the cases
    refuse_other: Callable[[Path], None]  # a file of that name that is none
    columns: Callable[[Any], list[str]] = list  # of a row, which all must have


def merge(parts: Sequence[Path], out: Path) -> list[Path]:
    """Join the tables in the folders `parts` (`scores.csv`, `measurements.csv` …, as `_KINDS` lists them).

    Cases are in the order of their names. A case may stand in several parts where these say the same of it; one that
    was left out in a part and done in another counts as done. Returns the tables that were written into `out`.

    Parts that are missing, as the others know how many there are, are told of in a warning.

    Raises:
        BadInputError: a part without a table, parts of other lists of cases, parts that contradict each other or have
            other columns, or a file in `out` that is no table of that kind. Nothing is written then.
    """
    for part in parts:
        if not any((part / name).exists() for name in NAMES):
            names = ", ".join(kind.name for kind in _KINDS)
            raise BadInputError(f"{part}: none of {names} is in this folder. Give the folders that the parts wrote.")
    if out.resolve() in {part.resolve() for part in parts}:
        raise BadInputError(f"{out}: one of the parts. Give another folder.")
    for command in _SHARDED:
        _refuse_other_lists(parts, command)
    there = {kind: found for kind in _KINDS if (found := [p for part in parts if (p := part / kind.name).exists()])}
    for kind in there:
        kind.refuse_other(out / kind.name)
    joined = {kind.name: _joined(kind, paths) for kind, paths in there.items()}
    if quarantine.NAME in joined:
        done = _done(joined)
        left_out = joined[quarantine.NAME].items()
        joined[quarantine.NAME] = {case: why for case, why in left_out if not {case, scan_case_name(Path(case))} & done}
    refuse_unwritable(out)
    written = []
    with together(out):
        for kind in there:
            rows = [row for _, of_case in sorted(joined[kind.name].items()) for row in of_case]
            if rows:
                kind.write(out / kind.name, rows)
                written.append(out / kind.name)
            else:
                remove(out / kind.name)
        _remove_earlier(out, joined)
    return written


def _remove_earlier(out: Path, joined: Mapping[str, _ByCase]) -> None:
    """Tables of an earlier call do not stay beside those of this one where they say something of the same."""
    if quarantine.NAME not in joined:
        quarantine.refuse_other_quarantine(out)
        remove(out / quarantine.NAME)
    for kind in _KINDS if _SCORES in joined else ():
        if kind.name in _OF_SCORES - joined.keys():
            with suppress(BadInputError):  # a file of that name that is none stays
                kind.refuse_other(out / kind.name)
                remove(out / kind.name)


def _refuse_other_lists(parts: Sequence[Path], command: str) -> None:
    """Raise BadInputError where parts of one job array counted through different lists; warn of those that lack."""
    noted = [(part, found) for part in parts if (found := read_parts(part, command)) is not None]
    for part, found in noted:
        first, other = next(each for each in noted if each[1].total == found.total)
        if found.cases != other.cases:
            raise BadInputError(
                f"{part}: {command} --shard began with another list of cases there than in {first} "
                f"({difference(other.cases, found.cases)}), so that some case would be in no part or in two. Run all "
                "parts again with the same list: what is done is kept."
            )
    for total in {found.total for _, found in noted}:
        lacking = {*range(1, total + 1)} - {
            number for _, found in noted if found.total == total for number in found.done
        }
        if lacking:
            log.warning(
                "%s --shard: of %d parts these are not done, or not given: %s. Their cases are in no table.",
                *(command, total, ", ".join(map(str, sorted(lacking)))),
            )


def _done(joined: Mapping[str, _ByCase]) -> set[str]:
    """The cases that are done: scored, or where nothing is scored, measured."""
    scored = [by_case for name, by_case in joined.items() if name in {_SCORES, _SUMMARY}]
    return {case for by_case in scored or [joined.get(MEASUREMENTS, {})] for case in by_case}


def _joined(kind: _Kind, paths: Iterable[Path]) -> _ByCase:
    """Rows of all parts; refuses those that say different things of one case."""
    joined: _ByCase = {}
    source: dict[str, Path] = {}
    columns: tuple[Path, list[str]] | None = None
    for path in paths:
        by_case = kind.read(path)
        for case, rows in by_case.items():
            own = kind.columns(rows[0])
            columns = columns or (path, own)
            if own != columns[1]:
                raise BadInputError(
                    f"{path}: its columns are not those of {columns[0]}. Make both with the same version and classes."
                )
            if repr(joined.setdefault(case, rows)) != repr(rows):  # NaN is not equal to itself
                raise BadInputError(
                    f"{path}: says something else of {case} than {source[case]}. Give one of them, or make both again."
                )
            source.setdefault(case, path)
    return joined


def _by_case(rows: Iterable[Any], case_of: Callable[[Any], str]) -> _ByCase:
    by_case: _ByCase = {}
    for row in rows:
        by_case.setdefault(case_of(row), []).append(row)
    return by_case


def _write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    header = list(rows[0])
    write_csv(path, header, [[row.get(name, "") for name in header] for row in rows], checksum=True)


def _read_rows(path: Path) -> _ByCase:
    if not is_table(path, ("case",)):
        raise BadInputError(f"{path}: its first column is not the case. Give a table as viscera writes it.")
    return _by_case(read_csv(path), lambda row: row.get("case", ""))


def _read_summary(path: Path) -> _ByCase:
    value = read_json(path)
    cases = value.get("metric_per_case") if isinstance(value, dict) else None
    anew = "nnU-Net's summary was expected: evaluate again."
    cases = validated(list[dict[str, str | dict[str, dict[str, int | float]]]], cases, path, anew)
    for case in cases:
        metrics = case.get("metrics")
        if (
            not isinstance(case.get("prediction_file"), str)
            or not isinstance(metrics, dict)
            or not all(metrics.values())
        ):
            raise BadInputError(f"{path}: damaged (a case without prediction_file or metrics). {anew}")
        if not metrics or {tuple(of) for of in metrics.values()} != {tuple(next(iter(metrics.values())))}:
            raise BadInputError(f"{path}: damaged (labels with different metrics). {anew}")
    return _by_case(cast("list[CaseMetrics]", cases), lambda case: case_name(Path(case["prediction_file"])))


def _labels(entry: CaseMetrics) -> list[str]:
    return [f"{label} {name}" for label, metrics in entry["metrics"].items() for name in metrics]


_KINDS = (
    _Kind(
        _SCORES,
        lambda path: _by_case(read_scores(path), lambda row: row.case),
        write_scores,
        refuse_other_scores,
        lambda _row: [],
    ),
    _Kind(
        _SUMMARY,
        _read_summary,
        lambda path, cases: write_summary(path, with_means(cases)),
        refuse_other_summary,
        _labels,
    ),
    _Kind(RELIABILITY, _read_rows, _write_rows, refuse_other_reliability),
    _Kind(MEASUREMENTS, _read_rows, _write_rows, refuse_other_measurements),
    _Kind(quarantine.NAME, _read_rows, _write_rows, lambda path: quarantine.refuse_other_quarantine(path.parent)),
)
_SHARDED = ("predict", "evaluate")
_TABLES = [kind.name for kind in _KINDS]
NAMES = (
    *_TABLES,
    *(sum_path(Path(name)).name for name in _TABLES),
    *(parts_path(Path(), each).name for each in _SHARDED),
)  # read of the parts
