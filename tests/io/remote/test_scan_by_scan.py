"""Scans of a URL that have no room together: one at a time is here, and what is known of it outlives it."""

import subprocess
import sys
import threading
import time

import pytest

from tests.object_store import ObjectStore
from viscera.core.errors import BadInputError
from viscera.io.remote.local_mirror import Mirror
from viscera.io.remote.scan_by_scan import LaterScan, later_scans, may_come_later

pytest.importorskip("s3fs")
SIZE = 1000  # bytes of each scan


@pytest.fixture
def mirror(store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """Three scans, and room for one and a half."""
    monkeypatch.setenv("VISCERA_CACHE_GB", f"{1.5 * SIZE / 1e9:.9f}")
    for name in ("a.nii.gz", "b.nii", "c.nii.gz"):
        store_of_objects.write(f"scans/{name}", name[0].encode() * SIZE)
    store_of_objects.write("scans/notes.txt", b"1")
    mirror = Mirror(f"{store_of_objects.url}/scans", scan_by_scan=True)
    mirror.fetch()
    return mirror


def scans_of(mirror: Mirror) -> list[LaterScan]:
    return list(later_scans(mirror.folder).values())


def here(mirror: Mirror) -> list[str]:
    return sorted(path.name for path in mirror.folder.iterdir())


def test_scans_come_when_they_are_used_and_go_then(mirror: Mirror, store_of_objects: ObjectStore) -> None:
    assert here(mirror) == ["notes.txt"]
    assert [scan.path.name for scan in scans_of(mirror)] == ["a.nii.gz", "b.nii", "c.nii.gz"]
    for scan in scans_of(mirror):
        with scan.in_use():
            scan.fetch()
            scan.fetch()
            assert scan.path.read_bytes() == scan.path.name[:1].encode() * SIZE
            assert here(mirror) == sorted([scan.path.name, "notes.txt"])
    assert here(mirror) == ["notes.txt"]
    assert store_of_objects.wire.count("GET /") == store_of_objects.wire.count("GET") == 3 + 1 + 2  # files and lists


def test_a_checksum_is_known_without_the_scan_until_that_changes(mirror: Mirror, store_of_objects: ObjectStore) -> None:
    """SHA-256 of 1000 letters a, by sha256sum."""
    scan = scans_of(mirror)[0]
    with scan.in_use():
        assert scan.sha256() == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    store_of_objects.wire.requests.clear()
    assert scan.sha256() == "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    assert store_of_objects.wire.requests == []
    store_of_objects.write("scans/a.nii.gz", b"b" * SIZE)
    mirror.fetch()
    other = scans_of(mirror)[0]
    with other.in_use():
        assert other.sha256() != "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"
    with pytest.raises(BadInputError, match=r"scans/a\.nii\.gz: it changed while it was fetched"), scan.in_use():
        scan.fetch()


def test_another_process_waits_for_room(mirror: Mirror) -> None:
    one, two, _ = scans_of(mirror)
    came = threading.Event()

    def use_two() -> None:
        with two.in_use():
            two.fetch()
            came.set()

    with one.in_use():
        one.fetch()
        thread = threading.Thread(target=use_two)
        thread.start()
        assert not came.wait(0.5)
        assert here(mirror) == ["a.nii.gz", "notes.txt"]
    assert came.wait(10)
    thread.join()
    assert here(mirror) == ["notes.txt"]


def test_two_that_use_the_same_scan(mirror: Mirror) -> None:
    one, again = scans_of(mirror)[0], scans_of(mirror)[0]
    with one.in_use():
        with again.in_use():
            again.fetch()
        one.fetch()
        assert one.path.exists()  # as it is still in use
    assert not one.path.exists()


def test_a_process_that_is_killed_leaves_room(mirror: Mirror) -> None:
    look = (
        "import os, sys; from pathlib import Path; from viscera.io.remote.scan_by_scan import later_scans\n"
        "scan = next(iter(later_scans(Path(sys.argv[1])).values()))\n"
        "with scan.in_use():\n    scan.fetch()\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", look, str(mirror.folder)], check=False).returncode == -9
    assert here(mirror) == ["a.nii.gz", "notes.txt"]
    two = scans_of(mirror)[1]
    started = time.monotonic()
    with two.in_use():
        two.fetch()
        assert here(mirror) == ["b.nii", "notes.txt"]
    assert time.monotonic() - started < 10


def test_one_that_has_no_room_at_all(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCERA_CACHE_GB", "1e-7")
    scan = scans_of(mirror)[0]
    with (
        pytest.raises(BadInputError, match=r"scans/a\.nii\.gz: 1e-06 GB are to be fetched, .* room for 9.9e-08 GB"),
        scan.in_use(),
    ):
        scan.fetch()


def test_where_all_have_room_all_are_fetched(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCERA_CACHE_GB", "1")
    mirror.fetch()
    assert here(mirror) == ["a.nii.gz", "b.nii", "c.nii.gz", "notes.txt"]
    assert scans_of(mirror) == []
    monkeypatch.setenv("VISCERA_CACHE_GB", "1e-9")
    mirror.fetch()  # nothing is to be fetched
    assert scans_of(mirror) == []


def test_other_commands_need_room_for_all(mirror: Mirror) -> None:
    with pytest.raises(BadInputError, match=r"3e-06 GB are to be fetched, and .* has room for 1.5e-06 GB"):
        Mirror(mirror.url).fetch()


def test_scans_are_known_by_their_names() -> None:
    names = ["a.nii", "b.NII.GZ", "sub/c.nii.gz", ".d.nii", "e.hdr", "e.img", "f.json", "g.nii.xz"]
    assert may_come_later(names) == ["a.nii", "b.NII.GZ", "g.nii.xz"]
