"""A fault at every call by which a command changes the disk: its process dies, the disk is full, or broken.

Afterwards every file is the old one or the new one, `viscera verify` finds nothing damaged, and the same command comes
to the same end, to the byte, as if nothing had happened.
"""

import random
import re
import time
from collections.abc import Iterator

from torture.commands import COMMANDS, Command
from torture.outcome import Outcome
from torture.stand import Ended, Stand, Whole, digests, unsound
from torture.write_calls import KINDS, Call, Fault, Kind

_TOKEN = re.compile(r"\.[0-9a-f]{8}-")  # of a hidden name
_KILLED = -9
_REFUSED = {0, 3}  # exit codes of a command whose write failed: it did without, or said so


def faults_of(calls: list[Call], kinds: tuple[Kind, ...] = KINDS) -> list[Fault]:
    """All of them."""
    return [Fault(at, kind) for kind in kinds for at, call in enumerate(calls) if kind != "full" or call.takes_space]


def in_turn(faults: list[Fault], calls: list[Call], order: random.Random) -> list[Fault]:
    """In an order of chance, but so that of every place one comes before any comes twice: a file has many writes."""
    shuffled, seen = order.sample(faults, len(faults)), dict[tuple[str, ...], int]()
    turns = []
    for fault in shuffled:
        place = place_of(fault, calls)
        turns.append((seen.setdefault(place, 0), fault))
        seen[place] += 1
    return [fault for _, fault in sorted(turns, key=lambda each: each[0])]


def place_of(fault: Fault, calls: list[Call]) -> tuple[str, ...]:
    """Where a fault is, without what differs from time to time in hidden names."""
    call = calls[fault.at]
    return fault.kind, call.what, *(_TOKEN.sub(".", each) for each in (call.path, call.to))


def after(stand: Stand, command: Command, whole: Whole, fault: Fault) -> Iterator[str]:
    """Injure a command by one fault; what is wrong then, in words that are enough to repeat it."""
    ended = stand.injured(command, fault)
    call = whole.calls[fault.at]
    where = f"{command.name}: {fault.kind} at {fault.at} of {len(whole.calls)} ({call.what} {call.path} {call.to})"
    found = (
        *_badly_ended(ended, fault),
        *left_behind(stand, command, whole, is_dead=fault.kind == "dies"),
        *run_again(stand, command, whole),
    )
    yield from (f"{where}: {what}" for what in found)


def run_again(stand: Stand, command: Command, whole: Whole) -> Iterator[str]:
    """Run a command again that was interrupted; how it ends otherwise than one that nothing disturbed."""
    again = stand.run(command.again)
    if again.code:
        yield f"run again, it ends with {again.code}: {again.text.strip()[-300:]}"
        return
    now = digests(stand.work)
    other = sorted(name for name in {*now, *whole.end} if now.get(name) != whole.end.get(name))
    if other:
        yield f"run again, these differ: {', '.join(other[:5])}"
    yield from (f"run again: {what}" for what in unsound(stand.work / command.looked_at))


def _badly_ended(ended: Ended, fault: Fault) -> Iterator[str]:
    if fault.kind == "dies":
        if ended.code != _KILLED:
            yield f"did not die, but ended with {ended.code}: {ended.text.strip()[-300:]}"
    elif ended.code not in _REFUSED or "Traceback" in ended.text:
        yield f"ended with {ended.code}: {ended.text.strip()[-600:]}"
    elif ended.code and "viscera: " not in ended.text:
        yield f"ended with {ended.code} and said nothing"


def left_behind(stand: Stand, command: Command, whole: Whole, *, is_dead: bool) -> Iterator[str]:
    """What is neither old nor new after a command was interrupted, or damaged; what it noted is called unfinished."""
    found = unsound(stand.work / command.looked_at)
    unfinished = [each for each in found if ": unfinished (" in each]
    if is_dead and not unfinished:
        yield from stand.neither_old_nor_new(command, whole)
    yield from (each for each in found if each not in unfinished and each not in whole.unsound)


def trial(seconds: float, seed: int) -> Outcome:
    """All faults of all commands, in an order of chance, until the time is over; each command has its share."""
    outcome, order = Outcome("faults"), random.Random(seed)
    calls, places, tried = 0, 0, 0
    end = time.monotonic() + seconds
    with Stand.opened() as stand:
        for number, command in enumerate(COMMANDS):
            until = time.monotonic() + (end - time.monotonic()) / (len(COMMANDS) - number)
            stand.begin(command)
            whole = stand.whole(command)
            outcome.failures += [f"{command.name}: {rule}" for rule in whole.rules]
            faults = in_turn(faults_of(whole.calls), whole.calls, order)
            calls += len(whole.calls)
            places += len({place_of(each, whole.calls) for each in faults})
            done = set[tuple[str, ...]]()
            for fault in faults:
                if time.monotonic() > until:
                    break
                began = time.monotonic()
                wrong = list(after(stand, command, whole, fault))
                done.add(place_of(fault, whole.calls))
                outcome.faults += 1
                outcome.lost += bool(wrong)
                outcome.failures += wrong
                outcome.worst_s = max(outcome.worst_s, time.monotonic() - began)
            tried += len(done)
    outcome.figures = {
        "commands": str(len(COMMANDS)),
        "calls that change the disk": f"{calls:,}",
        "places for a fault": f"{tried:,} of {places:,} tried",
    }
    return outcome
