"""Files that belong together: all of them get their names, or none, whenever the process is killed.

    with together(folder):
        write_record(folder / "card.json", …)
        write_text(folder / "card.md", …)
        remove(folder / "old.md")

Each is written whole under a hidden name first. Then `.XXXXXXXX-unfinished.json` says which of them gets which name;
from that rename on the new files are what counts. If the process is killed before it has given all of them their names,
the next that writes there does so (`finish`), and until then `viscera verify` calls them unfinished.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_within
from viscera.io.disk.folder_lock import TURN_S, alone_with
from viscera.io.files import PLACED, fsync, rename, temporary_beside, writing
from viscera.io.records import read_json, validated, write_json
from viscera.io.remote.mirror_index import remove

_NAME = "unfinished.json"
_NOTE = re.compile(rf"\.[0-9a-f]{{8}}-{re.escape(_NAME)}")
_HIDDEN = re.compile(r"\.[0-9a-f]{8}-.+")
_Wanted = dict[Path, Path | None]  # by its name, the file that gets it; None: what has it is deleted


@contextmanager
def together(folder: Path, *, is_held: bool = False) -> Iterator[None]:
    """Within, files that are written, and removals, happen all at once at its end; not at all where it ends otherwise.

    What is read within is as it was before. What lies outside of the folder follows afterwards. Within another it is
    part of that. What an earlier process left unfinished is finished first, unless this one holds the folder, and has
    done so. Raises BadInputError as `atomic_path`.
    """
    if PLACED.get() is not None:
        yield
        return
    if not is_held:
        finish(folder)
    wanted: _Wanted = {}

    def place(temporary: Path | None, path: Path) -> None:
        before = wanted.pop(path, None)
        if before is not None:
            before.unlink()
        wanted[path] = temporary

    token = PLACED.set(place)
    with ExitStack() as held:
        held.callback(_delete, wanted)
        try:
            yield
        finally:
            PLACED.reset(token)
        own = {path: temporary for path, temporary in wanted.items() if _is_in(folder, path)}
        if len(own) > 1:
            if not is_held:
                held.enter_context(alone_with(folder / _NAME, wait_s=TURN_S))
            note = _noted(folder, own)
            for path in own:  # from here on they are not taken back: what fails stays noted
                del wanted[path]
            _carry_out(own)
            _forget(note)
        _carry_out(wanted)


def finish(folder: Path) -> None:
    """Give files the names that a process which was killed could not give them any more."""
    if notes_in(folder):
        with alone_with(folder / _NAME, wait_s=TURN_S):
            for note in notes_in(folder):
                _carry_out(read_note(note))
                _forget(note)


def notes_in(folder: Path) -> list[Path]:
    """What is unfinished in a folder."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if _NOTE.fullmatch(path.name))
    return []


def read_note(note: Path) -> _Wanted:
    """What a note wants; raises BadInputError where it is damaged, or names a file outside of its folder."""
    what_to_do = "Delete it, and run the command again."
    try:
        said = read_json(note)
    except BadInputError as error:
        raise BadInputError(f"{note}: damaged. {what_to_do}") from error
    names = validated(dict[str, str | None], said, note, what_to_do)
    for name, temporary in names.items():
        for each in (name, temporary or f"{name}/.00000000-"):
            # folders in it can be links
            if not is_within(each) or not (note.parent / each).parent.resolve().is_relative_to(note.parent.resolve()):
                raise BadInputError(f"{note}: names {each!r}, which is not in its folder. Delete it.")
        if temporary is not None and not _HIDDEN.fullmatch(PurePosixPath(temporary).name):
            raise BadInputError(f"{note}: names {temporary!r}, which viscera did not write. Delete it.")
    return {note.parent / name: note.parent / each if each else None for name, each in names.items()}


def _noted(folder: Path, own: _Wanted) -> Path:
    note = temporary_beside(folder / _NAME)
    with writing(folder):
        for inside in {each.parent for each in own.values() if each}:
            fsync(inside)  # a note is worth nothing without the files that it names
    write_json(note, {_within(folder, path): each and _within(folder, each) for path, each in own.items()})
    return note


def _forget(note: Path) -> None:
    with writing(note):
        note.unlink(missing_ok=True)


def _carry_out(wanted: Mapping[Path, Path | None]) -> None:
    for path, temporary in wanted.items():
        with writing(path), suppress(FileNotFoundError):  # it has its name already, by another process
            if temporary is None:
                remove(path)
            else:
                rename(temporary, path)
    for each in {path.parent for path in wanted}:
        with suppress(OSError):  # not all file systems can
            fsync(each)


def _delete(wanted: _Wanted) -> None:
    for temporary in wanted.values():
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _is_in(folder: Path, path: Path) -> bool:
    return path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
