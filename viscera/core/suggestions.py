"""What was probably meant: the nearest of several names, and numbers as they are written elsewhere."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LEAST_LIKENESS = 0.6


def nearest(given: object, choices: Iterable[str]) -> str | None:
    """The choice that is most like what was given, capitals and hyphens aside; None where none is like it."""
    by_plain = {_plain(choice): choice for choice in choices}
    found = get_close_matches(_plain(str(given)), by_plain, 1, _LEAST_LIKENESS)
    return by_plain[found[0]] if found else None


def did_you_mean(given: object, choices: Iterable[str]) -> str:
    """A sentence after another one: ` Did you mean square?`; empty where no choice is like what was given."""
    found = nearest(given, choices)
    return f" Did you mean {found}?" if found else ""


def as_number(text: str) -> str | None:
    """The number that `0,01` or `20%` stands for, as it is written here; None for any other text."""
    if decimal := re.fullmatch(r"([+-]?\d+),(\d+)", text.strip()):
        return f"{decimal[1]}.{decimal[2]}"
    if share := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text.strip()):
        return f"{float(share[1]) / 100:g}"
    return None


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
