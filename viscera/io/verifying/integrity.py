"""Every file of an artifact against its checksum: what is looked at, and what mends a file that is damaged.

A folder is a store, an export, or holds files that say themselves what they are (`io.seals`); folders in it are looked
at as well. Hidden files, which are of a process that works there, and reports, which can be made again, are not.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_file_name
from viscera.io.disk.file_sets import notes_in, read_note
from viscera.io.predictions import TABLE as MEASUREMENTS
from viscera.io.predictions import known_checksums, read_record
from viscera.io.quarantine import NAME as QUARANTINE
from viscera.io.records import read_csv, read_yaml
from viscera.io.remote.mirror_index import Seen
from viscera.io.runlog import RunFolder
from viscera.io.seals import Seal, sum_path, table_seal
from viscera.io.verifying.file_judgement import (
    LOOKS,
    Check,
    Checked,
    card_fits,
    export_fits,
    has_digest,
    is_there,
    manifest_fits,
    parsed,
    record_fits,
    sum_fits,
    table_fits,
    unreadable,
)
from viscera.io.verifying.named_files import named_files, part
from viscera.io.verifying.path_kinds import SEVERAL, TITLES, Kind, what_is
from viscera.io.verifying.remedies import HISTORY, REPORT

EXPORT = "export.json"
FOREIGN: frozenset[Kind] = frozenset({"data set", "images", "labels", "scans"})


def checks_of(path: Path) -> list[Check]:
    """All checks of a store, run, study, export or folder of predictions, or of one file of them.

    Raises BadInputError where nothing of them is there.
    """
    if path.is_dir():
        found = list(_of_folder(path))
    else:
        whole = (folder for folder in path.parents[:3] if folder.is_dir())  # of a case the store
        found = [check for folder in whole for check in _of_folder(folder, deep=False) if check.path == path]
    if not found:
        raise nothing_to_verify(path)
    once: dict[Path, Check] = {}
    for check in found:  # what names a file knows its checksum, and comes before the file itself
        once.setdefault(check.path, check)
    return list(once.values())


def nothing_to_verify(path: Path) -> BadInputError:
    """What is said of what viscera did not write."""
    there, what = what_is(path), "there is nothing here that viscera wrote"
    if there is not None and there.kind in FOREIGN:
        this_is = "these are" if there.kind in SEVERAL else "this is"
        what = f"{this_is} {TITLES[there.kind]}; viscera keeps no checksum of that, so nothing can be verified"
    return BadInputError(f"{path}: {what}. Give a store, a run, a study, an export, or a folder of predictions.")


def _of_folder(folder: Path, seen: set[Path] | None = None, *, deep: bool = True) -> Iterator[Check]:
    """Of a folder, and, if `deep`, of those in it that were not `seen`, as links can lead round in circles."""
    seen = set() if seen is None else seen
    seen.add(folder.resolve())
    try:
        within = sorted(folder.iterdir())
    except OSError as error:
        yield Check(folder, partial(unreadable, error=error))
        return
    for note in notes_in(folder):
        yield from _of_note(note)
    if (folder / "manifest.json").exists():
        yield from _of_store(folder)
    elif (folder / EXPORT).exists():
        yield from _of_export(folder)
    else:
        files = [path for path in within if path.is_file() and not path.name.startswith(".")]
        yield from _of_corrections(folder, files if folder.name == HISTORY else ())
        yield from _of_files(folder, files)
        for each in within if deep else ():
            is_ours = not each.name.startswith(".") and each.name != REPORT
            if is_ours and each.is_dir() and each.resolve() not in seen:
                yield from _of_folder(each, seen)


def _of_note(note: Path) -> Iterator[Check]:
    """The files that a command was stopped before it had named."""

    def look(path: Path) -> Checked:
        if not note.exists():  # a command at work has just finished it
            return is_there(path)
        why = "a command was stopped before it had given all its files their names"
        return Checked(path, "unfinished", why, "Nothing is lost: run the same command again, which finishes that.")

    try:
        yield from (Check(path, look, note.parent) for path in read_note(note))
    except BadInputError as error:
        why, _, what_to_do = str(error).removeprefix(f"{note}: ").partition(". ")
        found = Checked(note, "damaged", why, what_to_do)
        yield Check(note, lambda _: found, note.parent)


def _of_files(folder: Path, files: Sequence[Path]) -> Iterator[Check]:
    """Those of a run, a study, predictions or an evaluation, by their names and what they say of others."""
    run = RunFolder(folder)
    if any(path.exists() for path in (run.last, run.best, run.status_path, run.curve_path)):
        yield from (Check(path, is_there, folder) for path in _of_a_finished(run) if not path.exists())
    if run.fusion.exists():
        yield from _of_fused(run)
    for path in files:
        look = table_fits if sum_path(path).exists() else LOOKS.get(path.name) or LOOKS.get(path.suffix)
        if path.suffix == ".json" and path.name not in LOOKS and (written := read_record(path)):
            yield Check(path, record_fits, folder)
            for output, known in known_checksums(path, written).items():
                yield Check(output, has_digest(known, partial(_known_now, path, output)), folder)
        elif look is not None:
            yield Check(path, look, folder)
        if path.name == MEASUREMENTS:
            yield from (Check(record, is_there, folder) for record in _lost_records(path))
        if path.suffix == ".sha256" and not path.with_suffix("").exists():
            yield Check(path.with_suffix(""), is_there, folder)
    if (folder / "card.md").exists() or (folder / "card.json").exists():
        yield Check(folder / "card.md", card_fits)
        yield Check(folder / "card.json", is_there if not (folder / "card.json").exists() else record_fits)


def _of_corrections(folder: Path, files: Sequence[Path]) -> Iterator[Check]:
    """Label maps that people mended in the viewer, and the newest of each case, by the JSON of all corrections."""
    known, above = dict[Path, list[str]](), folder.parent
    for path in (each for each in files if each.suffix == ".json"):
        said, _ = parsed(path)
        case, digest = said.get("case"), said.get("sha256")
        if isinstance(digest, str) and is_file_name(f"{case}.nii.gz"):
            yield Check(path.with_suffix(".nii.gz"), has_digest([digest]), above)
            known.setdefault(above / "labelsTr" / f"{case}.nii.gz", []).append(digest)
    for newest, digests in known.items():
        if newest.exists():
            yield Check(newest, partial(_correction, digests), above)


def _correction(known: Sequence[str], path: Path) -> Checked:
    """It is a copy of one in the history; people may mend it further with other programs."""
    if has_digest(known)(path).state == "sound":
        return Checked(path, "sound")
    what_to_do = f"If nobody did, copy the newest of {path.parents[1] / HISTORY} over it."
    return Checked(path, "edited", "not as the viewer saved it; people may edit it", what_to_do)


def _known_now(record: Path, output: Path) -> set[str]:
    return known_checksums(record, read_record(record) or {}).get(output, set())


def _lost_records(table: Path) -> list[Path]:
    """The JSON of label maps that were measured and are there without it."""
    with suppress(BadInputError):
        if table_seal(table)[0] is Seal.BROKEN:
            return []
        cases = dict.fromkeys(row.get("case", "") for row in read_csv(table))
        records = {case: table.with_name(f"{case}.json") for case in cases if is_file_name(f"{case}.json")}
        beside = {each.name.split(".")[0] for each in table.parent.iterdir() if each.is_file()}
        return [record for case, record in records.items() if not record.exists() and case.split(".")[0] in beside]
    return []


def _of_a_finished(run: RunFolder) -> Iterator[Path]:
    """Files that a training leaves behind that came to its end; that of a version of before has fewer."""
    yield run.config_path
    finished = False
    for path in (run.status_path, run.training_data):
        if not path.exists():
            yield path
            finished = True  # for all that is known
    if run.status_path.exists():
        value, _ = parsed(run.status_path)
        finished = value.get("state") == "finished"
    if finished:
        yield from (run.last, run.curve_path, run.training_ranges)
        data, _ = parsed(run.training_data) if run.training_data.exists() else ({}, Seal.NONE)
        if part(data, "cases").get("validation"):
            yield run.best


def _of_fused(run: RunFolder) -> Iterator[Check]:
    """The models of a fused predictor, by their checksums, and what its record does not name."""
    yield from (Check(path, is_there) for path in (run.config_path, run.training_ranges) if not path.exists())
    with suppress(BadInputError):
        models = part(read_yaml(run.fusion), "models")
        each = (part(models, name) for name in models)
        for path, digest in named_files(run.path, {str(model.get("file")): model.get("sha256") for model in each}):
            yield Check(path, has_digest({digest}))


def _of_store(folder: Path) -> Iterator[Check]:
    manifest = folder / "manifest.json"
    yield Check(manifest, manifest_fits)
    if (folder / QUARANTINE).exists():
        yield Check(folder / QUARANTINE, table_fits, folder)
        if sum_path(folder / QUARANTINE).exists():
            yield Check(sum_path(folder / QUARANTINE), sum_fits, folder)
    value, _ = parsed(manifest)
    cases = part(value, "cases")
    for name in filter(is_file_name, cases):
        record = part(cases, name)
        for path, digest in named_files(folder / "cases" / name, part(record, "sha256")):
            yield Check(path, _case_file(folder, name, digest, is_awaited=bool(record.get("awaited"))), folder)


def _case_file(store: Path, name: str, digest: str, *, is_awaited: bool) -> Callable[[Path], Checked]:
    """Of a case that may have been prepared again since the manifest was read."""

    def look(path: Path) -> Checked:
        def now() -> list[str]:
            found = part(_record_now(store, name), "sha256").get(path.name)
            return [found] if isinstance(found, str) else []

        if is_awaited and _record_now(store, name).get("awaited"):
            why = "`viscera prepare` was stopped while it replaced this case"
            return Checked(path, "unfinished", why, "Run it again: it prepares the case anew.")
        return has_digest([] if is_awaited else [digest], now)(path)

    return look


def _record_now(store: Path, name: str) -> dict[str, Any]:
    manifest = store / "manifest.json"
    return part(_cases_in(manifest, Seen.of(manifest)), name)


@lru_cache(maxsize=1)  # a store can lack ten thousand cases
def _cases_in(manifest: Path, _: Seen | None) -> dict[str, Any]:
    return part(parsed(manifest)[0], "cases")


def _of_export(folder: Path) -> Iterator[Check]:
    yield Check(folder / EXPORT, export_fits)
    for path, digest in _exported(folder).items():
        yield Check(path, _exported_file(folder, digest))


def _exported(folder: Path) -> dict[Path, str]:
    return dict(named_files(folder, part(parsed(folder / EXPORT)[0], "files")))


def _exported_file(folder: Path, digest: str) -> Callable[[Path], Checked]:
    """Of an export that may have been exchanged for another since its record was read."""

    def look(path: Path) -> Checked:
        def now() -> list[str]:
            return [each for at, each in _exported(folder).items() if at == path]

        found = has_digest([digest], now)(path)
        return Checked(path, "sound", "not part of it any more") if found.state == "missing" and not now() else found

    return look
