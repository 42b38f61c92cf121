"""Pseudonyms of cases, and the key file that alone says whose they are.

A pseudonym is made from the case's name and a secret: the same for the same name, in every command that is given the
same key file, and nothing to anyone without it. KEYFILE, JSON that only its owner can read (mode 0600):

format, version   what it is
secret            256 random bits, as hex
cases             pseudonym to name, of all cases that were met
"""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import zipfile
from base64 import b32encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import Field

from viscera.core.errors import BadInputError
from viscera.core.hidden_names import HiddenNames
from viscera.core.settings import Settings
from viscera.io.disk.folder_lock import TURN_S, alone_with
from viscera.io.files import atomic_path, open_file, reading, remove_leftovers
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.layout_table import LAYOUTS
from viscera.io.records import read_json, validated
from viscera.io.seals import sealed_json

log = logging.getLogger(__name__)
_FORMAT = "viscera pseudonyms"
_LETTERS = 10  # of 32: 50 bits, so that two of a million cases share one with a probability of 0.0004
_PSEUDONYM = re.compile(rf"p_[a-z2-7]{{{_LETTERS}}}")
_BEGINNING = 1024  # bytes, in which a key file says that it is one
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
Said = TypeVar("Said")


class HasPath(Protocol):
    """What lies in a file."""

    @property
    def path(self) -> Path:
        """The file."""
        ...


Named = TypeVar("Named", bound=HasPath)


class _KeyFile(Settings):
    format: Literal["viscera pseudonyms"]
    version: Literal[1]
    secret: str = Field(pattern=r"^[0-9a-f]{64}$")
    cases: dict[str, str] = Field(default_factory=dict)


class Pseudonyms:
    """What cases are called instead; `names` are hidden in messages."""

    def __init__(self, path: Path, content: _KeyFile) -> None:
        self.path, self._content = path, content
        self.hidden_names = HiddenNames()

    @classmethod
    def open(
        cls, path: Path, apart_from: Sequence[Path] = (), key_id: str | None = None, *, is_there: bool = False
    ) -> "Pseudonyms":
        """Read a key file, or make one unless it has to be there.

        `apart_from` are artifacts that it must not travel with; `key_id` is that of the key by which one was made.

        Raises BadInputError for a file that is no key file, that others can read, that lies in an artifact or in no
        folder that there is, or that is not the one of that `key_id`. That one is made is logged.
        """
        for folder in apart_from:
            if _is_within(path, folder):
                raise BadInputError(
                    f"{path}: the key file lies in {folder}, and would travel with it. Give a path outside, where only "
                    "you can read."
                )
        if is_there and not path.exists():
            raise BadInputError(f"{path}: there is no such key file. Give the one that the predictions were made with.")
        if key_id is not None and not path.exists():
            raise BadInputError(f"{path}: there is no such key file; the one with the key {key_id} was expected.")
        if not path.absolute().parent.is_dir():
            raise BadInputError(f"{path}: there is no folder {path.parent}. Make it, or correct the path.")
        if path.exists():  # before a lock is put beside what is something else
            _refuse_other_file(path)
        with _alone_with(path) as file:
            remove_leftovers(file.parent, {file.name})  # the secret is in no other
            if not path.exists():
                _write(path, _KeyFile(format=_FORMAT, version=1, secret=secrets.token_hex(32)))
                log.warning(
                    "%s is a new key file; keep a copy of it: without it nobody can tell whose cases these are.", path
                )
            found = cls(path, _read(path))
        if key_id is not None and found.key_id != key_id:
            raise BadInputError(
                f"{path}: this key file has the key {found.key_id}; the one with the key {key_id} was expected. With "
                "another, cases would get new pseudonyms."
            )
        return found

    @property
    def key_id(self) -> str:
        """Twelve digits that tell key files apart, and nothing of the secret."""
        return self._digest(b"key", "")[:6].hex()

    def of(self, name: str) -> str:
        """The pseudonym of a case's name; of a pseudonym itself."""
        if name in self._content.cases:
            return name
        return f"p_{b32encode(self._digest(b'case', name)).decode().lower()[:_LETTERS]}"

    def _digest(self, purpose: bytes, text: str) -> bytes:
        secret = bytes.fromhex(self._content.secret)
        return hmac.new(secret, purpose + b"\0" + text.encode(errors="surrogateescape"), hashlib.sha256).digest()

    def remember(self, names: Iterable[str]) -> None:
        """Write whose pseudonyms these are; raises BadInputError where two cases would share one."""
        asked = sorted({name for name in names if name not in self._content.cases})
        new = {self.of(name): _written(name) for name in asked}
        if len(new) < len(asked):
            raise BadInputError(f"{self.path}: two cases would share a pseudonym. Take a new key file.")
        with _alone_with(self.path):
            known = _read(self.path)
            for pseudonym, name in new.items():
                if known.cases.get(pseudonym, name) != name:
                    raise BadInputError(
                        f"{self.path}: two cases would share the pseudonym {pseudonym}. Take a new key file."
                    )
            if not new.items() <= known.cases.items():
                known = known.model_copy(update={"cases": dict(sorted((known.cases | new).items()))})
                _write(self.path, known)
            self._content = known
        self.hidden_names.add_names({name: self.of(name) for name in asked})

    def of_cases(self, cases: Sequence[CaseSource]) -> list[CaseSource]:
        """The same under their pseudonyms, and in the order of these; names of files are hidden in messages."""
        self.remember(case.name for case in cases)
        found = [case.under(self.of(case.name)) for case in cases]
        for case in found:
            self.hidden_names.add_names({path.name: f"{case.name} ({name})" for name, path in case.files.items()})
        return sorted(found, key=lambda case: case.name)

    def of_files(self, references: Mapping[str, Named]) -> dict[str, Named]:
        """Label maps by case, by pseudonym; names of files are hidden in messages."""
        self.remember(references)
        found = self.renamed(references)
        self.hidden_names.add_names({each.path.name: f"{name} (labels)" for name, each in found.items()})
        return found

    def others_of(self, names: Iterable[str]) -> int:
        """How many of these are no pseudonyms of cases that were met."""
        return sum(name not in self._content.cases for name in names)

    def refuse_others(self, names: Iterable[str]) -> None:
        """Raise BadInputError where these are no pseudonyms of cases that were met."""
        if others := self.others_of(names):
            raise BadInputError(
                f"{self.path}: {others} of the predictions are not called by its pseudonyms. Predict with --pseudonyms "
                f"{self.path}, or evaluate without."
            )

    def renamed(self, values: Mapping[str, Said]) -> dict[str, Said]:
        """Values by case, by pseudonym."""
        return {self.of(name): value for name, value in values.items()}

    def told(self, text: str) -> str:
        """A message without names of cases, files and folders."""
        return self.hidden_names.told(text)


