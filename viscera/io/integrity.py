"""Every file of an artifact against its checksum: what is looked at, and what mends a file that is damaged.

A folder is a store, an export, or holds files that say themselves what they are (`io.seals`); folders in it are looked
at as well. Hidden files, which are of a process that works there, and reports, which can be made again, are not.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_file_name, is_within
from viscera.io.checkpoint import file_seal, load_checkpoint
from viscera.io.file_sets import notes_in, read_note
from viscera.io.files import sha256
from viscera.io.folder_lock import is_held
from viscera.io.format_versions import EXPORT_VERSION, NewerFormatError, refuse_newer
from viscera.io.named_files import named_files, part
from viscera.io.path_kinds import SEVERAL, TITLES, Kind, what_is
from viscera.io.predictions import TABLE as MEASUREMENTS
from viscera.io.predictions import known_checksums, read_record
from viscera.io.quarantine import NAME as QUARANTINE
from viscera.io.records import read_csv, read_json, read_sealed, read_yaml
from viscera.io.remedies import REPORT, remedy
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.seals import Seal, json_seal, sum_path, table_seal, yaml_seal
from viscera.io.store import Store

EXPORT = "export.json"
State = Literal["sound", "no checksum", "edited", "damaged", "missing", "newer", "unfinished", "being written"]
FOREIGN: frozenset[Kind] = frozenset({"data set", "images", "labels", "scans"})
BAD: tuple[State, ...] = ("damaged", "missing", "newer", "unfinished", "being written")


@dataclass(frozen=True)
class Checked:
    """What was found of one file."""

    path: Path
    state: State
    why: str = ""  # what was found
    what_to_do: str = ""


@dataclass(frozen=True)
class Check:
    """A file that is to be looked at, and how."""

    path: Path
    look: Callable[[Path], Checked]
    in_use: Path | None = None  # the folder that a process holds while it writes this file

    def run(self) -> Checked:
        """Look at it. What a process is writing is not judged, because it may not be whole yet."""
        found = self.look(self.path)
        if found.state in {"damaged", "missing", "unfinished"} and self.in_use is not None and is_held(self.in_use):
            later = f"Wait for that, then verify {self.in_use} again."
            return Checked(self.path, "being written", f"another process works on {self.in_use}", later)
        return found


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


def _of_folder(folder: Path, *, deep: bool = True) -> Iterator[Check]:
    yield from (Check(path, _unfinished, folder) for note in notes_in(folder) for path in read_note(note))
    if (folder / "manifest.json").exists():
        yield from _of_store(folder)
    elif (folder / EXPORT).exists():
        yield from _of_export(folder)
    else:
        yield from _of_files(folder)
        for each in sorted(folder.iterdir()) if deep else ():
            if each.is_dir() and not each.name.startswith(".") and each.name != REPORT:
                yield from _of_folder(each)


def _of_files(folder: Path) -> Iterator[Check]:
    """Those of a run, a study, predictions or an evaluation, by their names and what they say of others."""
    run = RunFolder(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if any(path.exists() for path in (run.last, run.best, run.status_path, run.curve_path)):
        yield from (Check(path, _is_there) for path in _of_a_finished(run) if not path.exists())
    if run.fusion.exists():
        yield from _of_fused(run)
    for path in files:
        look = _table if sum_path(path).exists() else _LOOKS.get(path.name) or _LOOKS.get(path.suffix)
        if path.suffix == ".json" and path.name not in _LOOKS and (written := read_record(path)):
            yield Check(path, _record)
            for output, known in known_checksums(path, written).items():
                yield Check(output, _digests(known), folder)
        elif look is not None:
            yield Check(path, look, folder)
        if path.name == MEASUREMENTS:
            yield from (Check(record, _is_there) for record in _lost_records(path))
        if path.suffix == ".sha256" and not path.with_suffix("").exists():
            yield Check(path.with_suffix(""), _is_there, folder)
    if (folder / "card.md").exists() or (folder / "card.json").exists():
        yield Check(folder / "card.md", _card)
        yield Check(folder / "card.json", _is_there if not (folder / "card.json").exists() else _record)


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
        value, _ = _parsed(run.status_path)
        finished = value.get("state") == "finished"
    if finished:
        yield from (run.last, run.curve_path, run.training_ranges)
        data, _ = _parsed(run.training_data) if run.training_data.exists() else ({}, Seal.NONE)
        if part(data, "cases").get("validation"):
            yield run.best


def _of_fused(run: RunFolder) -> Iterator[Check]:
    """The models of a fused predictor, by their checksums, and what its record does not name."""
    yield from (Check(path, _is_there) for path in (run.config_path, run.training_ranges) if not path.exists())
    with suppress(BadInputError):
        models = part(read_yaml(run.fusion), "models")
        each = (part(models, name) for name in models)
        for path, digest in named_files(run.path, {str(model.get("file")): model.get("sha256") for model in each}):
            yield Check(path, _digests({digest}))


def _of_store(folder: Path) -> Iterator[Check]:
    manifest = folder / "manifest.json"
    yield Check(manifest, _manifest)
    if (folder / QUARANTINE).exists():
        yield Check(folder / QUARANTINE, _table, folder)
        yield Check(sum_path(folder / QUARANTINE), _sum, folder)
    value, _ = _parsed(manifest)
    cases = part(value, "cases")
    for name in filter(is_file_name, cases):
        record = part(cases, name)
        for path, digest in named_files(folder / "cases" / name, part(record, "sha256")):
            yield Check(path, _awaited if record.get("awaited") else _case_file(folder, name, digest), folder)


def _awaited(path: Path) -> Checked:
    why = "`viscera prepare` was stopped while it replaced this case"
    return Checked(path, "unfinished", why, "Run it again: it prepares the case anew.")


def _case_file(store: Path, name: str, digest: str) -> Callable[[Path], Checked]:
    def look(path: Path) -> Checked:
        found = _digests({digest})(path)
        if found.state in {"damaged", "missing"}:  # it may have been prepared again since the manifest was read
            cases = part(_parsed(store / "manifest.json")[0], "cases")
            now = part(part(cases, name), "sha256").get(path.name)
            if isinstance(now, str) and now != digest:
                return _digests({now})(path)
        return found

    return look


def _of_export(folder: Path) -> Iterator[Check]:
    yield Check(folder / EXPORT, _export)
    value, _ = _parsed(folder / EXPORT)
    for path, digest in named_files(folder, part(value, "files")):
        yield Check(path, _digests({digest}))


def _parsed(path: Path) -> tuple[dict[str, Any], Seal]:
    """A JSON object, empty where it is none: that is said where the file itself is looked at."""
    try:
        value, seal = read_sealed(path)
    except BadInputError:
        return {}, Seal.BROKEN
    return (value if isinstance(value, dict) else {}), seal


def _sound(path: Path) -> Checked:
    return Checked(path, "sound")


def _bad(path: Path, why: str) -> Checked:
    return Checked(path, "damaged", why, remedy(path))


def _is_there(path: Path) -> Checked:
    return _sound(path) if path.exists() else Checked(path, "missing", "not there any more", remedy(path))


def _unfinished(path: Path) -> Checked:
    why = "a command was stopped before it had given all its files their names"
    return Checked(path, "unfinished", why, "Nothing is lost: run the same command again, which finishes that.")


def _digests(known: set[str]) -> Callable[[Path], Checked]:
    def look(path: Path) -> Checked:
        if not path.is_file():
            return _is_there(path)
        return _sound(path) if sha256(path) in known else _bad(path, "its checksum does not fit")

    return look


def _sealed(path: Path, seal: Seal, read: Callable[[Path], object]) -> Checked:
    if seal is Seal.BROKEN:
        return _bad(path, "its checksum does not fit")
    try:
        read(path)
    except NewerFormatError as error:
        return _newer(path, error)
    except (BadInputError, ValueError, TypeError) as error:
        return _bad(path, _why(path, error))
    return _sound(path) if seal is Seal.FITS else Checked(path, "no checksum")


def _why(path: Path, error: Exception) -> str:
    """What was found, without the advice of the one who found it."""
    why = str(error).removeprefix(f"{path}: ").partition(". ")[0].removesuffix(".")
    return "it cannot be read: cut short, or no checkpoint" if why == "damaged, or no checkpoint" else why


def _newer(path: Path, error: NewerFormatError) -> Checked:
    why, _, what_to_do = str(error).removeprefix(f"{path}: ").partition(". ")
    return Checked(path, "newer", why, what_to_do)


def _record(path: Path) -> Checked:
    return _sealed(path, json_seal(path.read_bytes()), read_json)


def _export(path: Path) -> Checked:
    def read(at: Path) -> None:
        value = _parsed(at)[0]
        refuse_newer(at, value.get("format_version"), EXPORT_VERSION)
        if strange := [name for name in part(value, "files") if not is_within(name)]:
            raise BadInputError(f"{at}: it names {strange[0]!r}, which is no file in its folder")

    return _sealed(path, json_seal(path.read_bytes()), read) if _parsed(path)[0] else _record(path)


def _yaml(path: Path) -> Checked:
    return _sealed(path, yaml_seal(path.read_bytes()), read_yaml)


def _study(path: Path) -> Checked:
    return _sealed(path, yaml_seal(path.read_bytes()), lambda at: StudyFolder(at.parent).read_record())


def _manifest(path: Path) -> Checked:
    return _sealed(path, json_seal(path.read_bytes()), lambda at: Store.open(at.parent))


def _table(path: Path) -> Checked:
    seal, which = table_seal(path)
    return _bad(path, "its checksum does not fit") if seal is Seal.BROKEN and which == path else _state(path, seal)


def _sum(path: Path) -> Checked:
    seal, which = table_seal(path.with_suffix("")) if path.with_suffix("").exists() else (Seal.FITS, path)
    return _bad(path, "it is not the checksum of its table") if seal is Seal.BROKEN and which == path else _sound(path)


def _state(path: Path, seal: Seal) -> Checked:
    return Checked(path, "no checksum") if seal is Seal.NONE else _sound(path)


def _curve(path: Path) -> Checked:
    run = RunFolder(path.parent)
    try:
        curve, status = run.read_curve(), run.read_status()
    except (BadInputError, ValueError) as error:
        return _bad(path, _why(path, error))
    last = curve[-1].get("step") if curve else None
    if status is not None and status.state == "finished" and last != status.step:
        return _bad(path, f"it ends at step {last}, and the training at step {status.step}")
    return _sound(path)


def _checkpoint(path: Path) -> Checked:
    if file_seal(path) is Seal.BROKEN:
        return _bad(path, "its checksum does not fit")
    try:
        load_checkpoint(path)
    except NewerFormatError as error:
        return _newer(path, error)
    except BadInputError as error:
        return _bad(path, _why(path, error))
    return _sound(path)


def _card(path: Path) -> Checked:
    """A card is there to be read and completed: one that was edited is no damage."""
    if not path.exists():
        return _is_there(path)
    said, _ = _parsed(path.with_name("card.json"))
    known = [said.get("markdown_sha256"), said.get("replaces_sha256")]
    edited = "not as viscera wrote it; people may edit it"
    return _sound(path) if sha256(path) in known else Checked(path, "edited", edited, remedy(path))


_LOOKS: Mapping[str, Callable[[Path], Checked]] = {
    ".json": _record,
    ".yaml": _yaml,
    ".csv": _table,
    ".sha256": _sum,
    ".pt": _checkpoint,
    "curve.jsonl": _curve,
    "study.yaml": _study,
    "card.md": _card,
    "card.json": _record,
}
