"""Which files of a folder have a word in them: what is handed on names no case, and no folder of anybody."""

from collections.abc import Collection
from pathlib import Path


def files_that_say(folder: Path, words: Collection[str], but: Collection[str] = ()) -> set[str]:
    """Paths in the folder, hidden ones too, of files that have one of the words; not in `but`, which lie in it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder))
        for path in found
        if path.relative_to(folder).parts[0] not in but and any(word.encode() in path.read_bytes() for word in words)
    }
