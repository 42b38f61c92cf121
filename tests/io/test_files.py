"""Writing that never leaves half a file."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io import files
from viscera.io.disk.folder_lock import alone_in, alone_with, exclusive, is_held
from viscera.io.files import atomic_path, is_occupied, put_folder, remove_leftovers, sha256, write_text


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with contextlib.suppress(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "file.txt"
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(target)
    for text in ("new", "newer"):
        write_text(tmp_path / "first", text)
        assert target.read_text() == text
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInputError, match=r"file\.txt: the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_all_be_appended_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The kernel writes what there is room for, and refuses the rest; nothing of it is written later."""
    script = f"""
import gc, resource, signal
from pathlib import Path
from viscera.io.files import append
path = Path({str(tmp_path / "curve")!r})
append(path, b"first\\n")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    append(path, b"second " * 10)
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
gc.collect()
append(path, b"third\\n")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "File too large\n"
    assert (tmp_path / "curve").read_text() == "first\nthird\n"


def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    """The kernel refuses to write more than 1000 bytes: every writer says so and leaves what was there."""
    script = f"""
import signal, resource, sys
from pathlib import Path
import numpy as np
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.io.files import write_text, atomic_path
from viscera.io.nifti import write_nifti
folder = Path({str(tmp_path)!r})
write_text(folder / "a.txt", "old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
labels = np.random.default_rng(0).integers(0, 8, (30, 30, 30)).astype(np.uint8)
writers = [
    lambda: write_text(folder / "a.txt", "new" * 1000),
    lambda: write_nifti(folder / "b.nii.gz", LabelMap(labels, Geometry((30, 30, 30), np.eye(4)))),
]
for write in writers:
    try:
        write()
    except BadInputError as error:
        assert "the disk is full" in str(error), error
    else:
        sys.exit("written in spite of the limit")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from viscera.io.disk.folder_lock import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})): pass"
    )
    with exclusive(tmp_path):
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "another process is working on it" in other.stderr
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.ESTALE])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    """Lustre without `-o flock`, some NFS: files say who works there."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):
        with exclusive(tmp_path):
            (tmp_path / "a").touch()
            with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
                pass
    assert caplog.messages == []


def test_the_lock_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").touch()
    really_open = os.open

    def refuse_writing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_writing)
    with exclusive(tmp_path), pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
        pass
    (tmp_path / ".lock").unlink()
    with pytest.raises(BadInputError, match="Permission denied"), exclusive(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EIO])
@pytest.mark.parametrize("folders_only", [True, False])
def test_a_file_system_that_cannot_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, folders_only: bool
) -> None:
    really_sync = os.fsync

    def refuse(descriptor: int) -> None:
        if not folders_only or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        really_sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if code == errno.EIO and not folders_only:  # what is written may be lost
        with pytest.raises(BadInputError, match=r"a\.txt: cannot be written"):
            write_text(tmp_path / "a.txt", "new")
    else:
        write_text(tmp_path / "a.txt", "new")
        assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_that_may_not_be_read_can_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drop box, and on Windows any: its own entry cannot be opened, hence not synced."""
    really_open = os.open

    def refuse_folders(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    whole = made(tmp_path / ".made", "new")
    monkeypatch.setattr(os, "open", refuse_folders)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    put_folder(whole, tmp_path / "folder")
    assert (tmp_path / "folder" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("letter", ["n", "é"])
def test_names_as_long_as_they_may_be(tmp_path: Path, letter: str) -> None:
    """255 bytes; the temporary name is no longer."""
    longest = letter * ((255 - 7) // len(letter.encode())) + ".nii.gz"
    with atomic_path(tmp_path / longest) as temporary:
        temporary.write_text("new")
        assert len(temporary.name.encode()) <= 255
        assert temporary.name.endswith(".nii.gz")
    assert (tmp_path / longest).read_text() == "new"
    with exclusive(tmp_path / longest[:-7]):
        pass
    began = False
    with pytest.raises(BadInputError, match="no name this long"), atomic_path(tmp_path / (letter + longest)):
        began = True
    assert not began  # told before the work, not after
    with pytest.raises(BadInputError, match="no name this long"), exclusive(tmp_path / ("n" * 300)):
        pass
    with pytest.raises(BadInputError, match="cannot be read"):
        sha256(tmp_path / ("n" * 300))
    with pytest.raises(BadInputError, match="no name this long"):
        is_occupied(tmp_path / ("n" * 300))


def test_a_rename_that_does_not_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return really_replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    for text in ("old", "new"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


def test_windows_replaces_a_file_once_who_reads_it_has_closed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_replace, refused = Path.replace, 0

    def refuse_twice(path: Path, target: Path) -> Path:
        nonlocal refused
        if target.exists() and refused < 2:
            refused += 1
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_replace(path, target)

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(Path, "replace", refuse_twice)
    with pytest.raises(BadInputError, match="cannot be written"):  # elsewhere it is not permitted
        write_text(tmp_path / "a.txt", "new")
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files, "_LETS_GO_AFTER_SECONDS", (0.0, 0.0))
    write_text(tmp_path / "a.txt", "new")
    assert ((tmp_path / "a.txt").read_text(), refused) == ("new", 2)


def test_a_folder_that_appears_only_after_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS another machine has just made it: it cannot be made, and is not seen yet."""
    really_make, failures = Path.mkdir, [FileExistsError(errno.EEXIST, "File exists")] * 2

    def make(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if failures:
            raise failures.pop()
        really_make(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr("time.sleep", lambda _: None)
    write_text(tmp_path / "folder" / "a.txt", "new")
    assert (tmp_path / "folder" / "a.txt").read_text() == "new"
    with pytest.raises(BadInputError, match="cannot be written"):
        write_text(tmp_path / "folder" / "a.txt" / "b.txt", "a file is no folder")


def test_what_file_managers_leave_does_not_occupy_a_folder(tmp_path: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", ".lock", ".nfs000000005bd1", "._a.nii"):
        (tmp_path / name).touch()
    (tmp_path / "lost+found").mkdir()
    assert not is_occupied(tmp_path)
    assert not is_occupied(tmp_path / "new")
    (tmp_path / "mine.txt").touch()
    assert is_occupied(tmp_path)


def made(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    return folder


@pytest.mark.parametrize("code", [0, errno.ENOSYS, errno.EINVAL])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Also where names cannot be exchanged."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if code:
        monkeypatch.setattr("viscera.io.disk.exchanged_names.exchange", refuse)
    for text in ("old", "new"):
        put_folder(made(tmp_path / ".made", text), tmp_path / "folder")
        assert (tmp_path / "folder" / "a.txt").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_has_come_there_meanwhile_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # it looked a moment before
    put_folder(tmp_path / "made", tmp_path / "there")
    assert {path.name: (path / "file").read_text() for path in tmp_path.iterdir()} == {"there": "made"}


def test_where_a_folder_cannot_take_the_place_the_other_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_folder(made(tmp_path / ".made", "old"), tmp_path / "folder")
    made(tmp_path / ".made", "new")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("viscera.io.disk.exchanged_names.exchange", refuse)
        with pytest.raises(OSError, match="Input/output"):
            put_folder(tmp_path / ".made", tmp_path / "folder")
    assert (tmp_path / "folder" / "a.txt").read_text() == "old"


def test_what_killed_processes_left_of_a_file_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name in (".0123abcd-last.pt", ".0123abcd-best.pt", ".0123abcd-other-last.pt", ".last.pt", "last.pt"):
        (tmp_path / name).touch()
    made(tmp_path / ".89ab0123-last.pt", "a folder")
    remove_leftovers(tmp_path, {"last.pt"})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".0123abcd-best.pt", ".0123abcd-other-last.pt", ".last.pt", "last.pt"]
    remove_leftovers(tmp_path / "nowhere", {"last.pt"})


def test_a_file_is_held_by_one_process_and_its_lock_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with alone_with(path):
        assert is_held(tmp_path)
        with pytest.raises(BadInputError, match=r"a\.csv: another process is working on it"), alone_with(path):
            pass
        with alone_with(tmp_path / "b.csv"), exclusive(tmp_path):
            pass
    assert [each.name for each in tmp_path.iterdir()] == [".lock"]
    assert not is_held(tmp_path)
    with alone_with(path):
        pass


def test_several_hold_a_purpose_beside_each_other_and_none_alone_meanwhile(tmp_path: Path) -> None:
    with alone_in(tmp_path, "predict", beside_others=True), alone_in(tmp_path, "predict", beside_others=True):
        with pytest.raises(BadInputError, match="another process"), alone_in(tmp_path, "predict"):
            pass
        with alone_in(tmp_path, "evaluation"):
            pass
    with alone_in(tmp_path, "predict"), pytest.raises(BadInputError), alone_in(tmp_path, "predict", beside_others=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_deleted_while_it_was_waited_for_is_taken_anew(tmp_path: Path) -> None:
    """Its file has no name any more, so that a third process would take another for the same."""
    path, inodes = tmp_path / "a", []
    first = alone_with(path)
    first.__enter__()
    waiting = threading.Thread(target=lambda: inodes.append(_held_inode(path)))
    waiting.start()
    time.sleep(0.02)
    first.__exit__(None, None, None)
    waiting.join()
    assert inodes == [True]


def _held_inode(path: Path) -> bool:
    with alone_with(path, wait_s=5):
        return path.with_name(".a.lock").exists()


def test_threads_that_look_take_each_other_for_nobody(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        pass
    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(is_held, [tmp_path] * 400))
