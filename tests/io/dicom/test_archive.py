"""Zip files as folders: kept inside, not too large, gone afterwards."""

import errno
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.dicom import archive as module
from viscera.io.dicom import unpacked


def packed(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_its_files_are_there_until_the_end(tmp_path: Path) -> None:
    with unpacked(packed(tmp_path / "a.zip", **{"x/y": "1", "z": "2"})) as folder:
        assert (folder / "x" / "y").read_text() == "1"
        assert (folder / "z").read_text() == "2"
    assert not folder.exists()


def test_they_go_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unpacked(packed(tmp_path / "a.zip", x="1")) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_is_no_zip_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("PK, but no zip file")
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        with unpacked(path) as same:
            assert same == path


def test_names_that_point_elsewhere_stay_inside(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", **{"../../escaped": "1", f"{tmp_path}/absolute": "2"})
    with unpacked(path) as folder:
        assert sorted(file.name for file in folder.rglob("*") if file.is_file()) == ["absolute", "escaped"]
        assert not (folder.parent / "escaped").exists()
    assert not (tmp_path / "absolute").exists()


@pytest.mark.parametrize(("limit", "value"), [("_MOST_BYTES", 1000), ("_MOST_FILES", 1), ("free", 2100)])
def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(**({limit: value} if limit == "free" else {}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    if limit != "free":
        monkeypatch.setattr(module, limit, value)
    path = packed(tmp_path / "bomb.zip", a="0" * 2000, b="0")
    with pytest.raises(BadInputError, match=r"^\S*bomb\.zip: 2 files of 0\.0 GiB unpacked"), unpacked(path):
        pass


def test_a_size_that_lies_is_no_way_around(tmp_path: Path) -> None:
    """Nothing is written beyond the size that the list of files gives: here 100 of 50,000 bytes."""
    path = packed(tmp_path / "a.zip", a="0" * 50_000)
    content = path.read_bytes().replace((50_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="damaged zip file"), unpacked(path):
        pass


def test_a_small_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", a="some text")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))  # enough for this
    with unpacked(path) as folder:
        assert (folder / "a").exists()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((zipfile.ZipFile, "extract"), (tempfile, "TemporaryDirectory")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *_, **__: full())
            with (
                pytest.raises(BadInputError, match=r"a\.zip: .*disk of temporary files is full.*TMPDIR"),
                unpacked(path),
            ):
                pass


def test_names_too_long_for_the_file_system(tmp_path: Path) -> None:
    with unpacked(packed(tmp_path / "a.zip", **{f"{'x' * 300}/{'y' * 300}.nii.gz": "1"})) as folder:
        (file,) = (each for each in folder.rglob("*") if each.is_file())
        assert file.name.endswith("y.nii.gz")


@pytest.mark.parametrize("damage", ["cut", "changed", "encrypted", "method"])
def test_damaged_or_encrypted(tmp_path: Path, damage: str) -> None:
    path = packed(tmp_path / "a.zip", a="some text " * 50)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "changed":
        content[40] ^= 0xFF
    else:  # a flag, or 9 for Deflate64, as Windows packs large files
        value, at = (1, 6) if damage == "encrypted" else (9, 8)
        for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            content[content.index(signature) + at + shift] = value
    path.write_bytes(content)
    expected = {"encrypted": "encrypted. Give a zip file without", "method": "packed in a way"}
    reason = expected.get(damage, "a damaged zip file")
    with pytest.raises(BadInputError, match=rf"^\S*a\.zip: {reason}"), unpacked(path):
        pass


def test_an_archive_that_no_images_make_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros pack a thousand to one: gigabytes would fill the disk, and take minutes to be found to be no images."""
    monkeypatch.setattr(module, "_PACKED_BYTES", 2**20)
    path = packed(tmp_path / "bomb.zip", a="0" * 2**21)
    with (
        pytest.raises(BadInputError, match="more than 100 times as much as the archive, as no images are"),
        unpacked(path),
    ):
        pass
    with unpacked(packed(tmp_path / "few.zip", a="0" * 2**19)) as folder:
        assert (folder / "a").stat().st_size == 2**19


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/" * 5000 + "x"]])
def test_names_that_cannot_be_folders_are_a_damaged_archive(tmp_path: Path, names: list[str]) -> None:
    path = packed(tmp_path / "odd.zip", **dict.fromkeys(names, "1"))
    with pytest.raises(BadInputError, match=r"odd\.zip: a damaged zip file"), unpacked(path):
        pass
