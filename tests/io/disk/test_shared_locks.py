"""Locks of a folder that several users share, and on NFS."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.disk.folder_lock import alone_with, exclusive, is_held


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS locks: alone only for who has opened the file to write (flock(2), "NFS details")."""
    really_lock = fcntl.flock

    def lock(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        really_lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock)


@pytest.mark.usefixtures("nfs")
def test_on_nfs_whoever_looks_sees_who_holds_a_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)
    with exclusive(tmp_path, beside_others=True):
        assert is_held(tmp_path)


@pytest.mark.usefixtures("nfs")
def test_on_nfs_users_of_one_folder_keep_each_other_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's file is of the first, and the other may only read it."""
    first = exclusive(tmp_path)
    first.__enter__()
    really_open = os.open

    def refuse_writing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and Path(path).name == ".lock":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    with monkeypatch.context() as other:
        other.setattr(os, "open", refuse_writing)
        with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
            pass
        assert is_held(tmp_path)
        first.__exit__(None, None, None)
        second = exclusive(tmp_path)
        second.__enter__()
        with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
            pass
    with pytest.raises(BadInputError, match="another process"), exclusive(tmp_path):
        pass
    second.__exit__(None, None, None)
    with exclusive(tmp_path):
        pass


def test_a_lock_that_may_not_be_deleted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's in a folder like /tmp; on Windows any that is open."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as there:
        there.setattr(Path, "unlink", refuse)
        with alone_with(tmp_path / "a"):
            pass
    with alone_with(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
