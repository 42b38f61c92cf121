"""How far a piece of work is: one shape for every stage."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a job is, for people.

    Attributes:
        job: what runs: `prepare`, `uniform_lr0.001 seed 0 train`.
        done, total: cases or steps.
        detail: where it is: the name of a case, the newest loss.
    """

    job: str
    done: int
    total: int
    detail: str = ""


OnProgress = Callable[[Progress], None]


def unseen(_progress: Progress) -> None:
    """Show nothing."""
