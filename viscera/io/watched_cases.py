"""Whether another process changes cases of a store while they are in use."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from viscera.core.errors import BadInputError
from viscera.io.files import sha256
from viscera.io.store import Store

_FILES = ("image.npy", "labels.npy")  # that are mapped into memory


class _Look(NamedTuple):
    file: int  # its number on the file system: another one where it was replaced
    size: int
    mtime_ns: int


class WatchedCases:
    """The images and labels of some cases, and what they looked like when they were first looked at."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self._expected = {
            store.path / "cases" / name / file: store.manifest.cases[name].sha256[file]
            for name in names
            for file in _FILES
        }
        self._seen = {path: _look(path) for path in self._expected}

    def refuse_changed(self) -> None:
        """Raise BadInputError where a file is gone, or has another checksum than the store said of it.

        Files are asked for size, time and number alone, two a case; those where that is new are read.
        """
        for path, seen in self._seen.items():
            now = _look(path)
            if now == seen:
                continue
            if now is None or sha256(path) != self._expected[path]:
                raise BadInputError(
                    f"{path}: another process has {'deleted' if now is None else 'changed'} it, on "
                    f"{socket.gethostname()}, while it was trained on. What the run has kept is of before: put the "
                    "store back as it was and resume with --resume, or train a new run."
                )
            self._seen[path] = now


def _look(path: Path) -> _Look | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of pathlib's
    except FileNotFoundError:
        return None
    return _Look(status.st_ino, status.st_size, status.st_mtime_ns)
