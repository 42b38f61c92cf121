"""Commands where little is allowed: `make torture` calls all of them in all places, here are some of each kind."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from torture.harsh_cells import BAD_INPUT, DONE, FAILED, Cell, Command, Grounds
from torture.harsh_places import ALL, PLACES, cells_of
from viscera.io.store import Store

Call = Callable[..., Cell]


@pytest.fixture(scope="module")
def grounds(tiny_raw: Path, tiny_store: Store, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    found = Grounds(tmp_path_factory.mktemp("harsh"))
    for name, folder in (("data", tiny_raw), ("store", tiny_store.path), ("run", tiny_run)):
        shutil.copytree(folder, found.given / name)
    return found


@pytest.fixture
def call(grounds: Grounds) -> Call:
    """A command in a place: nothing may be wrong with it."""

    def in_place(command: str | Command, place: str, needed: int = 0) -> Cell:
        named = command if isinstance(command, Command) else ALL[command]
        cell = grounds.cell(named, PLACES[place], needed)
        if cell.skipped:
            pytest.skip(f"no such place on this machine: {cell.skipped}")
        assert cell.wrong == ()
        return cell

    return in_place


def test_a_full_disk_keeps_what_was_there_and_the_next_call_does_the_work(call: Call) -> None:
    cell = call("train on", "a disk with 10% of the room", 100_000)
    assert cell.ended.code == BAD_INPUT
    assert re.search(
        r"\.pt: the disk is full \(No space left on device.* what was there before is unchanged", cell.said
    )


def test_a_network_for_other_programs_that_finds_no_room_is_a_sentence(call: Call) -> None:
    """PyTorch's own file ended the process with a signal, and left half of what was written."""
    bundle = Command("export {given}/run {disk}/exported --to monai-bundle", makes=("exported",))
    assert call(bundle, "a disk with 50% of the room", 110_000).ended.code == BAD_INPUT


def test_files_of_others_are_bad_input_and_not_wrong_usage(call: Call) -> None:
    assert call(Command("verify {disk}/run/last.pt", needs=("run",)), "files of others").ended.code == BAD_INPUT


def test_few_files_that_may_be_open(call: Call) -> None:
    cell = call("train on", "6 files")
    assert cell.ended.code == FAILED
    assert "too many open files. Allow more, as by `ulimit -n 1024`" in cell.said  # and nothing is called damaged


@pytest.mark.slow
@pytest.mark.parametrize("place", ["no more processes", "64 files", "no standard streams"])
def test_a_training_does_without(call: Call, place: str) -> None:
    assert call("train on", place).ended.code == DONE


def test_every_place_is_one_of_some_commands() -> None:
    places = {place for _, place in cells_of()}
    assert places == set(PLACES)
    assert {command for command, _ in cells_of()} == set(ALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    return Grounds(tmp_path_factory.mktemp("whole")).make()


@pytest.mark.slow
@pytest.mark.parametrize("place", [place for place in PLACES if place != "as usual"])
def test_train_predict_and_study_everywhere(whole: Grounds, place: str) -> None:
    for name in ("train", "predict again", "study of more"):
        if name in PLACES[place].commands:
            assert whole.cell(ALL[name], PLACES[place], 200_000).wrong == ()
