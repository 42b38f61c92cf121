"""One part of many of the same work, as job arrays count them: `--shard 3/8`."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from viscera.core.errors import UsageError

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Part `number` of `total`, from 1 on."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From `3/8`; raises UsageError for anything else."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        number, total = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= total:
            raise UsageError(f"--shard {text}: part and number of parts were expected, for example 1/8 to 8/8.")
        return cls(number, total)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every `total`-th of things in order: all parts together are all of them, and each is in one."""
        return list(items[self.number - 1 :: self.total])
