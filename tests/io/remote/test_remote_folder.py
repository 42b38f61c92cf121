"""What a store answers, and the way to it: files whole or absent, and one sentence where neither works."""

import sys
from pathlib import Path

import pytest

from tests.object_store import SECRET, ObjectStore
from viscera.core.errors import BadInputError
from viscera.io.remote import remote_folder
from viscera.io.remote.remote_folder import RemoteFolder

pytest.importorskip("s3fs")


def fetched(folder: RemoteFolder, name: str, to: Path) -> bytes:
    folder.fetch(name, folder.files()[name], to, lambda _: None)
    return to.read_bytes()


def refusal(url: str) -> str:
    with pytest.raises(BadInputError) as caught:
        RemoteFolder(url).files()
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_files_come_and_go_with_any_name(store_of_objects: ObjectStore, tmp_path: Path) -> None:
    folder, source = RemoteFolder(f"{store_of_objects.url}/in/here"), tmp_path / "source"
    for number, name in enumerate(["a b", "ü/λ.txt", "a+b", "a#b", "50%25", "what?", "[x]*", "sub/sub/x"]):
        source.write_bytes(b"x" * number)
        assert folder.send(source, name).size == number
        assert store_of_objects.read(f"in/here/{name}") == b"x" * number
        assert fetched(folder, name, tmp_path / "copy") == b"x" * number
        folder.remove(name)
        assert folder.look(name) is None
    assert store_of_objects.objects == {}


def test_marks_of_folders_and_hidden_files_are_left_out(store_of_objects: ObjectStore) -> None:
    for key in ("f/", "f/sub/", "f/.DS_Store", "f/.tmp/x", "f/x", "f/sub/y", "fx", "f/.started_by"):
        store_of_objects.write(key, b"" if key.endswith("/") else b"1")
    assert sorted(RemoteFolder(f"{store_of_objects.url}/f").files()) == [".started_by", "sub/y", "x"]
    assert sorted(RemoteFolder(f"{store_of_objects.url}/f").files(is_deep=False)) == [".started_by", "x"]


@pytest.mark.parametrize("key", ["f/../x", "f//x", "f/./x", "f/sub/../../../x", "f/x/"])
def test_names_that_are_none_of_a_file_are_refused(store_of_objects: ObjectStore, key: str) -> None:
    store_of_objects.write(key, b"1")
    assert "Rename it there" in refusal(f"{store_of_objects.url}/f")


def test_a_file_that_is_a_folder_as_well_is_refused(store_of_objects: ObjectStore) -> None:
    store_of_objects.write("f/a", b"1")
    store_of_objects.write("f/a/b", b"1")
    assert "'a', which is a folder as well" in refusal(f"{store_of_objects.url}/f")
    with pytest.raises(BadInputError, match="a file and a folder"):
        RemoteFolder(f"{store_of_objects.url}/f/a").is_file()


def test_what_is_written_elsewhere_is_seen_at_once(store_of_objects: ObjectStore) -> None:
    folder = RemoteFolder(f"{store_of_objects.url}/f")
    assert folder.files() == {}
    store_of_objects.write("f/x", b"1")
    first = folder.look("x")
    store_of_objects.write("f/x", b"2")
    assert first is not None
    assert folder.files()["x"] != first
    assert folder.look("x") == folder.files()["x"]


def test_large_files_in_parts_have_a_checksum_too(store_of_objects: ObjectStore, tmp_path: Path) -> None:
    store_of_objects.write_in_parts("f/x", [b"1" * 5 * 2**20, b"2"])
    folder = RemoteFolder(f"{store_of_objects.url}/f")
    assert "-2" in folder.files()["x"].stamp
    assert fetched(folder, "x", tmp_path / "x") == b"1" * 5 * 2**20 + b"2"


