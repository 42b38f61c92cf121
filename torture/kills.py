"""Processes of every command, killed with SIGKILL at moments of chance, and run again.

Afterwards every file is the old one or the new one, and the same command comes to the same bytes as if nothing had
happened. A command with workers is killed with them, or without: these end by themselves, and the next waits for them.
"""

import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torture.commands import COMMANDS, SIDE_BY_SIDE, Command
from torture.faults import left_behind, run_again
from torture.outcome import Outcome
from torture.stand import Stand, Whole

_KILLED = -9
LEAST = 20  # of each command, before its end
_WITH_WORKERS = "stud", "fuse", SIDE_BY_SIDE.name
_ENDS_IN_S = 60


def after(stand: Stand, command: Command, whole: Whole, after_s: float, *, with_all: bool) -> tuple[int, list[str]]:
    """Kill a command after a time; its exit code, and what is wrong then."""
    code, started = stand.killed(command, after_s, with_all=with_all)
    found = list(_found(stand, command, whole, with_all=with_all))
    if not ended(started):
        found.append(f"{len(processes_of(started))} of its processes are at work {_ENDS_IN_S} s later")
    where = f"{command.name}: killed{' alone' * (not with_all)} after {after_s:.4f} s"
    return code, [f"{where}: {what}" for what in found]


def _found(stand: Stand, command: Command, whole: Whole, *, with_all: bool) -> Iterator[str]:
    if with_all:  # else its workers are still at work
        yield from left_behind(stand, command, whole, is_dead=True)
    yield from run_again(stand, command, whole)


def processes_of(session: int) -> list[int]:
    """What is left of the processes of a command; those that have ended and wait to be asked for do not count."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of, *_ = each.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(of) == session and state != "Z":
                found.append(int(each.parent.name))
    return found


def ended(session: int) -> bool:
    """Whether all processes of a command that was killed end, too."""
    until = time.monotonic() + _ENDS_IN_S
    while left := processes_of(session):
        if time.monotonic() > until:
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


@dataclass
class Moments:
    """Seconds from the start of a command, before its end: as often near one of its writes as anywhere."""

    takes_s: float  # the command, as far as is known: a machine has other work, now more and now less
    writes: Sequence[float]  # parts of that time
    order: random.Random

    @classmethod
    def of(cls, stand: Stand, command: Command, whole: Whole, order: random.Random) -> "Moments":
        """Those of a command, whose time is measured."""
        began = time.monotonic()
        stand.set_back()
        stand.run(command.run)
        last = max(whole.times, default=1.0)
        return cls(time.monotonic() - began, [each / last for each in whole.times] or [1.0], order)

    def next(self, number: int) -> float:
        """The next."""
        if number % 2:
            return max(0.0, self.order.choice(self.writes) * self.takes_s + self.order.uniform(-0.002, 0.01))
        return self.order.uniform(0, self.takes_s)

    def learn(self, after_s: float, *, is_late: bool) -> None:
        """Whether the command had ended at a moment."""
        if is_late:
            self.takes_s = min(self.takes_s, after_s) * 0.95
        elif after_s > 0.9 * self.takes_s:
            self.takes_s *= 1.05


def trial(seconds: float, seed: int) -> Outcome:
    """At least 20 kills of each command before its end, and more while there is time."""
    outcome, order = Outcome("kills"), random.Random(seed)
    commands = *COMMANDS, SIDE_BY_SIDE
    end, in_time, least = time.monotonic() + seconds, 0, 4 * LEAST
    with Stand.opened() as stand:
        stand.in_one_process = False
        for number, command in enumerate(commands):
            until = time.monotonic() + (end - time.monotonic()) / (len(commands) - number)
            stand.begin(command)
            stand.in_one_process = True
            whole = stand.whole(command)
            stand.in_one_process = False
            tried, killed, moments = 0, 0, Moments.of(stand, command, whole, order)
            while (killed < LEAST and tried < 4 * LEAST) or time.monotonic() < until:
                began, after_s = time.monotonic(), moments.next(tried)
                with_all = not _has_workers(command) or tried // 2 % 2 == 0
                code, wrong = after(stand, command, whole, after_s, with_all=with_all)
                moments.learn(after_s, is_late=code != _KILLED)
                tried += 1
                killed += code == _KILLED
                outcome.lost += bool(wrong)
                outcome.failures += wrong
                outcome.worst_s = max(outcome.worst_s, time.monotonic() - began)
            outcome.faults += tried
            in_time += killed
            least = min(least, killed)
            if killed < LEAST:
                outcome.failures.append(f"{command.name}: of {tried} kills only {killed} were before its end")
    outcome.figures = {
        "commands": str(len(commands)),
        "kills of each, at least": str(least),
        "killed before the end": f"{in_time:,}",
    }
    return outcome


def _has_workers(command: Command) -> bool:
    return command.name.startswith(_WITH_WORKERS)
