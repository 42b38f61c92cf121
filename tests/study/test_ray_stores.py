"""A store that a node of a Ray cluster does not reach: copied once, checked, and refused where it has changed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from viscera.core.errors import BadInputError
from viscera.io.store import Store
from viscera.study import ray_launcher
from viscera.study.ray_desk import Desk
from viscera.study.ray_launcher import _store_here


class Remote:
    """A desk as Ray hands it out; what it reads is noted."""

    def __init__(self, store: Path) -> None:
        self.read_files: list[str] = []
        desk = Desk(store)

        def read(file: str) -> bytes:
            self.read_files.append(file)
            return desk.read(file)

        self.read = SimpleNamespace(remote=read)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_launcher, "ray_module", lambda: SimpleNamespace(get=lambda value: value))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_store_that_is_there_is_used_as_it_is(tiny_store: Store) -> None:
    desk = Remote(tiny_store.path)
    assert _store_here(tiny_store.path, tiny_store.fingerprint, desk) == tiny_store.path
    assert desk.read_files == []


def test_another_one_travels_once_and_is_the_same_byte_by_byte(tiny_store: Store, tmp_path: Path) -> None:
    desk, elsewhere = Remote(tiny_store.path), tmp_path / "not here"
    copy = _store_here(elsewhere, tiny_store.fingerprint, desk)
    for file in (path for path in tiny_store.path.rglob("*") if path.is_file() and not path.name.startswith(".")):
        assert (copy / file.relative_to(tiny_store.path)).read_bytes() == file.read_bytes()
    Store.open(copy).verify(tiny_store.names())
    desk.read_files.clear()
    assert _store_here(elsewhere, tiny_store.fingerprint, desk) == copy
    assert desk.read_files == []


def test_one_that_has_changed_since_is_refused_and_not_kept(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="the store has changed since the study was started"):
        _store_here(tmp_path / "not here", "another", Remote(tiny_store.path))
    with pytest.raises(BadInputError, match="the store has changed"):
        _store_here(tmp_path / "not here", "another", Remote(tiny_store.path))
