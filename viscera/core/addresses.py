"""URLs given in place of paths: what is one, and what must never be shown of it."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from viscera.core.errors import BadInputError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)  # a path has lost one of the slashes
_OF_THIS_MACHINE = {"file", "local"}
_USER = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(?<=\S)\?[^\s\"')]*[=&][^\s\"')]*")
_SECRET = re.compile(  # names in the environment, or in what FSSPEC_S3 and its like hold
    r"(?:^|_)(?:secret|token|passw(?:or)?d|passphrase|access_key|account_key|sas|connection_string)(?:_|$)|^(?:fsspec_\w+_)?key$",
    re.IGNORECASE,
)
_LEAST = 4  # characters of a secret; shorter ones stand in many words


def url_of(path: Path) -> str | None:
    """The URL that an argument is, without a slash at its end; None for what is on this machine."""
    found = _URL.fullmatch(str(path))
    if found is None or found[1].lower() in _OF_THIS_MACHINE or os.path.lexists(path):
        return None
    return f"{found[1].lower()}://{found[2].rstrip('/')}"


def local_path(path: Path) -> Path:
    """A path of this machine that is written as a URL, `file:///folder`, as one; others as they are."""
    found = _URL.fullmatch(str(path))
    is_written_so = found is not None and found[1].lower() in _OF_THIS_MACHINE and not os.path.lexists(path)
    return Path("/" + found[2]) if found is not None and is_written_so else path


def refuse_secrets(url: str) -> None:
    """Raise BadInputError, which does not repeat it, for a URL with a password or a signature in it."""
    scheme, _, rest = url.partition("://")
    user, is_there, _ = rest.partition("/")[0].rpartition("@")
    if is_there and (":" in user or scheme in {"s3", "s3a"}):
        raise BadInputError(
            f"a URL {scheme}://… has a name and a password before its @, and would be recorded. Give it without them: "
            "credentials are taken from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
            "FSSPEC_…) and from the files of the AWS tools and of fsspec."
        )
    if "?" in rest:
        raise BadInputError(
            f"a URL {scheme}://… has a question mark, as those that are signed; such a one would be recorded. Give it "
            "without: credentials are taken from the environment."
        )


def _secrets(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        if _SECRET.search(name):
            yield str(value)
        elif name.startswith("FSSPEC_"):
            with contextlib.suppress(ValueError, AttributeError):
                yield from _secrets(json.loads(str(value)))


def without_secrets(text: str) -> str:
    """A message of another library, without the values of secrets in the environment, users and queries of URLs."""
    for value in sorted(_secrets(os.environ), key=len, reverse=True):
        if len(value) >= _LEAST:
            text = text.replace(value, "…")
    return _QUERY.sub("?…", _USER.sub("", text))
