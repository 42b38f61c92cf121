"""`VISCERA_CACHE_GB` bounds what all URLs hold here together: what goes for it, what stays, and what is refused."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from viscera.core.errors import BadInputError
from viscera.io.remote import cache_room
from viscera.io.remote.cache_room import in_use, is_shared, refuse, room
from viscera.io.remote.local_mirror import Mirror
from viscera.io.remote.mirror_index import homes, mirror_of
from viscera.io.remote.scan_by_scan import later_scans

pytest.importorskip("s3fs")
SIZE = 1000  # bytes of each store and scan


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two and a half stores."""
    monkeypatch.setenv("VISCERA_CACHE_GB", f"{2.5 * SIZE / 1e9:.9f}")


@pytest.fixture
def stores(store_of_objects: ObjectStore) -> list[Mirror]:
    """Four, of a kilobyte each."""
    for name in "abcd":
        store_of_objects.write(f"{name}/deep/file.npy", name.encode() * SIZE)
    return [Mirror(f"{store_of_objects.url}/{name}") for name in "abcd"]


def held(mirrors: list[Mirror]) -> str:
    """The stores that are here."""
    return "".join(each.folder.name for each in mirrors if any(each.folder.rglob("*.npy")))


def fetch(*mirrors: Mirror) -> None:
    """One after another; that one was used later than another is told by whole seconds."""
    for number, mirror in enumerate(mirrors, start=1):
        mirror.fetch()
        os.utime(mirror.home / "index.json", (number, number))


