"""Messages as records keep them: records are handed on, and where somebody's folders lie is nobody else's business."""

import re
from collections.abc import Iterator
from pathlib import Path

from viscera.io.remote.mirror_index import address_of, with_addresses

_PATH = r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:/)?/"  # how an absolute path or a URL begins
_FIRST = re.compile(rf"^{_PATH}.*?(?=: )")  # messages begin with the file that they are about; it may have spaces
_WITHIN = re.compile(rf"(?<![^\s\"'(\[]){_PATH}[^\s\"',;:()\[\]]+")

_OF_A_CASE = re.compile(r"(?<=/cases/).+?/(?=(?:image|labels)\.npy)")  # in a store


def as_handed_on(text: str, *places: Path) -> str:
    """A message without absolute paths and URLs.

    Files in one of the `places` are called by the place's name and their path within it, others by their name alone.
    """
    text = with_addresses(text)
    forms = {form: name for place in places for form, name in _forms(place)}
    for form in sorted(forms, key=len, reverse=True):
        text = re.sub(rf"(?<![\w./~-]){re.escape(form)}(?!\.?[\w-])", forms[form].replace("\\", r"\\"), text)
    return _WITHIN.sub(_name, _FIRST.sub(_name, text))


def as_kept_in_run(text: str, run: Path, store: Path) -> str:
    """Why a training ended, as it stays with the run: likewise, and without the names of cases."""
    return _OF_A_CASE.sub("…/", as_handed_on(text, run, store))


def _forms(place: Path) -> Iterator[tuple[str, str]]:
    """How a message may call a place, and its name."""
    name = place.resolve().name
    for form in (str(place), str(place.absolute()), str(place.resolve()), address_of(place)):
        if len(Path(form).parts) > 1:
            yield form, name


def _name(path: re.Match[str]) -> str:
    return path[0].rstrip("/").rpartition("/")[2]
