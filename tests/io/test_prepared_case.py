"""A case is written whole, and in place of no other."""

from pathlib import Path

import pytest

from tests.io.test_store import case, make
from viscera.core.errors import BadInputError


def test_no_case_takes_the_place_of_one_whose_name_differs_in_capitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system takes both for one: a Mac's, Windows', exFAT of a disk that travels."""
    store = make(tmp_path / "s", "P1")
    really_exists = Path.exists

    def exists(path: Path) -> bool:
        if really_exists(path) or not really_exists(path.parent):
            return really_exists(path)
        return any(each.name.casefold() == path.name.casefold() for each in path.parent.iterdir())

    with monkeypatch.context() as insensitive:
        insensitive.setattr(Path, "exists", exists)
        with pytest.raises(BadInputError, match=r"cases/p1: a case is there whose name differs .* capitals alone"):
            store.add(case("p1", liver_voxels=2))
        store.add(case("P1", liver_voxels=2))
        store.add(case("p2"))
    store.verify(["P1", "p2"])
    store.add(case("p1"))  # where they are two
    store.verify(["P1", "p1"])


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    (tmp_path / "s" / "cases" / "a").mkdir(parents=True)
    store.add(case("a"))
    store.verify(["a"])
