"""Writing that never leaves half a file."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.files import atomic_path, exclusive, write_text


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


def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    """The kernel refuses to write more than 1000 bytes: every writer says so and leaves what was there."""
    script = f"""
import signal, resource, sys
from pathlib import Path
import numpy as np, torch
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.io.files import write_text, atomic_path
from viscera.io.nifti import write_labels
folder = Path({str(tmp_path)!r})
write_text(folder / "a.txt", "old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
labels = np.random.default_rng(0).integers(0, 8, (30, 30, 30)).astype(np.uint8)
writers = [
    lambda: write_text(folder / "a.txt", "new" * 1000),
    lambda: write_labels(folder / "b.nii.gz", LabelMap(labels, Geometry((30, 30, 30), np.eye(4)))),
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
        "import sys; from pathlib import Path; from viscera.io.files import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})): pass"
    )
    with exclusive(tmp_path):
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "another process is working on it" in other.stderr
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
