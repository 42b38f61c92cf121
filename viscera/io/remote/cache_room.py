"""The room that the files of all URLs may take on this machine together, and how some is made.

`VISCERA_CACHE_GB` bounds what is fetched. What is here of other URLs can be fetched again: where room is needed, that
of the command longest ago goes first. What a command uses stays (it holds CACHE/remote/HASH/.in-use), and so does every
result that was not sent. What a command at work writes to a URL is not counted: it cannot be refused, and it is known
only afterwards how much it is. Nor are the lists that are kept of files.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_within
from viscera.io.disk.folder_lock import exclusive
from viscera.io.records import read_json
from viscera.io.remote.mirror_index import LISTED, LISTS, Index, Seen, folder_of, homes, mirrors_folder, removed

log = logging.getLogger(__name__)
WAIT_S = 3600  # for another process that fetches
_GB = 1e9
_IN_USE, _FETCHES = ".in-use", ".fetches"
_NAMED = 3  # URLs, in a refusal


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Within, the files of a URL stay here; other processes may use them, too."""
    with exclusive(home, lock=_IN_USE, wait_s=WAIT_S, beside_others=True):
        yield


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Where a bound is given, one process fetches, and the others wait: else two would fill the same room."""
    bounded = exclusive(mirrors_folder(), lock=_FETCHES, wait_s=WAIT_S) if _bound() is not None else nullcontext()
    with bounded:
        yield


def room(home: Path, needed: int) -> int:
    """Bytes that may be fetched to CACHE/remote/HASH, once room for those `needed` was made, as far as that goes.

    Raises BadInputError where `VISCERA_CACHE_GB` is no number.
    """
    bound = _bound()
    if bound is None:
        return shutil.disk_usage(home).free
    last_used = homes()
    held = sum(_counted().values())
    for other in sorted(last_used.keys() - {home}, key=lambda each: last_used[each]):
        if held + needed <= bound:
            break
        held -= _make_room(other)
    return min(shutil.disk_usage(home).free, bound - held)


def refuse(url: str, home: Path, needed: int, left: int) -> None:
    """Raise BadInputError, which says what has the room, where more is needed than is left."""
    if needed <= left:
        return
    what = f"{url}: {needed / _GB:.3g} GB are to be fetched, and {home} has room for {max(0, left) / _GB:.3g} GB"
    bound = _bound()
    if bound is None or shutil.disk_usage(home).free <= left:
        raise BadInputError(f"{what}. Free some space there, or set XDG_CACHE_HOME to a folder on a larger disk.")
    largest = sorted(((size, each) for each, size in _counted().items()), reverse=True)[:_NAMED]
    held = ", ".join(f"{size / _GB:.3g} GB of {Index.read(each).url}" for size, each in largest)
    raise BadInputError(
        f"{what}: VISCERA_CACHE_GB allows {bound / _GB:.3g} GB, and what is in use or was not sent stays ({held}). "
        "Raise it, let other commands end first, or run again those that could not send their results."
    )


def is_shared(home: Path) -> bool:
    """Whether a command that fetches scan by scan from another URL is at work, and will give room back."""
    return any(each != home and (each / LISTED).exists() and not _is_idle(each) for each in homes())


def _bound() -> int | None:
    given = os.environ.get("VISCERA_CACHE_GB")
    if not given:
        return None
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?", given):
        raise BadInputError(f"VISCERA_CACHE_GB={given}: a number of gigabytes was expected, for example 50.")
    return int(float(given) * _GB)


def _counted() -> dict[Path, int]:
    """Bytes of the files of each URL, but for those that a command at work writes."""
    return {home: _size(home) for home in homes() if _is_idle(home) or not Index.read(home).is_written}


def _size(home: Path) -> int:
    """Bytes of the files of a URL, also those that are just being fetched or sent; of one under several names once."""
    found = dict[tuple[int, int], int]()
    for folder in (each for each in home.iterdir() if each.is_dir() and each.name not in LISTS):
        for where, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    status = os.lstat(Path(where) / name)
                    found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def _is_idle(home: Path) -> bool:
    with suppress(BadInputError), exclusive(home, lock=_IN_USE):
        return True
    return False


def _make_room(home: Path) -> int:
    """Delete what is there as it is here, unless a command uses it; the bytes that this gives.

    Where nothing is left, the URL is forgotten.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(home, lock=_IN_USE))
            held.enter_context(exclusive(home))
            index, before = Index.read(home), _size(home)
        except BadInputError:  # in use, or damaged
            return 0
        folder = folder_of(home, index.url)
        clear_leftovers(home)
        single = read_json(home / LISTED) if (home / LISTED).exists() else {}  # of these a killed process left some
        names = [name for name, known in index.files.items() if known.is_here(Seen.of(folder / name))]
        for name in filter(is_within, [*names, *(single if isinstance(single, dict) else ())]):
            (folder / name).unlink(missing_ok=True)
        for where, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):  # something is left in it
                Path(where).rmdir()
        if not folder.exists() and not removed(home):
            index.forget(home)
        freed = before - _size(home)
    if freed > 0:
        log.warning("%s: %.3g GB of it were deleted from the cache to make room.", index.url, freed / _GB)
    return freed


def clear_leftovers(home: Path) -> None:
    """Delete those of processes that were killed; for who holds the folder alone."""
    for each in (*home.glob(".sending-*"), home / ".fetching"):
        shutil.rmtree(each, ignore_errors=True)
