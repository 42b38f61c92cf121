"""Whoever looks whether a folder is held keeps nobody from holding it, and is taken by nobody for a process at work."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from viscera.io.disk.folder_lock import alone_in, alone_with, exclusive, is_held

_LOOKS = """
import sys
from pathlib import Path
from viscera.io.disk.folder_lock import is_held
print("looks", flush=True)
while True:
    is_held(Path(sys.argv[1]))
"""


@pytest.fixture
def looked_at(tmp_path: Path) -> Iterator[Path]:
    """A folder at which another process looks all the time, as `viscera verify` looks now and then."""
    (tmp_path / ".lock").touch()
    with subprocess.Popen([sys.executable, "-c", _LOOKS, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield tmp_path
        other.kill()


def test_no_command_is_refused_by_who_only_looks(looked_at: Path) -> None:
    for _ in range(1000):
        with exclusive(looked_at), alone_with(looked_at / "a"), alone_in(looked_at, "predict"):
            pass
        with exclusive(looked_at, lock=".b.lock", beside_others=True):
            pass


def test_two_processes_that_look_take_each_other_for_nobody(looked_at: Path) -> None:
    assert not any(is_held(looked_at) for _ in range(3000))
    with exclusive(looked_at):
        assert is_held(looked_at)
