"""What is at a URL and its files here: what is fetched, what is sent, and what neither side loses."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import ObjectStore, another_machine
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.io.remote.local_mirror import Mirror, OtherWriterError
from viscera.io.remote.mirror_index import address_of, mirror_of, remove, with_addresses
from viscera.io.remote.remote_folder import RemoteFile, RemoteFolder

pytest.importorskip("s3fs")


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A folder in an object store, and one on a file system of another kind."""
    if request.param == "s3":
        yield request.getfixturevalue("store_of_objects").url + "/deep/run"
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield "memory://place/run"
        with contextlib.suppress(FileNotFoundError):
            RemoteFolder("memory://place")._fs.rm("/place", recursive=True)


def fetched(url: str, *, is_output: bool = False) -> Mirror:
    mirror = Mirror(url, is_output=is_output)
    mirror.fetch()
    return mirror


def written(mirror: Mirror, **files: str) -> Mirror:
    for name, text in files.items():
        path = mirror.folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return mirror


def texts(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_made_on_one_machine_is_there_on_another(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = written(fetched(url, is_output=True), last="1", sub__deep__x="22")
    assert here.send() == 2
    assert here.send() == 0
    another_machine(monkeypatch, tmp_path)
    there = fetched(url)
    assert there.path != here.path
    assert there.path.name == "run"
    assert texts(there.path) == {"last": "1", "sub/deep/x": "22"}


def test_what_changes_is_fetched_and_what_is_gone_is_deleted(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = written(fetched(url, is_output=True), same="1", changes="1", sub__goes="1")
    here.send()
    with monkeypatch.context() as patch:
        another_machine(patch, tmp_path)
        there = fetched(url)
    before = (there.path / "same").stat()
    written(here, changes="2", comes="1")
    remove(here.folder / "sub" / "goes")
    assert here.send() == 2
    there.fetch()
    assert texts(there.path) == {"same": "1", "changes": "2", "comes": "1"}
    assert not (there.path / "sub").exists()
    after = (there.path / "same").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_last_copy_of_what_is_gone_there_is_not_deleted(url: str) -> None:
    """Somebody may have deleted a run by mistake, on which the machine that trained it is just asked."""
    mirror = written(fetched(url, is_output=True), last="weights", sub__x="1")
    mirror.send()
    for name in ("last", "sub/x"):
        mirror.remote.remove(name)
    for is_output in (True, False):
        with pytest.raises(BadInputError, match=r"nothing is there any more, and .* still holds 2 files of it"):
            fetched(url, is_output=is_output)
    assert texts(mirror.folder) == {"last": "weights", "sub/x": "1"}


def test_hidden_files_stay_here(url: str) -> None:
    mirror = fetched(url, is_output=True)
    written(mirror, **{".lock": "", ".12345678-x": "", "sub__.tmp__x": "", "x": "1", ".started_by": "me"})
    assert mirror.send() == 2
    assert sorted(mirror.remote.files()) == [".started_by", "x"]


def test_files_are_sent_in_the_order_in_which_they_were_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = written(fetched(url, is_output=True), b="", manifest="", c="")
    for age, name in enumerate(["manifest", "c", "b"]):
        os.utime(mirror.folder / name, ns=(0, 10**9 * (100 - age)))
    sent, send = list[str](), RemoteFolder.send

    def noted(folder: RemoteFolder, source: Path, name: str) -> RemoteFile:
        sent.append(name)
        return send(folder, source, name)

    monkeypatch.setattr(RemoteFolder, "send", noted)
    mirror.send()
    assert sent == ["b", "c", "manifest"]


def test_nothing_that_another_process_has_written_is_overwritten(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = written(fetched(url, is_output=True), last="0")
    here.send()
    another_machine(monkeypatch, tmp_path)
    there = written(fetched(url, is_output=True), last="there")
    there.send()
    for _ in range(2):
        with pytest.raises(OtherWriterError, match=f"{url}/last: another process has written it since"):
            written(here, last="here!").send()
    with pytest.raises(OtherWriterError, match=r"was not sent. Keep what you want of both"):
        here.fetch()
    assert (here.folder / "last").read_text() == "here!"
    another_machine(monkeypatch, tmp_path, "third")
    assert texts(fetched(url).path) == {"last": "there"}


def test_a_new_file_does_not_replace_that_of_another(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = fetched(url, is_output=True)
    another_machine(monkeypatch, tmp_path)
    written(fetched(url, is_output=True), scores="there").send()
    with pytest.raises(OtherWriterError):
        written(here, scores="here").send()
    written(here, scores="there")  # the same is no quarrel
    here.send()


def test_what_could_not_be_sent_is_kept_and_sent_by_the_next_command(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = written(fetched(url, is_output=True), last="1", curve="1")
    mirror.send()
    written(mirror, last="2", curve="12")
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "send", lambda *_: (_ for _ in ()).throw(BadInputError("no way")))
        with pytest.raises(BadInputError, match="no way"):
            mirror.send()
    for is_output in (False, True):
        assert texts(fetched(url, is_output=is_output).path) == {"last": "2", "curve": "12"}
    assert fetched(url, is_output=True).send() == 2


def test_a_process_killed_between_sending_and_noting_it_is_no_other_writer(url: str) -> None:
    mirror = written(fetched(url, is_output=True), last="1")
    mirror.send()
    index = mirror.home / "index.json"
    before = json.loads(index.read_text())
    written(mirror, last="2")
    mirror.send()
    sent = {"last": "c81e728d9d4c2f636f067f89cc14862c"}  # MD5 of "2"
    index.write_text(json.dumps({**before, "sending": sent}))
    assert fetched(url, is_output=True).send() == 0  # the same on both sides
    index.write_text(json.dumps({**before, "sending": sent}))
    again = written(fetched(url, is_output=True), last="3")
    assert again.send() == 1


def test_what_is_damaged_here_is_fetched_again(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written(fetched(url, is_output=True), x="good", y="good").send()
    another_machine(monkeypatch, tmp_path)
    mirror = fetched(url)
    written(mirror, x="bad", stray="of a process that was killed")
    (mirror.folder / "y").unlink()
    mirror.fetch()
    assert texts(mirror.folder) == {"x": "good", "y": "good"}


def test_a_cache_that_was_cleared_deletes_nothing_there(url: str) -> None:
    mirror = written(fetched(url, is_output=True), x="1", y="1")
    mirror.send()
    (mirror.folder / "x").unlink()  # by hand, between two commands
    again = fetched(url, is_output=True)
    assert again.send() == 0
    assert texts(again.folder) == {"x": "1", "y": "1"}
    for path in again.folder.iterdir():
        path.unlink()
    again.folder.rmdir()  # during a command
    assert again.send() == 0
    assert sorted(again.remote.files()) == ["x", "y"]


def test_what_a_cleaner_of_the_cache_takes_stays_there(url: str) -> None:
    written(fetched(url, is_output=True), x="1", sub__y="1").send()
    mirror = written(fetched(url, is_output=True), made="1")
    assert mirror.send() == 1
    for name in ("x", "sub/y", "made"):  # while the command works: fetched or sent long ago
        (mirror.folder / name).unlink()
    written(mirror, z="1")
    assert mirror.send() == 1
    assert sorted(mirror.remote.files()) == ["made", "sub/y", "x", "z"]


def test_what_a_stage_removes_is_removed_there(url: str) -> None:
    written(fetched(url, is_output=True), **{"quarantine.csv": "1", "again.csv": "1", "x": "1"}).send()
    mirror = fetched(url, is_output=True)
    remove(mirror.folder / "quarantine.csv")
    remove(mirror.folder / "never.csv")
    remove(mirror.folder / "again.csv")
    written(mirror, **{"again.csv": "2"})
    assert mirror.send() == 1
    assert sorted(mirror.remote.files()) == ["again.csv", "x"]
    (mirror.folder / "again.csv").unlink()  # by hand: what was removed once is not for ever
    assert mirror.send() == 0
    assert sorted(mirror.remote.files()) == ["again.csv", "x"]


def test_a_file_is_mirrored_with_those_that_belong_to_it(url: str) -> None:
    names = ["a.hdr", "a.img", "a.json", "a", "ab.hdr", "scores.csv", "big.npy"]
    written(fetched(url, is_output=True), **dict.fromkeys(names, "1")).send()
    scan = fetched(f"{url}/a.hdr")
    assert scan.path.name == "a.hdr"
    assert sorted(texts(scan.folder)) == ["a.hdr", "a.img", "a.json"]
    output = fetched(f"{url}/a.nii.gz", is_output=True)
    assert sorted(texts(output.folder)) == ["a.hdr", "a.img", "a.json", "scores.csv"]
    written(output, **{"a.nii.gz": "2", "a.json": "2"}).send()
    assert sorted(output.remote.files()) == sorted([*names, "a.nii.gz"])


def test_single_files_of_one_folder_stand_beside_each_other(url: str) -> None:
    written(fetched(url, is_output=True), **{"pred.nii.gz": "1", "truth.nii.gz": "2", "t.nii": "3"}).send()
    single = [fetched(f"{url}/{name}") for name in ("pred.nii.gz", "truth.nii.gz", "t.nii")]
    assert [mirror.path.read_text() for mirror in single] == ["1", "2", "3"]
    assert [address_of(mirror.path) for mirror in single[:2]] == [f"{url}/pred.nii.gz", f"{url}/truth.nii.gz"]
    scores, summary = (fetched(f"{url}/{name}", is_output=True) for name in ("scores.csv", "summary.json"))
    for mirror in (scores, summary):
        written(mirror, **{mirror.path.name: "4"}).send()
    assert sorted(scores.remote.files()) == ["pred.nii.gz", "scores.csv", "summary.json", "t.nii", "truth.nii.gz"]


def test_what_is_nowhere_is_said(url: str) -> None:
    with pytest.raises(BadInputError, match=f"{url}: there is no such file or folder, or it is empty"):
        fetched(url)
    assert not fetched(url, is_output=True).path.exists()


def test_the_name_of_a_path_here_is_its_url(url: str) -> None:
    mirror = written(fetched(url, is_output=True), cases__x="1")
    assert address_of(mirror.path) == url
    assert address_of(mirror.path / "cases" / "x") == f"{url}/cases/x"
    assert address_of(Path("/data/x")) == "/data/x"
    assert mirror_of(url) == mirror.path
    assert mirror_of("/data/x") == Path("/data/x")
    beside = written(fetched(f"{url}/a.csv", is_output=True), **{"a.csv": "1"})
    text = f"{mirror.path}/cases/x and {beside.path}: damaged. {mirror.path}. /data/x"
    assert with_addresses(text) == f"{url}/cases/x and {url}/a.csv: damaged. {url}. /data/x"


def test_a_mirror_is_that_of_its_endpoint_and_of_the_whole_folder(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fetched(url, is_output=True), **{"x": "1", "a.csv": "1"}).send()
    files = fetched(f"{url}/a.csv")
    shutil.rmtree(fetched(url).home)
    assert files.path.is_file()
    assert mirror_of(url) == Path(url)  # of one file alone
    assert mirror_of(url) != files.folder
    whole = fetched(url)
    assert mirror_of(url) == whole.path
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert mirror_of(url) == Path(url)  # another store may have a bucket of this name


@pytest.mark.parametrize("name", ["removed", ".fetching"])
def test_a_folder_may_be_called_as_what_stands_beside_its_mirror(store_of_objects: ObjectStore, name: str) -> None:
    store_of_objects.write(f"{name}/x", b"1")
    mirror = fetched(f"{store_of_objects.url}/{name}", is_output=True)
    remove(mirror.folder / "x")
    written(mirror, y="2").send()
    assert store_of_objects.objects == {f"{name}/y": b"2"}
    assert address_of(mirror.folder / "y") == f"{store_of_objects.url}/{name}/y"


def test_nothing_is_fetched_twice(store_of_objects: ObjectStore) -> None:
    for number in range(20):
        store_of_objects.write(f"data/{number}", b"1" * number)
    seen = list[Progress]()
    mirror = Mirror(f"{store_of_objects.url}/data")
    mirror.fetch(seen.append)
    wire = store_of_objects.wire
    assert wire.count("GET") == 1 + 20 + 1  # the last: is it a file, or a folder?
    wire.requests.clear()
    mirror.fetch()
    assert wire.count("GET") == 1
    assert len(wire.requests) == 1


def test_names_as_long_as_file_systems_take(store_of_objects: ObjectStore) -> None:
    name = "腹" * 85  # 255 bytes
    store_of_objects.write(f"data/{name}", b"1")
    assert (fetched(f"{store_of_objects.url}/data").folder / name).read_bytes() == b"1"


def test_a_cache_that_cannot_be_written_to(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_of_objects.write("data/x", b"1")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInputError, match=r"cannot be written .*Set XDG_CACHE_HOME to a folder of your own\."):
        fetched(f"{store_of_objects.url}/data")


def test_what_was_fetched_is_noted_at_once(store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a process that is killed has not fetched it in vain."""
    for name in ("a", "b", "c"):
        store_of_objects.write(f"data/{name}", b"1")
    mirror, fetch, noted = Mirror(f"{store_of_objects.url}/data"), RemoteFolder.fetch, list[set[str]]()

    def watched(*given: Any) -> None:
        time.sleep(0.2)
        index = mirror.home / "index.json"
        noted.append(set(json.loads(index.read_text())["files"]) if index.exists() else set())
        fetch(*given)

    monkeypatch.setattr(mirror.remote, "streams", 1)
    monkeypatch.setattr(RemoteFolder, "fetch", watched)
    mirror.fetch()
    assert noted[:2] == [set(), {"a"}]
    assert "a" in noted[2]


def test_what_does_not_fit_is_not_begun(store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store_of_objects.write("data/x", b"1" * 2000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(1000))
    mirror = Mirror(f"{store_of_objects.url}/data")
    with pytest.raises(BadInputError, match=r"2e-06 GB are to be fetched.*room for 1e-06 GB.*XDG_CACHE_HOME"):
        mirror.fetch()
    assert store_of_objects.wire.count("GET /data/x") == 0


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_connection_that_stays_cut_leaves_nothing_half(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    content = bytes(range(256)) * 4096
    monkeypatch.setattr("viscera.io.remote.remote_folder._WAITS_S", ())
    if way == "down":
        for name in ("a", "b", "c"):
            store_of_objects.write(f"run/{name}", content)
    mirror = Mirror(f"{store_of_objects.url}/run", is_output=True)
    monkeypatch.setattr(mirror.remote, "streams", 1)
    if way == "up":
        mirror.fetch()
        mirror.folder.mkdir()
        for name in ("a", "b", "c"):
            (mirror.folder / name).write_bytes(content)
    store_of_objects.wire.left[way], store_of_objects.wire.stays_cut = len(content) * 3 // 2, True
    with pytest.raises(BadInputError, match=r"run/[bc]: (cannot be|nobody answers)"):
        (mirror.fetch if way == "down" else mirror.send)()
    if way == "down":
        assert {p.name: p.read_bytes() for p in mirror.folder.iterdir()} == {"a": content}
    else:
        assert store_of_objects.objects == {"run/a": content}
    store_of_objects.wire.forget()
    (mirror.fetch if way == "down" else mirror.send)()
    assert not list(mirror.home.glob(".sending-*"))
    assert [line for line in store_of_objects.wire.requests if "/run/a " in line] == []
    assert store_of_objects.objects == {f"run/{name}": content for name in ("a", "b", "c")}
    assert {p.name: p.read_bytes() for p in mirror.folder.iterdir()} == dict.fromkeys("abc", content)
