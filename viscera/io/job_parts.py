"""Which parts of a job array have begun and ended in a folder, and of which list: `.predict_parts.json` and the like.

Parts count through a list of cases, so all must have the same one: of a case that comes or goes between two of them,
some case would be in no part, and another in two.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.core.shard import Shard
from viscera.core.wording import listed
from viscera.io.disk.folder_lock import TURN_S, alone_in, exclusive
from viscera.io.records import read_json, validated, write_json
from viscera.io.remote.remote_folder import PART_LISTS

log = logging.getLogger(__name__)
_NAMED = 3


@dataclass(frozen=True)
class JobParts:
    """What is noted in a folder."""

    total: int  # parts
    cases: tuple[str, ...]  # of all parts, in their order
    begun: tuple[int, ...]  # parts, from 1 on
    done: tuple[int, ...]  # those of them that have tried all their cases

    @property
    def is_complete(self) -> bool:
        """Whether all parts are done."""
        return len(self.done) == self.total


def parts_path(folder: Path, command: str) -> Path:
    """Where the parts of a command are noted."""
    return folder / PART_LISTS[command]


def read_parts(folder: Path, command: str) -> JobParts | None:
    """What is noted; None where no part has begun there."""
    path = parts_path(folder, command)
    return validated(JobParts, read_json(path), path, "Delete it and run all parts again.") if path.exists() else None


def begin_part(folder: Path, command: str, shard: Shard, cases: Sequence[str]) -> None:
    """Note that a part works on its share of these cases; for who holds the folder alone.

    Where all parts are done, another list begins anew; so it does, with a warning, where there are more parts or fewer.
    Raises BadInputError, and notes nothing, where other parts have begun with another list.
    """
    before, path = read_parts(folder, command), parts_path(folder, command)
    now = JobParts(shard.total, tuple(cases), (shard.number,), ())
    if before is not None and before.total != now.total and not before.is_complete:
        log.warning(
            "%s: %s of %d began here before, and this is part %d of %d: parts of one number count through all cases. "
            "Run all parts of %d; what is done is kept.",
            *(folder, _numbered(before.begun), before.total, shard.number, shard.total, shard.total),
        )
    if before is not None and before.total == now.total:
        others = [number for number in before.begun if number != shard.number]
        if before.cases == now.cases:
            now = JobParts(now.total, now.cases, tuple(sorted({*before.begun, shard.number})), before.done)
        elif others and not before.is_complete:
            raise BadInputError(
                f"{folder}: {_numbered(others)} of {shard.total} began with another list of cases "
                f"({difference(before.cases, now.cases)}), so that some case would be in no part or in two. Put the "
                f"list right, or delete {path} and run all parts again: what is done is kept."
            )
    if now != before:
        write_json(path, asdict(now))


def end_part(folder: Path, command: str, shard: Shard) -> None:
    """Note that a part has tried all its cases; for who holds the folder alone."""
    noted = read_parts(folder, command)
    if noted is not None and noted.total == shard.total and shard.number not in noted.done:
        done = tuple(sorted({*noted.done, shard.number}))
        write_json(parts_path(folder, command), asdict(noted) | {"done": done})


def forget_parts(folder: Path, command: str) -> None:
    """Of a list whose cases are all there, whichever parts have done them."""
    parts_path(folder, command).unlink(missing_ok=True)


def begin_part_beside_others(folder: Path, command: str, shard: Shard, cases: Sequence[str]) -> None:
    """As `begin_part`, when it is this part's turn."""
    with exclusive(folder, wait_s=TURN_S):
        begin_part(folder, command, shard, cases)


def end_part_beside_others(folder: Path, command: str, shard: Shard) -> None:
    """As `end_part`, when it is this part's turn."""
    with exclusive(folder, wait_s=TURN_S):
        end_part(folder, command, shard)


@contextmanager
def alone_with_part(folder: Path, command: str, shard: Shard | None) -> Iterator[None]:
    """Within, no other process works on this part; of what is no part nothing is held.

    Raises BadInputError where one does.
    """
    with ExitStack() as held:
        if shard is not None:
            try:
                held.enter_context(alone_in(folder, f"{command}-part-{shard.number}-of-{shard.total}"))
            except BadInputError as error:
                raise BadInputError(f"part {shard.number} of {shard.total}: {error}") from error
        yield


@contextmanager
def noted_part(folder: Path, command: str, shard: Shard | None, cases: Sequence[str]) -> Iterator[None]:
    """Within, a part works on its share of these cases; of what is no part nothing is noted."""
    if shard is not None:
        begin_part_beside_others(folder, command, shard, cases)
    yield
    if shard is not None:
        end_part_beside_others(folder, command, shard)


def difference(before: Sequence[str], now: Sequence[str]) -> str:
    """What has come and gone, for people."""
    said = [("new", sorted({*now} - {*before})), ("gone", sorted({*before} - {*now}))]
    named = (f"{what}: {listed(names, _NAMED)}" for what, names in said if names)
    return "; ".join(named) or "in another order"


def _numbered(parts: Sequence[int]) -> str:
    return f"part{'s' if len(parts) > 1 else ''} {', '.join(map(str, parts))}"