@contextmanager
def pseudonymous(keys: Pseudonyms | None, source: Path) -> Iterator[None]:
    """Within, neither log nor errors name what lies at a source: cases are called by their pseudonyms."""
    if keys is None:
        yield
        return
    names = keys.hidden_names
    names.add_others(partial(_names_within, source))
    names.add_names(dict.fromkeys((source.absolute().name, source.resolve().name), "SOURCE"))
    names.add_place(source, "SOURCE")
    with names.hidden():
        yield


def _names_within(source: Path) -> Iterator[str]:
    """All names of files and folders at a source, those in a zip file too; but for those that layouts give."""
    places = [place for layout in LAYOUTS.values() for place in layout.places]
    usual = {part for place in places for part in f"{place.scan}/{place.labels}/{place.masks}".split("/")}
    usual |= {name for layout in LAYOUTS.values() for name in layout.names_in}
    yield from (name for name in _all_names_within(source) if name not in usual)


def _all_names_within(source: Path) -> Iterator[str]:
    with suppress(OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):  # the reader says it
        if source.is_file() and zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                yield from (part for name in archive.namelist() for part in name.split("/"))
        for _, folders, files in os.walk(source, followlinks=True):
            yield from folders
            yield from files


@contextmanager
def _alone_with(path: Path) -> Iterator[Path]:
    """Hold a key file, by whichever link it was given: what two processes add at once must not be lost."""
    file = Path(os.path.realpath(path))
    with alone_with(file, wait_s=TURN_S):
        yield file


def _is_within(path: Path, folder: Path) -> bool:
    here, there = (Path(os.path.realpath(each)) for each in (path, folder))
    return here == there or there in here.parents


def _written(name: str) -> str:
    """A name as JSON can hold it: bytes that are no UTF-8 with backslashes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def is_pseudonym(name: str) -> bool:
    """Whether a case is called as some key file calls cases."""
    return _PSEUDONYM.fullmatch(name) is not None


def _refuse_other_file(path: Path) -> None:
    with open_file(path) as file, reading(path):
        is_key_file = _FORMAT.encode() in file.read(_BEGINNING)
    if not is_key_file:
        raise BadInputError(f"{path}: this is not a key file of pseudonyms. Give another name, and one is made there.")


def _read(path: Path) -> _KeyFile:
    _refuse_other_file(path)
    with open_file(path) as file, reading(path):
        mode = os.fstat(file.fileno()).st_mode
    if os.name == "posix" and mode & _OTHERS:
        raise BadInputError(
            f"{path}: others can read this key file (mode {stat.S_IMODE(mode):04o}). Take that from them with "
            f"`chmod 600 {path}`."
        )
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise BadInputError(f"{path}: this is not a key file of pseudonyms. Give another name, and one is made there.")
    return validated(_KeyFile, value, path, "Restore it from a copy: without it nobody can tell whose cases these are.")


def _write(path: Path, content: _KeyFile) -> None:
    """Atomically, and never readable by others, not for a moment."""
    with atomic_path(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed_json(json.dumps(content.model_dump(), indent=1) + "\n").encode())
