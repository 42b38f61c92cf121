"""`viscera verify`: every file of an artifact against its checksum."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.core.processes import in_threads
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.wording import agreeing, counted, listed
from viscera.io.verifying.file_judgement import BAD, Check, Checked
from viscera.io.verifying.integrity import FOREIGN, checks_of, nothing_to_verify
from viscera.io.verifying.path_kinds import what_is
from viscera.io.verifying.remedies import NAMES

_NAMED = 3  # files


def verify(path: Path, *, progress: OnProgress = unseen) -> list[Checked]:
    """What was found of each file of a store, run, study, export, of predictions, or of one file of them.

    Raises BadInputError where nothing of them is there, as in a data set.
    """
    checks, found = checks_of(path), list[Checked]()
    for check, each in zip(checks, in_threads(Check.run, checks), strict=True):
        progress(Progress("verify", len(found), len(checks), check.path.name))
        found.append(each)
    there = what_is(path)
    if all(each.state == "no checksum" for each in found) and there is not None and there.kind in FOREIGN:
        raise nothing_to_verify(path)
    return found


def verified_json(found: Sequence[Checked]) -> dict[str, Any]:
    """For programs: whether all is sound, and what was found of each file."""
    files = [
        {"path": str(each.path), "state": each.state, "found": each.why, "what_to_do": each.what_to_do}
        for each in found
    ]
    return {"sound": not _bad(found), "files": files}


def verified_text(path: Path, found: Sequence[Checked]) -> str:
    """For people: what was checked, and what has to be done."""
    return "\n".join(_lines(path, found))


def refuse_damaged(path: Path, found: Sequence[Checked]) -> None:
    """Raise BadInputError where a file is damaged, missing, or cannot be judged because it is being written."""
    bad = _bad(found)
    if bad:
        states = " or ".join(state for state in BAD if any(each.state == state for each in bad))
        raise BadInputError(
            f"{path}: {len(bad)} of {counted(len(found), 'file')} {agreeing(len(bad))} {states}: {_names(path, bad)}. "
            "What to do is said for each of them above."
        )


def _lines(path: Path, found: Sequence[Checked]) -> Iterator[str]:
    yield f"{path}: {counted(len(found), 'file')} checked: {_kinds(found)}"
    for each in found:
        if each.state in {*BAD, "edited"}:
            yield f"{each.path}: {each.state} ({each.why}). {each.what_to_do}"
    unsummed = [each for each in found if each.state == "no checksum"]
    if unsummed:
        said = "can be read but has no checksum" if len(unsummed) == 1 else "can be read but have no checksum"
        yield (
            f"{counted(len(unsummed), 'file')} {said}, written by an earlier version or by another program: "
            f"{_names(path, unsummed)}"
        )
    if len(unsummed) == len(found) and not any(each.path.name in NAMES for each in found):
        yield f"{path}: nothing here has a checksum, so that nothing could be verified"
    elif not _bad(found):
        yield f"{path}: sound"


def _kinds(found: Sequence[Checked]) -> str:
    """How many there are of each name that artifacts give their files, and of others by their ending."""
    names = (each.path.name for each in found)
    kinds = Counter(name if name in NAMES else f"*{''.join(Path(name).suffixes[-2:])}" for name in names)
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))


def _bad(found: Sequence[Checked]) -> list[Checked]:
    return [each for each in found if each.state in BAD]


def _names(path: Path, of: Sequence[Checked]) -> str:
    whole = path if path.is_dir() else path.parent
    return listed([str(each.path.relative_to(whole)) for each in of], _NAMED)
