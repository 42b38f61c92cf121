"""Options of benchmarks that take several values."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """A `type` for argparse: values between commas, each read by `kind`, which raises ValueError for others."""
    return lambda text: [kind(part) for part in text.split(",")]
