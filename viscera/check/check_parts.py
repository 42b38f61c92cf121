"""What the parts of a job array have found, kept beside the tables until all are there: `parts/1-of-8.json`."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from viscera.check.check_page import PlacePictures
from viscera.check.findings import CaseCheck
from viscera.core.shard import Shard
from viscera.io.layouts.case_source import CaseSource
from viscera.io.records import read_json, validated, write_json
from viscera.io.remote.mirror_index import remove

FOLDER = "parts"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckPart:
    """One of them; pictures by case, as many as could be on the page."""

    data_set: str  # which cases and classes all parts together look at
    cases: tuple[CaseCheck, ...]  # in order
    pictures: dict[str, list[PlacePictures]]


def data_set_of(cases: Sequence[CaseSource], classes: Sequence[str]) -> str:
    """Twelve digits that differ where cases, what their labels mean, or classes do."""
    meanings = [(case.name, case.meaning_with(ignored=True)) for case in cases]
    return hashlib.sha256(json.dumps([meanings, classes], sort_keys=True).encode()).hexdigest()[:12]


def part_path(out: Path, shard: Shard) -> Path:
    """Where a part is kept, in the folder of the check."""
    return out / FOLDER / f"{shard.number}-of-{shard.total}.json"


def has_parts(out: Path) -> bool:
    """Whether a part is kept in a folder, or was about to be."""
    folder = out / FOLDER
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else [folder]
    return not visible or any(_parts(out))


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
    """Of a data set, in order; None where one is missing, or of another data set, which a warning says."""
    parts: list[CheckPart | None] = []
    others: list[str] = []
    for number in range(1, total + 1):
        path = part_path(out, Shard(number, total))
        part = validated(CheckPart, read_json(path), path, "Check this part again.") if path.exists() else None
        is_of_another = part is not None and part.data_set != data_set
        others += [str(number)] * is_of_another
        parts.append(None if is_of_another else part)
    if others:
        log.warning(
            "%s: parts %s of %d were made of other cases, labels or classes than are there now. Check them again.",
            *(out, ", ".join(others), total),
        )
    return parts


def drop_pictures(out: Path, parts: Sequence[CheckPart], used: Mapping[str, Sequence[PlacePictures]]) -> None:
    """Keep of all parts no more pictures than the page has."""
    for number, part in enumerate(parts, start=1):
        kept = {case: list(used[case]) for case in part.pictures if used.get(case)}
        if kept != part.pictures:
            write_part(out, Shard(number, len(parts)), replace(part, pictures=kept))
