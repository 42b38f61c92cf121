"""The shim under all writes: what it counts, what it lets fail, and what passes it by and is found all the same."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from torture.write_calls import Died, Fault, WriteCalls, broken_rules, state_of
from viscera.io.files import put_folder, write_text


def counted(root: Path, write: Callable[[], object]) -> list[tuple[str, str]]:
    with WriteCalls(root).watching() as calls:
        write()
    return [(call.what, call.to or call.path) for call in calls.calls]


def test_every_way_of_python_to_change_the_disk_is_counted(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    ways: dict[str, Callable[[], object]] = {
        "open write": lambda: a.write_bytes(b"12"),
        "rename": lambda: a.rename(b),
        "link": lambda: os.link(b, a),
        "unlink": b.unlink,
        "open write open write": lambda: shutil.copyfile(a, b) and os.write(os.open(b, os.O_RDWR), b"3"),
        "mkdir": (tmp_path / "c").mkdir,
        "rmdir": (tmp_path / "c").rmdir,
        "truncate": lambda: os.truncate(b, 1),
        "unnamed": lambda: tempfile.TemporaryFile(dir=tmp_path).close(),
    }
    for expected, way in ways.items():
        found = [what for what, _ in counted(tmp_path, way)]
        assert found == expected.split()
    assert counted(tmp_path / "c", lambda: a.write_text("elsewhere")) == []


@pytest.mark.parametrize("at", range(6))
def test_after_its_death_a_process_changes_nothing(tmp_path: Path, at: int) -> None:
    """Opened, written by half, written, fsynced, renamed: the cleanup of `atomic_path` is of a living process."""
    path = tmp_path / "a.txt"
    write_text(path, "old!")
    with WriteCalls(tmp_path, Fault(at, "dies")).watching() as calls, pytest.raises(Died):
        write_text(path, "new!")
    assert [call.what for call in calls.calls] == ["mkdir", "open", "write", "fsync", "rename", "fsync"][: at + 1]
    assert path.read_text() == ("new!" if at == 5 else "old!")
    left = [each.read_text() for each in tmp_path.iterdir() if each != path]
    assert left == [[], [], ["ne"], ["new!"], ["new!"], []][at]


def test_a_full_disk_takes_nothing_more_and_a_broken_one_fails_once(tmp_path: Path) -> None:
    for kind, error in (("full", "No space left"), ("broken", "Input/output")):
        with WriteCalls(tmp_path, Fault(1, kind)).watching():  # type: ignore[arg-type]
            (tmp_path / "a").mkdir()
            with pytest.raises(OSError, match=error):
                (tmp_path / "b").mkdir()
            (tmp_path / "a").rename(tmp_path / "c")
            if kind == "broken":
                (tmp_path / "b").mkdir()
        shutil.rmtree(tmp_path / "c")


def broken(root: Path, write: Callable[[], object]) -> list[str]:
    before = state_of(root)
    with WriteCalls(root).watching() as calls:
        write()
    return broken_rules(calls, before, frozenset({"curve.jsonl"}))


def test_a_write_that_is_not_counted_is_found_on_the_disk(tmp_path: Path) -> None:
    """As of a library in C."""

    def write() -> None:
        connection = sqlite3.connect(tmp_path / ".x")
        connection.execute("create table a (b)")
        connection.close()
        (tmp_path / ".x").rename(tmp_path / "x")

    assert broken(tmp_path, write) == ["x: written by a call that was not counted"]


def test_a_half_file_that_readers_can_see_is_found(tmp_path: Path) -> None:
    assert "opened to be written under its own name" in broken(tmp_path, lambda: (tmp_path / "a").write_text("1"))[0]
    assert broken(tmp_path, lambda: (tmp_path / "curve.jsonl").write_text("1")) == []


def test_a_name_that_is_given_before_the_disk_has_the_file_is_found(tmp_path: Path) -> None:
    def write() -> None:
        (tmp_path / ".a").write_text("1")
        (tmp_path / ".a").rename(tmp_path / "a")

    def whole_folder() -> None:
        (tmp_path / ".b").mkdir()
        (tmp_path / ".b" / "c").write_text("1")
        (tmp_path / ".b").rename(tmp_path / "b")

    def checkpoint_before_its_curve() -> None:
        (tmp_path / "curve.jsonl").write_text("1")
        write_text(tmp_path / "last.pt", "1")

    assert broken(tmp_path, write) == ["a: in place before it was on the disk (.a)"]
    assert broken(tmp_path, whole_folder) == ["b: in place before it was on the disk (.b/c)"]
    assert broken(tmp_path, checkpoint_before_its_curve)[0].startswith("last.pt: in place before")


def test_what_goes_through_the_doors_breaks_no_rule(tmp_path: Path) -> None:
    def write() -> None:
        write_text(tmp_path / "a.txt", "new")
        (tmp_path / ".made").mkdir()
        (tmp_path / ".made" / "b").write_text("1")
        put_folder(tmp_path / ".made", tmp_path / "folder")
        (tmp_path / ".made").mkdir()
        put_folder(tmp_path / ".made", tmp_path / "folder")

    assert broken(tmp_path, write) == []
    assert list((tmp_path / "folder").iterdir()) == []
