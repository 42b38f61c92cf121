"""`quarantine.csv`: the cases that were left out, each with its reason."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from viscera.io.handed_on import as_handed_on
from viscera.io.records import read_csv, refuse_other_table, write_csv
from viscera.io.remote.mirror_index import remove

NAME = "quarantine.csv"
_HEADER = ("case", "reason")


def write_quarantine(
    folder: Path,
    reasons: Mapping[str, str],
    cases: Iterable[str],
    sources: Iterable[Path] = (),
    told: Callable[[str], str] = str,  # what is written of a reason, before that
) -> None:
    """Write case and reason; with nothing to say, the list is removed.

    What an earlier call said about the `cases` of this one is forgotten, and about others kept. Reasons name files by
    their paths within `sources` or the folder. Raises as `refuse_other_quarantine`.
    """
    refuse_other_quarantine(folder)
    path, done = folder / NAME, set(cases)
    rows = read_csv(path) if path.exists() else []
    kept = {case: row.get("reason", "") for row in rows if (case := row.get("case", "")) not in done}
    if kept or reasons:
        named = {case: as_handed_on(told(reason), *sources, folder) for case, reason in reasons.items()}
        write_csv(path, _HEADER, sorted({**kept, **named}.items()), checksum=True)
    else:
        remove(path)


def left_out_of(folder: Path) -> frozenset[str]:
    """The cases on the list of a folder; none where it has no list."""
    path = folder / NAME
    return frozenset(row.get("case", "") for row in read_csv(path)) if path.exists() else frozenset()


def refuse_other_quarantine(folder: Path) -> None:
    """Raise BadInputError where a file of that name is not ours."""
    refuse_other_table(folder / NAME, _HEADER)
