"""Where the files of a URL are on this machine, and what is known of both.

CACHE/remote/HASH/NAME/…       the files; NAME is the URL's last one, after which stores and data sets are called
CACHE/remote/HASH/index.json   each file as it was on both sides, by checksum, size and time
CACHE/remote/HASH/removed/…    notes of what was removed on purpose, and is to be removed at the URL

HASH is of the URL, its endpoint and, where not the whole folder is wanted, the names of the files that are: single
files of one folder stand beside each other.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from viscera.core.addresses import url_of
from viscera.core.errors import BadInputError
from viscera.io.files import PLACED, cache_folder
from viscera.io.records import read_json, validated, write_json
from viscera.io.remote.remote_folder import UNKNOWN, RemoteFile, RemoteFolder
from viscera.io.seals import sum_path

_NAME, _REMOVED = "index.json", "removed"
LISTS = frozenset({_REMOVED, ".scans"})  # folders in CACHE/remote/HASH that hold notes alone
LISTED = ".listed.json"  # of the scans that are fetched one by one, see `io.remote.scan_by_scan`


class Seen(NamedTuple):
    """A file as it is here."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Seen | None":
        """None where there is none."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(status.st_size, status.st_mtime_ns)


class Known(NamedTuple):
    """A file as it was when it was last the same on both sides."""

    size: int
    stamp: str  # there, see `RemoteFile`
    mtime_ns: int  # here; 0: it has changed here since

    def is_there(self, file: RemoteFile | None) -> bool:
        """Whether it is still the same there."""
        return file is not None and self.stamp == file.stamp and file.size in {self.size, UNKNOWN}

    def is_here(self, seen: Seen | None) -> bool:
        """Whether it is still the same here."""
        return seen == (self.size, self.mtime_ns)


@dataclass
class Index:
    """What is remembered of the files of a URL from one command to the next."""

    url: str
    files: dict[str, Known] = field(default_factory=dict)
    sending: dict[str, str] = field(default_factory=dict)  # MD5 of what was being sent, and maybe has arrived
    is_written: bool = False  # commands wrote here: what differs from there is their result, and no damage

    @classmethod
    @contextmanager
    def kept(cls, home: Path, url: str) -> Iterator["Index"]:
        """That of a folder, kept however the work with it ends."""
        index = cls.read(home) if (home / _NAME).exists() else cls(url)
        try:
            yield index
        finally:
            index.keep(home)

    @classmethod
    def read(cls, home: Path) -> "Index":
        """That of a folder; raises BadInputError where it is damaged, or there is none."""
        path, what_to_do = home / _NAME, f"Copy results that were not sent from {home} elsewhere, then delete it."
        try:
            value = read_json(path)
        except BadInputError as error:
            raise BadInputError(f"{path}: damaged, or cannot be read. {what_to_do}") from error
        return validated(cls, value, path, what_to_do)

    def keep(self, home: Path) -> None:
        """Write it."""
        write_json(home / _NAME, vars(self))

    def forget(self, home: Path) -> None:
        """Delete it: nothing of the URL is here any more."""
        (home / _NAME).unlink()


def mirrors_folder() -> Path:
    """CACHE/remote."""
    return cache_folder().resolve() / "remote"


def homes() -> dict[Path, int]:
    """CACHE/remote/HASH of all URLs with files here, and when a command last looked at what is there, in ns."""
    found = dict[Path, int]()
    for index in mirrors_folder().glob(f"*/{_NAME}"):
        with suppress(FileNotFoundError):  # forgotten meanwhile
            found[index.parent] = index.stat().st_mtime_ns
    return found


def folder_of(home: Path, url: str | None) -> Path:
    """The folder of the files in CACHE/remote/HASH."""
    name = PurePosixPath(url or "").name
    return home / (name if name and not name.startswith(".") and name not in {_NAME, _REMOVED} else "files")


def place_of(url: str, endpoint: str, file: str = "") -> tuple[Path, Path]:
    """CACHE/remote/HASH, and the folder in it, of a URL whose files are wanted all, or `file` (or several) alone."""
    key = f"{url}\n{endpoint}\n{file}"
    home = mirrors_folder() / sha256(key.encode()).hexdigest()[:16]
    return home, folder_of(home, url)


def address_of(path: Path) -> str:
    """For records: the URL that a path stands for, or the path."""
    root = mirrors_folder()
    if not path.is_relative_to(root):
        return str(path)
    place, _, *name = (*path.relative_to(root).parts, "", "")
    index = root / place / _NAME
    return "/".join(filter(None, (_url_in(index), *name))) if index.exists() else str(path)


def home_of(folder: Path) -> Path | None:
    """CACHE/remote/HASH of a folder that stands for a URL; None of others."""
    home = folder.parent
    return home if home.parent == mirrors_folder() and (home / _NAME).exists() else None


def with_addresses(text: str) -> str:
    """For records: a text that names paths, with the URLs of those that stand for one."""
    root = mirrors_folder()
    for place in set(re.findall(rf"{re.escape(str(root))}/([0-9a-f]{{16}})/", text)):
        index = root / place / _NAME
        if index.exists():
            url = _url_in(index)
            text = text.replace(str(folder_of(index.parent, url)), url)
    return text


def remove(path: Path) -> None:
    """Delete a result, where there is one; that of a URL there as well: what else is gone here stays there."""
    root, absolute = mirrors_folder(), path.parent.resolve() / path.name
    if not path.exists():
        return
    if path.suffix in {".csv", ".json"}:
        remove(sum_path(path))
    if (placed := PLACED.get()) is not None:  # together with others
        placed(None, path)
        return
    path.unlink(missing_ok=True)
    if absolute.is_relative_to(root):
        place, _, *name = absolute.relative_to(root).parts
        write_json(_note_of(root / place, "/".join(name)), "/".join(name))


def removed(home: Path) -> list[str]:
    """The names that `remove` has deleted and that nobody has forgotten since."""
    return [str(read_json(note)) for note in sorted((home / _REMOVED).glob("*.json"))]


def forget_removed(home: Path, name: str) -> None:
    """Forget that a file was removed: it was there too, or is here again."""
    _note_of(home, name).unlink(missing_ok=True)


def mirror_of(address: str) -> Path:
    """The path that stands for what `address_of` gave, where its files have been on this machine.

    An address can come from a file that somebody wrote: one that was never used here is not asked for, of anybody.
    """
    url = url_of(Path(address))
    if url is None:
        return Path(address)
    with suppress(BadInputError):  # its package is missing: then its files were not here either
        if not any(_url_in(home / _NAME) == url for home in homes()):
            return Path(address)
        home, folder = place_of(url, RemoteFolder(url).endpoint)
        if (home / _NAME).exists():
            return folder
    return Path(address)


def _note_of(home: Path, name: str) -> Path:
    return home / _REMOVED / f"{sha256(name.encode(errors='surrogateescape')).hexdigest()[:32]}.json"


@cache
def _url_in(index: Path) -> str:
    return Index.read(index.parent).url
