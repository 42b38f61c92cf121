"""The scans of a URL that do not fit on the disk together: each is fetched when it is worked on, and deleted after it.

CACHE/remote/HASH/.listed.json    the scans that are at the URL; in the mirror's folder are those in use
CACHE/remote/HASH/.scans/X.json   what was fetched, and its SHA-256: where its result is there, it is not fetched again
CACHE/remote/HASH/.scans/X.lock   held by each process that uses it
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import make_folder, sha256, temporary_beside, writing
from viscera.io.nifti_header import ENDINGS
from viscera.io.records import read_json, validated, write_json
from viscera.io.remote.cache_room import WAIT_S, is_shared, one_at_a_time, refuse, room
from viscera.io.remote.mirror_index import LISTED, address_of, home_of
from viscera.io.remote.remote_folder import RemoteFile, RemoteFolder

_KNOWN = ".scans"
_LOOK_S = 0.2


def may_come_later(names: Iterable[str]) -> list[str]:
    """Those of the files of a folder that are scans in one file each, in the folder itself."""
    return [name for name in names if "/" not in name and _is_scan(name)]


def keep_list(home: Path, files: Mapping[str, RemoteFile]) -> None:
    """Note which scans are fetched one by one; none: all are here."""
    if files:
        write_json(home / LISTED, files)
    else:
        (home / LISTED).unlink(missing_ok=True)


def later_scans(folder: Path) -> "dict[Path, LaterScan]":
    """The scans of a folder that are fetched one by one, by the paths that they have here; of most folders none."""
    home = home_of(folder)
    if home is None or not (home / LISTED).exists():
        return {}
    listed = validated(dict[str, RemoteFile], read_json(home / LISTED), home / LISTED, f"Delete {home}.")
    url = address_of(folder)
    return {folder / name: LaterScan(home, url, folder / name, file) for name, file in listed.items()}


@dataclass(frozen=True)
class LaterScan:
    """One of them, in whichever process."""

    home: Path  # of the mirror
    url: str  # of the folder that it is in
    path: Path  # where it is while it is in use
    file: RemoteFile  # what the store said of it when it was listed

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, it stays once it was fetched; then it is deleted, unless another process uses it."""
        try:
            with exclusive(self.home / _KNOWN, lock=_lock_of(self.path), wait_s=WAIT_S, beside_others=True):
                yield
        finally:
            _release(self.home, self.path)

    def fetch(self) -> None:
        """Have it here, as soon as there is room beside the scans that other processes use.

        Raises BadInputError where there is no room for it alone, and as `RemoteFolder.fetch`.
        """
        deadline = time.monotonic() + WAIT_S
        while not self._is_here():
            with exclusive(self.home, wait_s=WAIT_S):
                if self._is_here() or self._is_fetched(is_last_try=time.monotonic() >= deadline):
                    return
            time.sleep(_LOOK_S)

    def sha256(self) -> str:
        """Its checksum; where it was here before, it is not fetched for that."""
        before = self._noted().get("sha256")
        if isinstance(before, str):
            return before
        self.fetch()
        found = sha256(self.path)
        write_json(self._note, self.file._asdict() | {"sha256": found})
        return found

    @property
    def _note(self) -> Path:
        return self.home / _KNOWN / f"{_digest(self.path)}.json"

    def _noted(self) -> dict[str, Any]:
        """What is known of this file as it is there; empty where nothing is, or of another one of its name."""
        note = read_json(self._note) if self._note.exists() else None
        return note if isinstance(note, dict) and self.file._asdict().items() <= note.items() else {}

    def _is_here(self) -> bool:
        return self.path.exists() and bool(self._noted())

    def _is_fetched(self, *, is_last_try: bool) -> bool:
        """Fetch it, for who holds the mirror alone; False where others have to end first."""
        present = [path for path in self.path.parent.iterdir() if _is_scan(path.name) and path != self.path]
        for path in present:
            _release(self.home, path)
        with one_at_a_time():
            left = room(self.home, self.file.size)
            is_awaited = any(path.exists() for path in present) or is_shared(self.home)
            if self.file.size > left and is_awaited and not is_last_try:
                return False
            refuse(f"{self.url}/{self.path.name}", self.home, self.file.size, left)
            self._fetch_now()
        return True

    def _fetch_now(self) -> None:
        make_folder(self.home / ".fetching")
        copy = temporary_beside(self.home / ".fetching" / self.path.name)
        RemoteFolder(self.url).fetch(self.path.name, self.file, copy, lambda _: None)
        noted = self._noted()
        self._note.unlink(missing_ok=True)  # it is of what was here
        with writing(self.path):
            copy.replace(self.path)
        write_json(self._note, noted or self.file._asdict())


def _release(home: Path, path: Path) -> None:
    """Delete a scan that nobody uses."""
    with suppress(BadInputError), exclusive(home / _KNOWN, lock=_lock_of(path)):
        path.unlink(missing_ok=True)


def _is_scan(name: str) -> bool:
    """Whether a file is a scan by its name, and all of it: of a pair of `.hdr` and `.img` neither is."""
    return name.lower().endswith(ENDINGS) and ".nii" in name.lower() and not name.startswith(".")


def _lock_of(path: Path) -> str:
    return f"{_digest(path)}.lock"


def _digest(path: Path) -> str:
    return digest_of(os.fsencode(path.name)).hexdigest()[:32]
