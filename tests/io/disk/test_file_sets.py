"""Files that belong together get their names all or not at all, whenever the process dies."""

import shutil
from pathlib import Path

import pytest

from torture.write_calls import Died, Fault, WriteCalls
from viscera.core.errors import BadInputError
from viscera.io.disk.file_sets import finish, notes_in, together
from viscera.io.files import write_text
from viscera.io.records import read_csv, write_csv, write_json, write_record
from viscera.io.remote.mirror_index import remove
from viscera.io.verifying.integrity import checks_of

OLD = {"a.txt": "old a", "gone.txt": "old", "sub/b.txt": "old b"}
NEW = {"a.txt": "new a", "new.txt": "new", "sub/b.txt": "new b"}


def visible(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(files)}


def change(folder: Path) -> None:
    with together(folder):
        for name, text in NEW.items():
            write_text(folder / name, text)
        remove(folder / "gone.txt")


def make_old(folder: Path) -> None:
    for name, text in OLD.items():
        write_text(folder / name, text)


def test_dying_at_any_call_leaves_the_old_ones_or_after_finishing_the_new_ones(tmp_path: Path) -> None:
    ends, number = [], 0
    while True:
        folder = tmp_path / str(number)
        make_old(folder)
        with WriteCalls(folder, Fault(number, "dies")).watching() as calls:
            try:
                change(folder)
            except Died:
                pass
            else:
                break
        before, notes = visible(folder), notes_in(folder)
        finish(folder)
        assert visible(folder) in (OLD, NEW)
        if not notes:
            assert before == visible(folder)
        ends.append(visible(folder) == NEW)
        assert notes_in(folder) == []
        number += 1
    assert ends == sorted(ends)  # old, then new: from the moment at which the note has its name
    assert 0 < sum(ends) < len(calls.calls)
    assert visible(folder) == NEW
    assert not [path for path in folder.rglob(".*") if not path.is_dir()]


@pytest.mark.parametrize("kind", ["full", "broken"])
def test_an_error_leaves_the_old_ones_and_nothing_hidden(tmp_path: Path, kind: str) -> None:
    with WriteCalls(tmp_path).watching() as calls:
        change(tmp_path)
    shutil.rmtree(tmp_path)
    make_old(tmp_path)
    at = max(number for number, call in enumerate(calls.calls) if call.what == "write")  # of the note
    with WriteCalls(tmp_path, Fault(at, kind)).watching(), pytest.raises(BadInputError):  # type: ignore[arg-type]
        change(tmp_path)
    assert visible(tmp_path) == OLD
    assert not list(tmp_path.rglob(".*"))
    change(tmp_path)
    assert visible(tmp_path) == NEW


def test_what_was_left_unfinished_is_finished_before_the_next_and_never_undoes_it(tmp_path: Path) -> None:
    make_old(tmp_path)
    with WriteCalls(tmp_path).watching() as calls:
        change(tmp_path)
    at = next(number for number, call in enumerate(calls.calls) if call.to == "a.txt")
    make_old(tmp_path)
    (tmp_path / "new.txt").unlink()
    with WriteCalls(tmp_path, Fault(at, "dies")).watching(), pytest.raises(Died):
        change(tmp_path)
    found = {check.path.name: check.run() for check in checks_of(tmp_path)}
    assert {each.state for each in found.values()} == {"unfinished"}
    assert sorted(found) == ["a.txt", "b.txt", "gone.txt", "new.txt"]
    assert "run the same command again" in found["a.txt"].what_to_do
    with together(tmp_path):
        write_text(tmp_path / "a.txt", "newest")
        write_text(tmp_path / "c.txt", "newest")
    assert visible(tmp_path) == NEW | {"a.txt": "newest", "c.txt": "newest"}


def test_one_file_needs_no_note_and_files_elsewhere_follow(tmp_path: Path) -> None:
    with WriteCalls(tmp_path).watching() as calls, together(tmp_path / "in"):
        write_text(tmp_path / "in" / "a.txt", "1")
        write_text(tmp_path / "out" / "b.txt", "2")
    assert [call.to for call in calls.calls if call.what == "rename"] == ["in/a.txt", "out/b.txt"]


def test_what_is_written_twice_is_written_once_and_reads_see_what_was_before(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with together(tmp_path):
        write_text(tmp_path / "a.txt", "first")
        with together(tmp_path):
            write_text(tmp_path / "a.txt", "second")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert visible(tmp_path) == {"a.txt": "second"}


def test_tables_and_their_checksums_come_and_go_together(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a"], [["1"]], checksum=True)
    with together(tmp_path):
        write_csv(tmp_path / "t.csv", ["a"], [["2"]], checksum=True)
        write_record(tmp_path / "r.json", {"a": 1})
    assert [check.run().state for check in checks_of(tmp_path)] == ["sound"] * 3
    assert read_csv(tmp_path / "t.csv") == [{"a": "2"}]
    with together(tmp_path):
        remove(tmp_path / "t.csv")
        write_record(tmp_path / "r.json", {"a": 2})
    assert sorted(visible(tmp_path)) == ["r.json"]


@pytest.mark.parametrize(
    "names",
    [
        {"../a": ".00000000-a"},
        {"/etc/a": ".00000000-a"},
        {"a": "../.00000000-a"},
        {"a": "b"},  # which would be any file's end
        {"../a": None},
        {"link/a": None},
        {"a\0": None},
        {"\ud800": ".00000000-a"},
        ["a"],
    ],
)
def test_a_note_that_leaves_its_folder_is_refused_by_name(tmp_path: Path, names: object) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "a").write_text("mine")
    (folder / "b").write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    note = folder / ".01234567-unfinished.json"
    write_json(note, names)
    with pytest.raises(BadInputError, match=r"\.01234567-unfinished\.json"):
        finish(folder)
    assert visible(tmp_path) == {"a": "mine", "in/b": "mine"}


def test_the_folders_of_new_files_are_on_the_disk_before_the_note_that_names_these(tmp_path: Path) -> None:
    """Else, when the power fails, some file systems know the note, and not the names that it mentions."""
    make_old(tmp_path)
    with WriteCalls(tmp_path).watching() as calls:
        change(tmp_path)
    told = [(call.what, call.path) for call in calls.calls]
    noted = next(at for at, call in enumerate(calls.calls) if call.to.endswith("unfinished.json"))
    assert ("fsync", "sub") in told[:noted]
