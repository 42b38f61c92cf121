"""How a file of an artifact is looked at: by its checksum, and whether it is what its name says."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_within
from viscera.io.checkpoint import file_seal, load_checkpoint
from viscera.io.disk.folder_lock import is_held
from viscera.io.files import sha256
from viscera.io.format_versions import EXPORT_VERSION, NewerFormatError, refuse_newer
from viscera.io.records import read_json, read_sealed, read_yaml
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.seals import Seal, json_seal, table_seal, yaml_seal
from viscera.io.store import Store
from viscera.io.verifying.named_files import part
from viscera.io.verifying.remedies import remedy

State = Literal["sound", "no checksum", "edited", "damaged", "missing", "newer", "unfinished", "being written"]
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
        try:
            found = self.look(self.path)
        except (BadInputError, OSError) as error:  # the others are looked at all the same
            found = unreadable(self.path, error) if self.path.exists() else is_there(self.path)
        if found.state in {"damaged", "missing", "unfinished"} and self.in_use is not None and is_held(self.in_use):
            later = f"Wait for that, then verify {self.in_use} again."
            return Checked(self.path, "being written", f"another process works on {self.in_use}", later)
        return found


def parsed(path: Path) -> tuple[dict[str, Any], Seal]:
    """A JSON object, empty where it is none: that is said where the file itself is looked at."""
    try:
        value, seal = read_sealed(path)
    except BadInputError:
        return {}, Seal.BROKEN
    return (value if isinstance(value, dict) else {}), seal


def _sound(path: Path) -> Checked:
    return Checked(path, "sound")


def bad(path: Path, why: str) -> Checked:
    """It is damaged."""
    return Checked(path, "damaged", why, remedy(path))


def unreadable(path: Path, error: Exception) -> Checked:
    """Whether it is damaged is not known: it is not to be deleted for that."""
    why = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else _why(path, error)
    return Checked(path, "damaged", why, "Check its permissions and the disk, then verify it again.")


def is_there(path: Path) -> Checked:
    """Whether there is such a file, of which no more is known."""
    return _sound(path) if path.exists() else Checked(path, "missing", "not there any more", remedy(path))


def has_digest(known: Collection[str], now: Callable[[], Collection[str]] = tuple) -> Callable[[Path], Checked]:
    """Whether a file has one of these checksums, or else of those that it is to have `now`, if it was written anew."""

    def look(path: Path) -> Checked:
        if not path.is_file():
            return is_there(path)
        if sha256(path) in known:
            return _sound(path)
        newer = {*now()} - {*known}
        return _sound(path) if newer and sha256(path) in newer else bad(path, "its checksum does not fit")

    return look


def _sealed(path: Path, seal: Seal, read: Callable[[Path], object]) -> Checked:
    if seal is Seal.BROKEN:
        return bad(path, "its checksum does not fit")
    try:
        read(path)
    except NewerFormatError as error:
        return _newer(path, error)
    except (BadInputError, ValueError, TypeError) as error:
        return bad(path, _why(path, error))
    return _sound(path) if seal is Seal.FITS else Checked(path, "no checksum")


def _why(path: Path, error: Exception) -> str:
    """What was found, without the advice of the one who found it."""
    why = str(error).removeprefix(f"{path}: ").partition(". ")[0].removesuffix(".")
    return "it cannot be read: cut short, or no checkpoint" if why == "damaged, or no checkpoint" else why


def _newer(path: Path, error: NewerFormatError) -> Checked:
    why, _, what_to_do = str(error).removeprefix(f"{path}: ").partition(". ")
    return Checked(path, "newer", why, what_to_do)


def record_fits(path: Path) -> Checked:
    """Of JSON."""
    return _sealed(path, json_seal(path.read_bytes()), read_json)


def export_fits(path: Path) -> Checked:
    """Of the record of an export."""

    def read(at: Path) -> None:
        value = parsed(at)[0]
        refuse_newer(at, value.get("format_version"), EXPORT_VERSION)
        if strange := [name for name in part(value, "files") if not is_within(name)]:
            raise BadInputError(f"{at}: it names {strange[0]!r}, which is no file in its folder")

    return _sealed(path, json_seal(path.read_bytes()), read) if parsed(path)[0] else record_fits(path)


def _yaml(path: Path) -> Checked:
    return _sealed(path, yaml_seal(path.read_bytes()), read_yaml)


def _study(path: Path) -> Checked:
    return _sealed(path, yaml_seal(path.read_bytes()), lambda at: StudyFolder(at.parent).read_record())


def manifest_fits(path: Path) -> Checked:
    """Of that of a store."""
    return _sealed(path, json_seal(path.read_bytes()), lambda at: Store.open(at.parent))


def table_fits(path: Path) -> Checked:
    """Of one with its checksum beside it."""
    seal, which = table_seal(path)
    return bad(path, "its checksum does not fit") if seal is Seal.BROKEN and which == path else _state(path, seal)


def sum_fits(path: Path) -> Checked:
    """Of the checksum beside a table."""
    seal, which = table_seal(path.with_suffix("")) if path.with_suffix("").exists() else (Seal.FITS, path)
    return bad(path, "it is not the checksum of its table") if seal is Seal.BROKEN and which == path else _sound(path)


def _state(path: Path, seal: Seal) -> Checked:
    return Checked(path, "no checksum") if seal is Seal.NONE else _sound(path)


def _curve(path: Path) -> Checked:
    run = RunFolder(path.parent)
    try:
        curve, status = run.read_curve(), run.read_status()
    except (BadInputError, ValueError) as error:
        return bad(path, _why(path, error))
    last = curve[-1].get("step") if curve else None
    if status is not None and status.state == "finished" and last != status.step:
        return bad(path, f"it ends at step {last}, and the training at step {status.step}")
    return _sound(path)


def _checkpoint(path: Path) -> Checked:
    if file_seal(path) is Seal.BROKEN:
        return bad(path, "its checksum does not fit")
    try:
        load_checkpoint(path)
    except NewerFormatError as error:
        return _newer(path, error)
    except BadInputError as error:
        return bad(path, _why(path, error))
    return _sound(path)


def card_fits(path: Path) -> Checked:
    """A card is there to be read and completed: one that was edited is no damage."""
    if not path.exists():
        return is_there(path)
    said, _ = parsed(path.with_name("card.json"))
    known = [said.get("markdown_sha256"), said.get("replaces_sha256")]
    edited = "not as viscera wrote it; people may edit it"
    return _sound(path) if sha256(path) in known else Checked(path, "edited", edited, remedy(path))


LOOKS: Mapping[str, Callable[[Path], Checked]] = {
    ".json": record_fits,
    ".yaml": _yaml,
    ".csv": table_fits,
    ".sha256": sum_fits,
    ".pt": _checkpoint,
    "curve.jsonl": _curve,
    "study.yaml": _study,
    "card.md": card_fits,
    "card.json": record_fits,
}
