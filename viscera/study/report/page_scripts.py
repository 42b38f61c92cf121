"""The page's scripts: files of this package, word for word, each allowed by its hash and nothing else."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import jinja2

OF_EVERY_PAGE = ("cursor.js", "page.js")
OF_SURFACES = ("ogl.js", "surfaces.js")  # where a page has surfaces that turn


class Script(NamedTuple):
    """A script inside the page."""

    text: str  # as in the file
    allowed: str  # its source expression in the Content-Security-Policy


def scripts_of(environment: jinja2.Environment, *, surfaces: bool) -> Sequence[Script]:
    """The scripts in the order in which they run; `surfaces`: whether the page has surfaces that turn."""
    names = (*OF_EVERY_PAGE, *(OF_SURFACES * surfaces))
    assert environment.loader is not None  # noqa: S101 - as `page_environment` made it
    texts = [environment.loader.get_source(environment, name)[0] for name in names]
    return [Script(text, f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'") for text in texts]