def test_the_store_that_was_used_longest_ago_goes_and_comes_again(
    stores: list[Mirror], caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c, _ = stores
    fetch(a, b)
    fetch(b, a)
    c.fetch()
    assert held(stores) == "ac"
    assert f"{b.url}: 1e-06 GB of it were deleted from the cache" in caplog.text
    assert mirror_of(b.url) == Path(b.url)  # as if it had never been here
    b.fetch()
    assert (b.folder / "deep" / "file.npy").read_bytes() == b"b" * SIZE
    assert sum(map(cache_room._size, homes())) <= 2.5 * SIZE


def test_without_a_bound_nothing_goes(stores: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISCERA_CACHE_GB")
    fetch(*stores)
    assert held(stores) == "abcd"


def test_what_a_command_uses_stays_and_another_goes(stores: list[Mirror]) -> None:
    a, b, c, d = stores
    fetch(a, b)
    with a.in_use(), a.in_use():
        c.fetch()
        assert held(stores) == "ac"
        with c.in_use(), pytest.raises(BadInputError) as refused:
            d.fetch()
    said = str(refused.value)
    assert said.startswith(f"{d.url}: 1e-06 GB are to be fetched, and {d.home} has room for 5e-07 GB")
    assert "VISCERA_CACHE_GB allows 2.5e-06 GB" in said
    assert f"1e-06 GB of {a.url}" in said
    assert f"1e-06 GB of {c.url}" in said
    d.fetch()  # both commands have ended
    assert "d" in held(stores)


def test_a_command_that_was_killed_uses_nothing(stores: list[Mirror]) -> None:
    a, b, c, _ = stores
    fetch(a, b)
    use = (
        "import os, sys; from pathlib import Path; from viscera.io.remote.cache_room import in_use\n"
        "with in_use(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", use, str(a.home)], check=False).returncode == -9
    c.fetch()
    assert held(stores) == "bc"


def test_results_that_were_not_sent_stay_and_what_was_sent_goes(
    store_of_objects: ObjectStore, stores: list[Mirror]
) -> None:
    out = Mirror(f"{store_of_objects.url}/out", is_output=True)
    out.fetch()
    for name in ("sent.npy", "changed.npy"):
        (out.folder / name).parent.mkdir(exist_ok=True)
        (out.folder / name).write_bytes(b"1" * 500)
    out.send()
    (out.folder / "changed.npy").write_bytes(b"2" * 500)
    (out.folder / "new.npy").write_bytes(b"3" * 500)
    os.utime(out.home / "index.json", (0, 0))
    fetch(*stores[:2])
    assert sorted(path.name for path in out.folder.iterdir()) == ["changed.npy", "new.npy"]
    assert store_of_objects.objects["out/sent.npy"] == b"1" * 500
    again = Mirror(out.url, is_output=True)
    assert again.send() == 2
    again.fetch()
    assert sorted(path.name for path in out.folder.iterdir()) == ["changed.npy", "new.npy", "sent.npy"]
    assert store_of_objects.objects["out/sent.npy"] == b"1" * 500


def test_what_a_command_at_work_writes_comes_on_top(store_of_objects: ObjectStore, stores: list[Mirror]) -> None:
    """It cannot be refused, and many results must not end a prediction of many scans; once it has ended, it counts."""
    out = Mirror(f"{store_of_objects.url}/out", is_output=True)
    with out.in_use():
        out.fetch()
        out.folder.mkdir()
        (out.folder / "result.npy").write_bytes(b"1" * 5 * SIZE)
        fetch(*stores[:2])
        assert held(stores) == "ab"
    with pytest.raises(BadInputError, match=f"not sent stays .5e-06 GB of {out.url}"):
        stores[2].fetch()
    out.send()
    fetch(*stores)
    assert held([*stores, out]) == "cd"


def test_what_is_here_is_never_too_much(stores: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is lowered deletes nothing by itself, and keeps nobody from what is here."""
    fetch(*stores[:2])
    monkeypatch.setenv("VISCERA_CACHE_GB", "1e-9")
    stores[0].fetch()
    assert held(stores) == "ab"


def test_scans_one_by_one_make_room_too_and_wait_for_those_of_another_url(
    store_of_objects: ObjectStore, stores: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCERA_CACHE_GB", f"{1.5 * SIZE / 1e9:.9f}")
    stores[0].fetch()
    for name in ("x/1.nii", "x/2.nii", "y/1.nii", "y/2.nii"):
        store_of_objects.write(name, b"s" * SIZE)
    x, y = (Mirror(f"{store_of_objects.url}/{name}", scan_by_scan=True) for name in "xy")
    with x.in_use(), y.in_use():
        x.fetch()
        y.fetch()
        one, other = (next(iter(later_scans(each.folder).values())) for each in (x, y))
        came = threading.Event()

        def use_other() -> None:
            with other.in_use():
                other.fetch()
                came.set()

        with one.in_use():
            one.fetch()
            assert held(stores) == ""
            assert is_shared(y.home)
            thread = threading.Thread(target=use_other)
            thread.start()
            assert not came.wait(0.5)
        assert came.wait(10)
        thread.join()


def test_a_scan_that_a_killed_process_left_goes(store_of_objects: ObjectStore, stores: list[Mirror]) -> None:
    for name in ("x/1.nii", "x/2.nii", "x/3.nii"):
        store_of_objects.write(name, b"s" * SIZE)
    x = Mirror(f"{store_of_objects.url}/x", scan_by_scan=True)
    x.fetch()
    for scan in list(later_scans(x.folder).values())[:2]:
        scan._fetch_now()
    stores[0].fetch()
    assert held(stores) == "a"
    assert not x.folder.exists()


@pytest.mark.parametrize("given", ["much", "-1", "nan", "1 GB"])
def test_a_bound_that_is_no_number(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCERA_CACHE_GB", given)
    with pytest.raises(BadInputError, match=rf"VISCERA_CACHE_GB={given}: a number of gigabytes was expected"):
        room(tmp_path, 1)


def test_the_disk_itself_is_a_bound(stores: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    stores[0].fetch()
    home, usage = stores[1].home, {"free": 500}
    home.mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), usage))
    assert room(home, 700) == 500  # what is here is not free any more, and within the bound
    with pytest.raises(BadInputError, match=r"has room for 5e-07 GB\. Free some space there, or set XDG_CACHE_HOME"):
        refuse(stores[1].url, home, 700, 500)
    usage["free"] = 5000
    with in_use(stores[0].home):
        assert room(home, 2000) == 1500
    assert room(home, 2000) == 2500
