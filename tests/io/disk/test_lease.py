"""Who holds what where the file system has no locks: one process at a time, of this machine or another."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.disk import lease
from viscera.io.disk.folder_lock import alone_in, alone_with, exclusive, is_held
from viscera.io.disk.lease import is_leased, leased


@pytest.fixture(autouse=True)
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre without `-o flock`, some NFS; and a machine is waited for for a moment only."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(lease, "DEAD_S", 0.3)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[threading.Event]:
    """A process of another machine that holds the folder, and lives until it is told to end."""
    path, ended = tmp_path / ".lock.0123abcd.lock", threading.Event()
    said = replace(lease._own_lease(shared=False), place="another machine")
    path.write_text(json.dumps(asdict(said)))
    beating = threading.Thread(target=lease._beat, args=(path, said, ended))
    beating.start()
    yield ended
    ended.set()
    beating.join()


def test_one_process_at_a_time_and_nothing_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with exclusive(tmp_path):
            assert is_held(tmp_path)
            with pytest.raises(BadInputError, match="another process is working on it"), exclusive(tmp_path):
                pass
            with alone_with(tmp_path / "a[1]*.csv"), alone_in(tmp_path, "evaluation"):
                pass
    assert not is_held(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert caplog.messages == []


def test_several_hold_it_beside_each_other_and_none_alone_meanwhile(tmp_path: Path) -> None:
    together = exclusive(tmp_path, beside_others=True), exclusive(tmp_path, beside_others=True)
    with together[0], together[1], pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path), pytest.raises(BadInputError), exclusive(tmp_path, beside_others=True):
        pass


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    with leased(tmp_path / ".lock", wait_s=0, shared=False):
        pass
    first = leased(tmp_path / ".lock", wait_s=0, shared=False)
    first.__enter__()
    threading.Timer(0.1, first.__exit__, (None, None, None)).start()
    with leased(tmp_path / ".lock", wait_s=10, shared=False):
        pass


def test_a_process_of_this_machine_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """Nor does another that has its number since."""
    script = (
        "import os, signal, sys; from pathlib import Path; from viscera.io.disk.lease import leased\n"
        f"held = leased(Path({str(tmp_path / '.lock')!r}), wait_s=0, shared=False)\n"
        "held.__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(tmp_path.glob(".lock.????????.lock"))) == 1
    assert not is_leased(tmp_path / ".lock")
    said = replace(lease._own_lease(shared=False), began="long ago")
    (tmp_path / ".lock.0123abcd.lock").write_text(json.dumps(asdict(said)))
    with exclusive(tmp_path):
        pass


def test_a_process_of_another_machine_is_refused_while_it_lives_and_forgotten_afterwards(
    tmp_path: Path, elsewhere: threading.Event
) -> None:
    with pytest.raises(BadInputError, match="another process is working on it"), exclusive(tmp_path):
        pass
    assert is_leased(tmp_path / ".lock")
    elsewhere.set()
    with exclusive(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, elsewhere: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not elsewhere.is_set()
    monkeypatch.setattr(time, "time", lambda: -1e9)
    for path in tmp_path.iterdir():
        os.utime(path, (4e9, 4e9))
    with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
        pass


def test_a_turn_that_a_killed_process_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".lock.turn.lock").mkdir()
    with exclusive(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("said", ["", "[" * 100_000, "[]", '{"place": 1}', "{own}"])
def test_what_is_no_word_of_a_holder_holds_nothing(tmp_path: Path, said: str) -> None:
    """A number of a process that is a path would have another file read than that of a process."""
    own = asdict(lease._own_lease(shared=False)) | {"process": f"self/task/{os.getpid()}"}
    (tmp_path / ".lock.0123abcd.lock").write_text(json.dumps(own) if said == "{own}" else said)
    assert not is_held(tmp_path)
    with exclusive(tmp_path):
        assert is_held(tmp_path)


def test_who_holds_a_folder_on_a_full_disk_is_not_taken_for_dead(
    tmp_path: Path, elsewhere: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lease, "_say", full)
    time.sleep(0.2)
    with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path, wait_s=0.8):
        pass
    assert not elsewhere.is_set()


def test_a_process_that_stood_still_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with exclusive(tmp_path):
        next(tmp_path.glob(".lock.????????.lock")).unlink()  # by another that took it for dead
        time.sleep(0.25)
    assert "this process stood still, and another may work there now" in caplog.text


def test_where_no_file_can_be_written_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(lease, "_say", refuse)
    for _ in range(2):
        with exclusive(tmp_path):
            pass
    assert [message for message in caplog.messages if "its file system has no locks" in message] == caplog.messages
    assert len(caplog.messages) == 1
