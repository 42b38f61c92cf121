"""What the parts of a job array have found, kept beside the tables until all are there: `parts/1-of-8.json`."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from viscera.check.check_page import PlacePictures
from viscera.check.findings import CaseCheck
from viscera.core.shard import Shard
from viscera.io.mirror_index import remove
from viscera.io.records import read_json, validated, write_json

FOLDER = "parts"


@dataclass(frozen=True)
class CheckPart:
    """One of them; pictures by case, as many as could be on the page."""

    data_set: str  # which cases and classes all parts together look at
    cases: tuple[CaseCheck, ...]  # in order
    pictures: dict[str, list[PlacePictures]]


def data_set_of(cases: Sequence[str], classes: Sequence[str]) -> str:
    """Twelve digits that differ where cases or classes do."""
    return hashlib.sha256(json.dumps([cases, classes]).encode()).hexdigest()[:12]


def part_path(out: Path, shard: Shard) -> Path:
    """Where a part is kept, in the folder of the check."""
    return out / FOLDER / f"{shard.number}-of-{shard.total}.json"


def has_parts(out: Path) -> bool:
    """Whether a part is kept in a folder."""
    return any(_parts(out))


def remove_parts(out: Path) -> None:
    """Forget all parts that are kept in a folder."""
    for path in _parts(out):
        remove(path)
    with suppress(OSError):  # not there, or it holds something else
        (out / FOLDER).rmdir()


def _parts(out: Path) -> list[Path]:
    return [path for path in (out / FOLDER).glob("*-of-*.json") if re.fullmatch(r"\d+-of-\d+", path.stem)]


def write_part(out: Path, shard: Shard, part: CheckPart) -> None:
    """Keep a part, in place of what an earlier call found."""
    write_json(part_path(out, shard), TypeAdapter(CheckPart).dump_python(part, mode="json"), allow_nan=True)


def read_parts(out: Path, total: int, data_set: str) -> list[CheckPart | None]:
    """Of a data set, in order; None where one is missing, or of another data set."""
    parts: list[CheckPart | None] = []
    for number in range(1, total + 1):
        path = part_path(out, Shard(number, total))
        part = validated(CheckPart, read_json(path), path, "Check this part again.") if path.exists() else None
        parts.append(part if part is not None and part.data_set == data_set else None)
    return parts


def drop_pictures(out: Path, parts: Sequence[CheckPart], used: Mapping[str, Sequence[PlacePictures]]) -> None:
    """Keep of all parts no more pictures than the page has."""
    for number, part in enumerate(parts, start=1):
        kept = {case: list(used[case]) for case in part.pictures if used.get(case)}
        if kept != part.pictures:
            write_part(out, Shard(number, len(parts)), replace(part, pictures=kept))
