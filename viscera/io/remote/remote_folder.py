"""The door to fsspec: files below a URL, each whole or absent there, and what goes wrong as one sentence.

What may pass (a cut connection, an overloaded server) is tried again for about a minute; nothing waits for ever.
Credentials are found by fsspec and its packages: in the environment and in their own configuration files.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from viscera.core.addresses import refuse_secrets, without_secrets
from viscera.core.errors import BadInputError, VisceraError
from viscera.io.files import is_full_disk, reading, writing

Result = TypeVar("Result")
UNKNOWN = -1  # bytes
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each further try
_CONNECT_S, _READ_S = 10, 60
_S3 = ("s3", "s3a")
_OBJECT_STORES = {*_S3, "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "tos"}  # a file sent is whole or absent there
_STAMPS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "checksum")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
_PASSES = {"ConnectionError", "HTTPClientError", "ResponseParserError", "ClientError", "HTTPException", "SSHException"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"}
_NOBODY = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ClientConnectorError",
    "ConnectionRefusedError",
    "gaierror",
}
_LASTING = (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_LASTING_NUMBERS = {errno.ENAMETOOLONG, errno.EPERM, errno.ENOSYS, getattr(errno, "EREMCHG", errno.ENOSYS)}
_MOST_SAID = 200  # characters of what others say
_MARK = ".viscera-writable"
PART_LISTS = {command: f".{command}_parts.json" for command in ("prepare", "predict", "evaluate")}
_KEPT = {".started_by", ".started_from", *PART_LISTS.values()}  # of a run, and of a job array: hidden, but a part of it


class RemoteFile(NamedTuple):
    """What a store says of a file."""

    size: int  # bytes; -1 where the store does not say
    stamp: str  # another one for another content: the store's checksum, or when it was written


class RemoteFolder:
    """The files below a URL; their names are relative to it."""

    def __init__(self, url: str) -> None:
        """Raises BadInputError for a kind of URL that is unknown, or whose package is not installed."""
        refuse_secrets(url)
        if {".", ".."} & set(url.split("/")):
            raise BadInputError(f"{url}: `.` and `..` mean nothing in a URL. Give the name itself.")
        self.url = url
        scheme = url.partition("://")[0]
        self._puts_whole = scheme in _OBJECT_STORES
        try:
            place = scheme if scheme in _S3 else url
            self._fs = _file_system(place, os.getpid(), _settings())
            self._root = str(self._fs._strip_protocol(url)).rstrip("/")  # noqa: SLF001 - named so, but documented
        except ImportError as error:
            remedy = "pip install 'viscera[s3]'" if scheme in _S3 else without_secrets(str(error))
            raise BadInputError(f"{url}: the package for {scheme}:// is not installed: {remedy}") from error
        except Exception as error:
            raise self._explained(error, "reached") from error
        self.streams = 4 if getattr(self._fs, "async_impl", False) else 1  # files that may come at the same time

    @property
    def endpoint(self) -> str:
        """Where the store is, if it is not where its kind usually is."""
        given = getattr(getattr(self, "_fs", None), "endpoint_url", None)
        return without_secrets(given or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", ""))

    def is_file(self) -> bool:
        """Whether the URL itself is that of a file; raises BadInputError where it is that of a folder as well."""
        found = self._look("", "read")
        is_folder = found is not None and bool(self.files())
        if found and is_folder and found.size:
            raise BadInputError(f"{self.url}: this is a file and a folder. Rename one of them there.")
        return found is not None and not is_folder

    def files(self, *, is_deep: bool = True) -> dict[str, RemoteFile]:
        """All files by name, those of folders within too if `is_deep`; none where nothing is there.

        Left out are hidden files, and the empty objects that stand for folders. Raises BadInputError for a name that
        is none of a file: with `..`, with two slashes, of a file that is a folder as well.
        """

        def listed() -> list[dict[str, Any]]:
            self._fs.invalidate_cache()
            try:
                if is_deep:
                    return list(self._fs.find(self._root, detail=True).values())
                return [each for each in self._fs.ls(self._root, detail=True) if each["type"] == "file"]
            except (FileNotFoundError, NotADirectoryError) as error:
                if _is_no_bucket(error):
                    raise
                return []

        found = dict[str, RemoteFile]()
        for info in self._tried("read", listed):
            name = self._relative(info["name"])
            if name and not is_hidden(name) and not (name.endswith("/") and not info.get("size")):
                found[name] = _file_of(info)
        folders = {name[:at] for name in found for at, letter in enumerate(name) if letter == "/"}
        for name in found:
            if any(part in {"", ".", ".."} for part in name.split("/")) or name in folders or "\0" in name:
                why = "a folder as well" if name in folders else "no name of a file"
                raise BadInputError(f"{self.url}: it holds {name!r}, which is {why}. Rename it there.")
        return found

    def look(self, name: str) -> RemoteFile | None:
        """What is said of one file; None where it is not there."""
        return self._look(name, "read")

    def fetch(self, name: str, expected: RemoteFile, to: Path, on_bytes: Callable[[int], None]) -> None:
        """Copy a file from there, whole; raises BadInputError where it is not the one that was expected (any more)."""
        from fsspec.callbacks import Callback  # noqa: PLC0415 - slow

        class Counted(Callback):  # type: ignore[misc]
            def relative_update(self, inc: int = 1) -> None:
                on_bytes(inc)

        with writing(to):
            to.write_bytes(b"")  # what is not permitted from here on is not permitted there

        def copy() -> None:
            self._fs.get_file(self._at(name), str(to), callback=Counted())
            size = to.stat().st_size
            if expected.size not in {size, UNKNOWN}:
                raise ConnectionError(f"{size} of {expected.size} bytes came")

        self._tried("read", copy, name)
        if md5_of(to) != expected.stamp and self._look(name, "read") != expected:
            raise BadInputError(f"{self.url}/{name}: it changed while it was fetched. Run the same command again.")

    def send(self, source: Path, name: str) -> RemoteFile:
        """Copy a file to there; whatever fails, what was there is as before."""
        size = source.stat().st_size

        def copy() -> RemoteFile:
            if self._puts_whole:
                self._fs.put_file(str(source), self._at(name))
            else:
                self._put_beside(source, self._at(name))
            now = self._looked_up(name)
            if now is None or now.size != size:
                raise ConnectionError(f"{size} bytes were sent, and {now.size if now else 0} are there")
            return now

        return self._tried("written", copy, name)

    def remove(self, name: str) -> None:
        """Delete a file there."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._at(name))

        self._tried("written", remove, name)

    def refuse_unwritable(self) -> None:
        """Raise BadInputError where nothing may be written: before days of work, not after."""

        def mark() -> None:
            if not self._puts_whole:
                self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(self._at(_MARK), b"")

        self._tried("written", mark)
        with contextlib.suppress(Exception):  # some may write, and not delete
            self._fs.rm_file(self._at(_MARK))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _relative(self, path: str) -> str:
        root, path = self._root.lstrip("/"), path.lstrip("/")
        if path.rstrip("/") == root:
            return ""
        return path[len(root) + 1 :] if path.startswith(f"{root}/") else f"../{path}"

    def _look(self, name: str, what: str) -> RemoteFile | None:
        return self._tried(what, lambda: self._looked_up(name), name)

    def _looked_up(self, name: str) -> RemoteFile | None:
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(self._at(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            if _is_no_bucket(error):
                raise
            return None
        return _file_of(info) if info["type"] == "file" else None

    def _put_beside(self, source: Path, target: str) -> None:
        """Send a file under a hidden name, and rename it there."""
        folder, _, last = target.rpartition("/")
        temporary = f"{folder}/.{secrets.token_hex(4)}-{last}"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.put_file(str(source), temporary)
            if self._fs.info(temporary)["size"] == source.stat().st_size:
                self._rename(temporary, target)
        finally:
            with contextlib.suppress(Exception):  # gone, but where something failed
                self._fs.rm_file(temporary)

    def _rename(self, temporary: str, target: str) -> None:
        try:
            self._fs.mv(temporary, target)
        except FileExistsError:  # where a rename does not replace
            self._fs.rm_file(target)
            self._fs.mv(temporary, target)

    def _tried(self, what: str, action: Callable[[], Result], name: str = "") -> Result:
        """Do something, several times if need be; what keeps failing becomes a BadInputError."""
        for wait_s in (*_WAITS_S, None):
            try:
                return action()
            except VisceraError:
                raise
            except Exception as error:
                if wait_s is None or not _may_pass(error):
                    raise self._explained(error, what, name) from error
                time.sleep(wait_s)
        raise AssertionError  # unreachable

    def _explained(self, error: Exception, what: str, name: str = "") -> BadInputError:
        """The sentence for what a store, or the way to it, answers; `what` it could not be: read, or written."""
        said = without_secrets(" ".join(str(error).split()))[:_MOST_SAID] or type(error).__name__
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if is_full_disk(error):
            why = f"the disk of the cache is full ({said}). Free some space there."
        elif kinds & _NO_CREDENTIALS:
            why = (
                f"no credentials were found ({said}). Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
                "for what everybody may read, FSSPEC_S3_ANON=true."
            )
        elif _is_no_bucket(error):
            why = "there is no such bucket. Check its name, AWS_ENDPOINT_URL_S3 and AWS_REGION."
        elif isinstance(error, PermissionError):
            doing, must = ("writing", "get, put and delete") if what == "written" else ("reading", "list and get")
            why = (
                f"{doing} is not permitted ({said}). Check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID), and that "
                f"they may {must} objects there."
            )
        elif isinstance(error, FileNotFoundError):
            why = "there is no such file. Was it deleted just now?"
        elif kinds & _NOBODY:
            at = f" at {self.endpoint}" if self.endpoint else ""
            why = f"nobody answers{at} ({said}). Check the network and AWS_ENDPOINT_URL_S3."
        elif isinstance(error, ValueError) and "Protocol not known" in said:
            why = "no such kind of address is known. Give s3://bucket/name, or a path."
        else:
            why = f"cannot be {what} ({said}). Check the address and the network, and try again."
        return BadInputError(f"{self.url}/{name}: {why}" if name else f"{self.url}: {why}")


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, is of those that stay where they are: locks, files half written."""
    return any(part.startswith(".") and part not in {".", "..", *_KEPT} for part in name.split("/"))


def md5_of(path: Path) -> str:
    """The checksum of a file that most object stores show of it, as hex."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@lru_cache(maxsize=8)
def _file_system(place: str, _process: int, _environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401 - untyped
    """What fsspec has for a scheme, or a URL where the host is a part of it; making it takes most of a second.

    It has time-outs, and remembers no listings. None is used in another process, or with other credentials.
    """
    import fsspec  # noqa: PLC0415 - an extra, and slow

    if place not in _S3:
        options = {"timeout": _CONNECT_S} if place.startswith(("sftp:", "ssh:")) else {}
        return fsspec.url_to_fs(place, skip_instance_cache=True, **options)[0]
    theirs = {key: value for each in _S3 for key, value in fsspec.config.conf.get(each, {}).items()}
    config = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"total_max_attempts": 1}}
    ours = {"max_concurrency": 4} | theirs | {"config_kwargs": config | theirs.get("config_kwargs", {})}
    made = fsspec.filesystem(place, skip_instance_cache=True, use_listings_cache=False, **ours)
    made.retries = 1  # `_tried` tries again
    return made


def _settings() -> tuple[tuple[str, str], ...]:
    """What packages read from the environment."""
    return tuple(sorted(each for each in os.environ.items() if each[0].startswith(("AWS_", "FSSPEC_"))))


def _file_of(info: Mapping[str, Any]) -> RemoteFile:
    checksum = next((str(info[key]) for key in _STAMPS if info.get(key)), None)
    written = next((info[key] for key in _TIMES if info.get(key)), "")
    size = info.get("size")
    return RemoteFile(UNKNOWN if size is None else int(size), checksum.strip('"') if checksum else _time_of(written))


def _time_of(written: datetime | float | str) -> str:
    """A time in one form: some stores tell the same one in several."""
    with contextlib.suppress(ValueError):
        if isinstance(written, str):
            written = datetime.fromisoformat(written)
        if isinstance(written, datetime):
            written = (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
        return f"{written:.6f}"
    return str(written)


def _is_no_bucket(error: Exception) -> bool:
    """Whether not the file is missing, but what it would be in."""
    said = f"{error} {error.__cause__}"
    return isinstance(error, FileNotFoundError) and ("NoSuchBucket" in said or "bucket does not exist" in said)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING) and error.errno not in _LASTING_NUMBERS and not is_full_disk(error)
    return bool({kind.__name__ for kind in type(error).__mro__} & _PASSES)
