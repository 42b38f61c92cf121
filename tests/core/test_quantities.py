"""Durations and amounts of memory, by hand."""

import pytest

from viscera.core.errors import BadInputError
from viscera.core.quantities import bytes_of, duration_text, memory_text, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("30 min", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5H", 1800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 fortnights", "h", "-1h", "0s", "2h half", "1e3s", "nan h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(BadInputError, match="a duration was expected, as 2h, 30m, 45s"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * 2**30), ("8GB", 8e9), ("500 MiB", 500 * 2**20), ("1.5gib", 1.5 * 2**30), ("64kB", 64e3)],
)
def test_memory(text: str, size: float) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "8", "8G", "8 parsecs", "GiB", "0GiB", "-1GB"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(BadInputError, match="an amount of memory was expected, as 8GiB"):
        bytes_of(text)


def test_texts() -> None:
    assert [duration_text(s) for s in (0.25, 45, 90, 3599.9, 7500, 97200)] == [
        *("0.25 s", "45 s", "1 min 30 s", "1 h", "2 h 5 min", "1 d 3 h"),
    ]
    assert [memory_text(size) for size in (1.5 * 2**30, 300 * 2**20)] == ["1.5 GiB", "300 MiB"]
