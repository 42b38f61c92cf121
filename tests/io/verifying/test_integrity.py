"""What is looked at, and said, where folders are large, odd, or written to at that moment."""

import json
from pathlib import Path
from typing import Any

import pytest

from viscera.core.errors import BadInputError
from viscera.io.files import put_folder, sha256
from viscera.io.manifest import CaseRecord, GeometryRecord, Manifest, SourceRecord
from viscera.io.predictions import PredictionFiles
from viscera.io.records import write_record
from viscera.io.remote.mirror_index import Index
from viscera.io.seals import sealed_json
from viscera.io.verifying import file_judgement, integrity
from viscera.io.verifying.file_judgement import Checked
from viscera.io.verifying.integrity import checks_of
from viscera.io.verifying.remedies import remedy

NOTE = ".0123abcd-unfinished.json"
FILES = ("image.npy", "labels.npy", "labels_original.nii.gz")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no bytes


def looked_at(path: Path) -> dict[str, Checked]:
    return {str(check.path.relative_to(path)): check.run() for check in checks_of(path)}


def store_of(folder: Path, cases: int, digest: str, *, awaited: bool = False) -> Path:
    """A store of which there is the manifest alone."""
    grid = GeometryRecord(shape=(2, 2, 2), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    record = CaseRecord(
        prepared=grid,
        original=grid,
        voxel_counts_prepared=(1,) * 8,
        voxel_counts_original=(1,) * 8,
        volume_change=(0.0,) * 8,
        sha256=dict.fromkeys(FILES, digest),
        sources={"a": SourceRecord(bytes=0, sha256=EMPTY)},
        awaited=awaited,
    )
    manifest = Manifest().with_cases({f"case_{number}": record for number in range(cases)})
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(sealed_json(manifest.text()))
    return folder


def test_a_store_that_lacks_all_its_cases_is_told_without_reading_its_manifest_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the square of their number: five hours for ten thousand."""
    store, times = store_of(tmp_path / "store", 50, EMPTY), 0
    really_parsed = file_judgement.parsed

    def counted(path: Path) -> Any:
        nonlocal times
        times += 1
        return really_parsed(path)

    for case in range(50):
        (store / "cases" / f"case_{case}").mkdir(parents=True)
        (store / "cases" / f"case_{case}" / "image.npy").write_bytes(b"damaged")
    monkeypatch.setattr(integrity, "parsed", counted)
    states = [check.run().state for check in checks_of(store)]
    assert (states.count("damaged"), states.count("missing"), states.count("sound")) == (50, 100, 1)
    assert times <= 2


def test_what_is_written_anew_while_it_is_looked_at_is_sound(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", 1, "0" * 64, awaited=True)
    (store / "cases" / "case_0").mkdir(parents=True)
    for name in FILES:
        (store / "cases" / "case_0" / name).touch()
    before = checks_of(store)
    assert {check.run().state for check in before} == {"sound", "unfinished"}
    store_of(store, 1, EMPTY)
    assert {check.run().state for check in before} == {"sound"}
    files = PredictionFiles.of(tmp_path / "out", "a", ["nifti"])
    for content in (b"old", b"new"):
        files.write({files.main: content}, {"run_sha256": content.decode()}, {})
        if content == b"old":
            files.write({files.main: b"older"}, {"run_sha256": "0"}, {})
            before = checks_of(tmp_path / "out")
    assert {check.run().state for check in before} == {"sound"}
    (tmp_path / NOTE).write_text(json.dumps({"b.json": None}))
    (tmp_path / "b.json").touch()
    (check,) = (each for each in checks_of(tmp_path) if each.path.name == "b.json")
    assert check.run().state == "unfinished"
    (tmp_path / NOTE).unlink()
    assert check.run().state == "sound"


def test_links_that_lead_round_in_circles(tmp_path: Path) -> None:
    write_record(tmp_path / "a" / "run.json", {"a": 1})
    for name in ("latest", "newest"):
        (tmp_path / "a" / name).symlink_to("..")
    write_record(tmp_path / "b" / "run.json", {"a": 1})
    (tmp_path / "c").symlink_to("b")
    found = [path for path in looked_at(tmp_path) if path.endswith("run.json")]
    assert found == ["a/run.json", "b/run.json"]


def test_a_damaged_note_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    write_record(tmp_path / "card.json", {"a": 1})
    (tmp_path / NOTE).write_text("{")
    found = looked_at(tmp_path)
    assert found["card.json"].state == "sound"
    assert (found[NOTE].state, found[NOTE].what_to_do) == ("damaged", "Delete it, and run the command again.")


def test_a_file_that_cannot_be_read_is_not_to_be_deleted_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be failing: this is when people verify."""
    store = store_of(tmp_path / "store", 2, EMPTY)
    for case in ("case_0", "case_1"):
        (store / "cases" / case).mkdir(parents=True)
        for name in FILES:
            (store / "cases" / case / name).touch()
    really = sha256

    def failing(path: Path) -> str:
        if path.name == "image.npy" and path.parent.name == "case_0":
            raise BadInputError(f"{path}: cannot be read (Input/output error). Check the path and its permissions.")
        return really(path)

    monkeypatch.setattr(file_judgement, "sha256", failing)
    bad = {path: each for path, each in looked_at(store).items() if each.state != "sound"}
    assert list(bad) == ["cases/case_0/image.npy"]
    (found,) = bad.values()
    assert found.why == "cannot be read (Input/output error)"
    assert "disk" in found.what_to_do
    assert "elete" not in found.what_to_do


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path / "run.json", {"a": 1})
    (tmp_path / "closed").mkdir()
    really = Path.iterdir

    def listed(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(Path, "iterdir", listed)
    found = looked_at(tmp_path)
    assert (found["closed"].state, found["closed"].why) == ("damaged", "cannot be read (Permission denied)")
    assert found["run.json"].state == "sound"


def test_no_advice_costs_work_that_cannot_be_made_again(tmp_path: Path) -> None:
    """Label maps may have been mended where they lie, curves have a checksum a line, results may be unsent."""
    study = tmp_path / "study"
    predictions = study / "arms" / "uniform_lr0.001" / "seed_0" / "predictions"
    study.mkdir()
    (study / "study.yaml").touch()
    for folder, command in ((tmp_path / "out", "predict RUN INPUT"), (predictions, "study STORE")):
        folder.mkdir(parents=True)
        for name in ("a.nii.gz", "a.json"):
            (folder / name).touch()
            said = remedy(folder / name)
            assert said.startswith("If somebody edited it, keep a copy elsewhere")
            assert f"`viscera {command} {folder if folder != predictions else study}" in said
            assert "elete" not in said
    run = tmp_path / "run"
    run.mkdir()
    (run / "curve.jsonl").touch()
    assert "delete the line" in remedy(run / "curve.jsonl")
    (run / "index.json").write_text("{")
    with pytest.raises(BadInputError, match=r"Copy results that were not sent from .* elsewhere, then delete it"):
        Index.read(run)


def test_an_export_that_is_exchanged_meanwhile_is_sound(tmp_path: Path) -> None:
    """Files of the one before are no part of it any more; what its own record names has to be there."""

    def export_of(**files: str) -> None:
        folder = tmp_path / "made"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        record = {"format_version": 1, "files": {name: sha256(folder / name) for name in files}}
        write_record(folder / "export.json", record)
        put_folder(folder, tmp_path / "exported")

    export_of(gone="a", new="b")
    checks = checks_of(tmp_path / "exported")
    export_of(new="c", other="d")
    assert [check.run().state for check in checks] == ["sound"] * 3
    (tmp_path / "exported" / "new").write_text("e")
    assert [check.run().state for check in checks] == ["sound", "sound", "damaged"]
    (tmp_path / "exported" / "new").unlink()
    assert looked_at(tmp_path / "exported")["new"].state == "missing"
