"""How far a piece of work is, and whether it shall end: one shape for every stage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """How far a job is, for people."""

    job: str  # what runs: `prepare`, `uniform_lr0.001 seed 0 train`
    done: int  # cases or steps
    total: int
    detail: str = ""  # where it is: the name of a case, the newest loss


OnProgress = Callable[[Progress], None]


def unseen(_progress: Progress) -> None:
    """Show nothing."""


class StopSignal(Protocol):
    """Asked after each step whether to end; `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether to end."""
        ...
