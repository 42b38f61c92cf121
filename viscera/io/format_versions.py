"""Artifacts of other versions of viscera: older ones are read, newer ones refused by name."""

from pathlib import Path

from viscera.core.errors import BadInputError

EXPORT_VERSION = 1  # of `export.json`


class NewerFormatError(BadInputError):
    """A newer viscera wrote it, and may have meant by it what this one does not know."""


def refuse_newer(path: Path, found: object, known: int) -> None:
    """Raise NewerFormatError where a file is of a later format version than the last that is known here.

    Files of before the first version that was written down have none.
    """
    if isinstance(found, int) and found > known:
        raise NewerFormatError(
            f"{path}: format version {found}, expected {known} or earlier: a newer viscera wrote it. "
            "Install that one: pip install --upgrade viscera."
        )
