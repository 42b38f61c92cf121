"""Durations and amounts of memory as people write them: `2h`, `1h30m`, `8GiB`."""

import re

from viscera.core.errors import BadInputError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    f"{prefix}{end}": base**power
    for end, base in (("B", 1000.0), ("iB", 1024.0))
    for power, prefix in enumerate(("k", "M", "G", "T"), start=1)
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*")


def seconds_of(text: str) -> float:
    """Seconds of a duration: a number and `s`, `m` (or `min`), `h` or `d`, or several of these.

    Raises BadInputError for anything else, and for nothing at all.
    """
    total, at = 0.0, 0
    while part := _PART.match(text.strip(), at):
        if part[2].lower() not in _SECONDS:
            break
        total, at = total + float(part[1]) * _SECONDS[part[2].lower()], part.end()
    if at < len(text.strip()) or total <= 0:
        raise BadInputError(f"'{text}': a duration was expected, as 2h, 30m, 45s, 1d or 1h30m.")
    return total


def bytes_of(text: str) -> float:
    """Bytes of an amount of memory: a number and `GiB` or `MiB` (powers of 1024), or `GB` or `MB` (of 1000).

    Raises BadInputError for anything else, and for nothing at all.
    """
    units = {unit.lower(): size for unit, size in _BYTES.items()}
    part = _PART.fullmatch(text.strip())
    size = float(part[1]) * units.get(part[2].lower(), 0.0) if part else 0.0
    if size <= 0:
        raise BadInputError(f"'{text}': an amount of memory was expected, as 8GiB, 8GB or 500MiB.")
    return size


def duration_text(seconds: float) -> str:
    """For people, to two units: `45 s`, `1 min 30 s`, `2 h 5 min`, `1 d 3 h`."""
    left = round(seconds) if seconds < _SECONDS["h"] else 60 * round(seconds / 60)
    if seconds < 10:
        return f"{seconds:.2g} s"
    parts = list[tuple[int, str]]()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts:
            parts.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def memory_text(size: float) -> str:
    """For people: `1.5 GiB`, `300 MiB`."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
