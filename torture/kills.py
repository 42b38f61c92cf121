"""Processes of every command, killed with SIGKILL at moments of chance, and run again.

Afterwards every file is the old one or the new one, and the same command comes to the same bytes as if nothing had
happened. A study is killed with its workers, or without: these end by themselves, and the next waits for them.
"""

import random
import time
from collections.abc import Iterator

from torture.commands import COMMANDS, Command
from torture.faults import left_behind, run_again
from torture.outcome import Outcome
from torture.stand import Stand, Whole

_KILLED = -9
LEAST = 20  # moments of each command
_WITH_WORKERS = "stud", "fuse"


def after(stand: Stand, command: Command, whole: Whole, after_s: float, *, with_all: bool) -> tuple[int, list[str]]:
    """Kill a command after a time; its exit code, and what is wrong then."""
    code = stand.killed(command, after_s, with_all=with_all)
    found = list(_found(stand, command, whole, with_all=with_all))
    where = f"{command.name}: killed{' alone' * (not with_all)} after {after_s:.4f} s"
    return code, [f"{where}: {what}" for what in found]


def _found(stand: Stand, command: Command, whole: Whole, *, with_all: bool) -> Iterator[str]:
    if with_all:  # else its workers are still at work
        yield from left_behind(stand, command, whole, is_dead=True)
    yield from run_again(stand, command, whole)


def moments(stand: Stand, command: Command, whole: Whole, order: random.Random) -> Iterator[float]:
    """Without end: seconds from the start of a command, before its end."""
    began = time.monotonic()
    stand.set_back()
    stand.run(command.run)
    takes = time.monotonic() - began
    first = min(whole.times, default=0.0)
    while True:  # as often near one of its writes as anywhere
        yield order.uniform(0, takes)
        yield max(0.0, order.choice(whole.times or [first]) + order.uniform(-0.002, 0.01))


def trial(seconds: float, seed: int) -> Outcome:
    """At least 20 kills of each command, and more while there is time."""
    outcome, order = Outcome("kills"), random.Random(seed)
    end, in_time, least = time.monotonic() + seconds, 0, LEAST
    with Stand.opened() as stand:
        stand.in_one_process = False
        for number, command in enumerate(COMMANDS):
            until = time.monotonic() + (end - time.monotonic()) / (len(COMMANDS) - number)
            stand.begin(command)
            stand.in_one_process = True
            whole = stand.whole(command)
            stand.in_one_process = False
            tried = 0
            for after_s in moments(stand, command, whole, order):
                if tried >= LEAST and time.monotonic() > until:
                    break
                began = time.monotonic()
                code, wrong = after(stand, command, whole, after_s, with_all=not (_has_workers(command) and tried % 2))
                tried += 1
                in_time += code == _KILLED
                outcome.lost += bool(wrong)
                outcome.failures += wrong
                outcome.worst_s = max(outcome.worst_s, time.monotonic() - began)
            outcome.faults += tried
            least = min(least, tried)
    outcome.figures = {
        "commands": str(len(COMMANDS)),
        "kills of each, at least": str(least),
        "killed before the end": f"{in_time:,}",
    }
    return outcome


def _has_workers(command: Command) -> bool:
    return command.name.startswith(_WITH_WORKERS)
