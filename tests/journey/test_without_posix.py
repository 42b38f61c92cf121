"""The journey where Python has no `fcntl`, no `resource` and what else Windows lacks, in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.command_line import TINY

HIDDEN = ("fcntl", "resource", "pwd", "grp", "termios", "tty")
SCRIPT = f"""
import errno, os, signal, sys
for name in {HIDDEN!r}:
    sys.modules[name] = None
for name in ("sched_getaffinity", "sysconf", "getloadavg", "getuid", "fork", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGXFSZ", "pthread_sigmask"):
    delattr(signal, name)
from viscera.cli import main
"""
ROOT = Path(__file__).parents[2]


def called(folder: Path, *commands: Sequence[object], before: str = "") -> "subprocess.CompletedProcess[str]":
    """Commands, one after the other until one fails, in a process that has none of these."""
    lines = [["viscera", *map(str, each)] for each in commands]
    calls = f"""
for sys.argv in {lines!r}:
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
    start = [sys.executable, "-c", before + SCRIPT + calls]
    return subprocess.run(start, cwd=folder, capture_output=True, text=True, check=False)


def test_no_module_that_windows_lacks_is_imported_at_the_top() -> None:
    lacking = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "viscera").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from ")) and line.split()[1].partition(".")[0] in HIDDEN
    ]
    assert not lacking


def test_prepare_train_predict(tiny_raw: Path, tmp_path: Path) -> None:
    done = called(
        tmp_path,
        ("prepare", tiny_raw, "store", "--downsample", 1, "--test-fraction", 0.2),
        ("train", "store", "run", *TINY),
        ("predict", "run", tiny_raw / "imagesTr" / "case_0_0000.nii.gz", "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "no locks" not in done.stderr  # files say who holds what (`io.disk.lease`), and are gone afterwards
    assert [path.name for path in (tmp_path / "store").glob(".lock*")] == [".lock"]
    assert (tmp_path / "out" / "case_0.nii.gz").exists()
    assert (tmp_path / "run" / "last.pt").exists()


LOCKER = """
import sys, types
class AlreadyLocked(Exception): pass
class Flags:
    SHARED, EXCLUSIVE, NON_BLOCKING = 1, 2, 4
def lock(descriptor, flags):
    print("locked with", flags, file=sys.stderr)
    if flags == 6:
        raise AlreadyLocked("by another")
sys.modules["portalocker"] = types.SimpleNamespace(AlreadyLocked=AlreadyLocked, LockFlags=Flags, lock=lock)
"""


def test_locks_are_portalockers_there(tiny_raw: Path, tmp_path: Path) -> None:
    done = called(tmp_path, ("prepare", tiny_raw, "store", "--downsample", 1), before=LOCKER)
    assert done.returncode == 3
    assert "locked with 6" in done.stderr
    assert "another process is working on it" in done.stderr


def test_portalocker_itself_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of this machine, which goes by fcntl: what it is called with, and what it raises."""
    portalocker = pytest.importorskip("portalocker", reason="portalocker is a dependency on Windows alone")
    from viscera.io.disk import file_lock  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "portalocker", portalocker)
    with (tmp_path / "a").open("w") as one, (tmp_path / "a").open("w") as two:
        file_lock._by_portalocker(one.fileno(), shared=True)
        file_lock._by_portalocker(two.fileno(), shared=True)
        with pytest.raises(BlockingIOError):
            file_lock._by_portalocker(two.fileno(), shared=False)
