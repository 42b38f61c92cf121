"""All files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from viscera.io.files import read_error


def folders(path: Path) -> Iterator[list[Path]]:
    """The files of a folder and of every folder in it, folder by folder, in the order of their names.

    Linked folders are followed, each real one is visited once, and none that holds `path` itself. Links that lead
    nowhere are among the files, see `leads_nowhere`. A file is a folder of its own.

    Raises:
        BadInputError: a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise read_error(Path(error.filename), error) from error

    if path.is_file():
        yield [path]
        return
    top = path.resolve()
    visited = set(top.parents)
    for name, subfolders, names in os.walk(path, onerror=refuse, followlinks=True):
        folder = Path(name)
        if folder.resolve() in visited:
            subfolders.clear()
            continue
        visited.add(folder.resolve())
        subfolders.sort()
        files = (folder / each for each in sorted(names))
        yield [file for file in files if file.is_file() or leads_nowhere(file)]


def leads_nowhere(path: Path) -> bool:
    """Whether this is a link to nothing."""
    return path.is_symlink() and not path.exists()
