"""Small parts of sentences: numbers of things (`1 case was`, `2 cases were`), and their end."""

from collections.abc import Sequence

_MOST_DIGITS = 6  # after the point, of numbers that are near each other


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 processes`, `3 patches`, `1,000 voxels`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number:,} {noun}{ending}"


def range_of(low: int, high: int) -> str:
    """`3`; `1 to 3` where they differ."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def agreeing(number: int, one: str = "is", several: str = "are") -> str:
    """The verb of so many things."""
    return one if number == 1 else several


def told_apart(numbers: Sequence[float], digits: int) -> list[str]:
    """Of a value and its bounds: with so many digits after the point, or as many more as it takes to print them apart.

    What differs by less than a millionth is printed alike.
    """
    different = len({round(number, _MOST_DIGITS) for number in numbers})
    for more in range(digits, _MOST_DIGITS + 1):
        texts = [f"{number:.{more}f}" for number in numbers]
        if len(set(texts)) >= different:
            return texts
    return texts


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b`; of many the first ones: `a, b, c, d, e and 14 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def sentence(text: str) -> str:
    """With a full stop at its end, unless it asks something."""
    return text if text.endswith(("?", ".")) else f"{text}."
