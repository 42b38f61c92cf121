"""A few of the faults of `make torture`, at the places where they hurt; and no command writes past the shim."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from torture.commands import COMMANDS
from torture.faults import after, faults_of, in_turn
from torture.stand import Stand
from torture.write_calls import Call, Fault
from viscera.cli.app import app

HERE = {  # command → the call at which its process dies
    "prepare again": lambda call: call.to == "store/manifest.json",  # the case is there, the manifest not
    "train": lambda call: call.to == "run/training_ranges.json",  # with the last checkpoint
    "predict": lambda call: call.to.endswith(".probabilities.nii.gz"),  # of three files one
    "evaluate again": lambda call: call.to == "scored/scores.csv",
    "export again": lambda call: call.what == "exchange",
    "correct again": lambda call: call.to.startswith("out/corrections/labelsTr/"),
}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Stand.opened(forks=False) as opened:
        yield opened


@pytest.mark.parametrize("name", HERE)
def test_a_command_that_dies_leaves_the_old_or_the_new_and_comes_to_the_same_end(stand: Stand, name: str) -> None:
    command = next(each for each in COMMANDS if each.name == name)
    stand.begin(command)
    whole = stand.whole(command)
    assert whole.rules == []
    at = max(number for number, call in enumerate(whole.calls) if HERE[name](call))
    assert list(after(stand, command, whole, Fault(at, "dies"))) == []


def test_a_full_disk_takes_only_what_needs_space() -> None:
    calls = [Call("open", "a"), Call("rename", "a", "b")]
    assert faults_of(calls) == [
        Fault(0, "dies"),
        Fault(1, "dies"),
        Fault(0, "full"),
        Fault(0, "broken"),
        Fault(1, "broken"),
    ]


def test_of_every_place_one_fault_comes_before_any_comes_twice() -> None:
    """The name of a hidden file is another each time, and a large file has many writes."""
    calls = [Call("write", f"a/.{number:08x}-b") for number in range(50)] + [Call("write", "c")]
    turns = in_turn(faults_of(calls, ("dies",)), calls, random.Random(0))  # noqa: S311 - no secret
    assert Fault(50, "dies") in turns[:2]
    assert sorted(turns, key=lambda fault: fault.at) == faults_of(calls, ("dies",))


def test_every_command_that_writes_is_injured() -> None:
    """A new one gets its place; what only prints has nothing to lose, and `view` saves corrections."""
    group: Any = get_command(app)
    only_print = {"config", "nnunet-path", "power", "series", "verify"}
    injured = {command.name.split()[0] for command in COMMANDS}
    assert {"correct" if name == "view" else name for name in group.commands.keys() - only_print} == injured - {"fuse"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_command_writes_through_the_shim_and_is_the_same_twice(stand: Stand, command: object) -> None:
    (own,) = (each for each in COMMANDS if each == command)
    stand.begin(own)
    whole = stand.whole(own)
    assert whole.rules == []
    assert stand.whole(own).end == whole.end
