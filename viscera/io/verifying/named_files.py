"""Parts of records and the files that they name, whatever a record may be: what is wrong with it is said elsewhere."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from viscera.core.safe_names import is_within


def part(value: Mapping[str, Any], key: str) -> dict[Any, Any]:
    """A part of a record; empty where it is not what it should be."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def named_files(folder: Path, digests: Mapping[Any, Any]) -> Iterator[tuple[Path, str]]:
    """The files in a folder that a record names, with their checksums; what points out of the folder is none."""
    named = ((name, digest) for name, digest in digests.items() if is_within(name) and isinstance(digest, str))
    yield from ((folder / name, digest) for name, digest in named)