def test_a_file_that_changes_while_it_comes_is_not_taken(store_of_objects: ObjectStore, tmp_path: Path) -> None:
    store_of_objects.write("f/x", b"1")
    folder = RemoteFolder(f"{store_of_objects.url}/f")
    before = folder.files()["x"]
    store_of_objects.write("f/x", b"2")
    with pytest.raises(BadInputError, match="changed while it was fetched"):
        folder.fetch("x", before, tmp_path / "x", lambda _: None)


def test_a_cut_connection_is_tried_again(store_of_objects: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    store_of_objects.write("f/x", content)
    folder = RemoteFolder(f"{store_of_objects.url}/f")
    folder.files()
    store_of_objects.wire.left["down"] = len(content) // 2
    assert fetched(folder, "x", tmp_path / "x") == content
    store_of_objects.wire.left["up"] = len(content) // 2
    folder.send(tmp_path / "x", "y")
    assert store_of_objects.wire.left == {"up": None, "down": None}  # it was cut
    assert store_of_objects.read("f/y") == content


def test_who_is_refused_is_told_what_he_may_not(
    store_of_objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RemoteFolder(f"{store_of_objects.url}/f")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    for call in ("find", "pipe_file", "put_file"):
        monkeypatch.setattr(folder._fs, call, refuse)
    with pytest.raises(BadInputError, match=r"/f: reading is not permitted \(Access Denied\)"):
        folder.files()
    with pytest.raises(BadInputError, match=r"/f: writing is not permitted \(Access Denied\)"):
        folder.refuse_unwritable()
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"/f/x: writing is not permitted"):
        folder.send(tmp_path / "x", "x")


def test_the_test_of_writing_leaves_nothing(store_of_objects: ObjectStore) -> None:
    RemoteFolder(f"{store_of_objects.url}/f").refuse_unwritable()
    assert store_of_objects.objects == {}
    with pytest.raises(BadInputError, match="there is no such bucket"):
        RemoteFolder("s3://no-such-bucket/f").refuse_unwritable()


def test_no_such_bucket(store_of_objects: ObjectStore) -> None:
    assert refusal("s3://no-such-bucket/f").startswith("s3://no-such-bucket/f: there is no such bucket.")
    with pytest.raises(BadInputError, match="there is no such bucket"):
        RemoteFolder("s3://no-such-bucket/f").is_file()
    assert RemoteFolder(f"{store_of_objects.url}/f").files() == {}


@pytest.mark.usefixtures("store_of_objects")
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    waited = list[float]()
    monkeypatch.setattr("time.sleep", waited.append)
    assert "nobody answers at http://127.0.0.1:9" in refusal("s3://bucket/f")
    assert waited == list(remote_folder._WAITS_S)  # it may come back, as servers do that are started again


@pytest.mark.usefixtures("store_of_objects")
def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials were found" in refusal("s3://bucket/f")


def test_without_the_package_there_is_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    known = sys.modules["fsspec.registry"]._registry
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("AWS_REGION", "another")  # what is made already is not used
    for name in ("s3", "s3a"):
        monkeypatch.delitem(known, name, raising=False)
    assert refusal("s3://bucket/f").endswith("pip install 'viscera[s3]'")
    assert "gcsfs" in refusal("gs://bucket/f")


def test_what_is_no_address() -> None:
    assert "no such kind of address" in refusal("nonsense://a/b")
    assert "`..`" in refusal("s3://bucket/../x")


def test_other_stores_are_written_beside_and_renamed(tmp_path: Path) -> None:
    folder, source = RemoteFolder("memory://some/place"), tmp_path / "x"
    source.write_bytes(b"12")
    folder.refuse_unwritable()
    first = folder.send(source, "sub/x")
    source.write_bytes(b"34")
    second = folder.send(source, "sub/x")
    assert first != second
    assert folder.files() == {"sub/x": second}
    assert fetched(folder, "sub/x", tmp_path / "copy") == b"34"
    folder.remove("sub/x")
    assert folder.files() == {}
