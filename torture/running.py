"""One trial in a process of its own; the processes of `python -m torture` cannot import its `__main__`."""

import importlib
import time

from torture.outcome import Outcome


def run_trial(name: str, seconds: float, seed: int) -> Outcome:
    """Run one trial, in this process."""
    started = time.monotonic()
    outcome: Outcome = importlib.import_module(f"torture.{name}").trial(seconds, seed)
    outcome.seconds = time.monotonic() - started
    outcome.write()
    return outcome
