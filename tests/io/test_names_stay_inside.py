"""No path from a file leaves its folder: manifests, data sets, records, exports, fusions, tables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.fusion import FusionRecord
from viscera.export.export_stage import ExportRecord
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.predictions import known_checksums
from viscera.io.records import write_json
from viscera.io.remote import mirror_index
from viscera.io.remote.cache_room import _make_room
from viscera.io.remote.mirror_index import LISTED, Known, Seen, mirror_of
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.io.verifying.integrity import checks_of
from viscera.stages.prepare import prepare
from viscera.stages.verify import verify

OUTSIDE = ["../escaped", "../../escaped", "/tmp/escaped", "a/b", "..", "a\\..\\b", "a\nb", "C:\\x"]  # noqa: S108


def changed(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    value.pop("checksum", None)
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def store(tiny_store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_store.path, tmp_path / "store"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_does_not_leave_its_store(store: Path, name: str) -> None:
    def rename_case(value: Any) -> None:
        value["cases"][name] = value["cases"].pop("case_0")

    def rename_file(value: Any) -> None:
        value["cases"]["case_1"]["sha256"][name] = "0" * 64

    whole = (store / "manifest.json").read_text()
    for change in (rename_case, rename_file):
        changed(store / "manifest.json", change)
        with pytest.raises(BadInputError, match=r"manifest\.json: damaged"):
            Store.open(store)
        found = {each.path: each.state for each in verify(store)}
        assert found[store / "manifest.json"] == "damaged"
        assert all(path.resolve().is_relative_to(store) for path in found)
        (store / "manifest.json").write_text(whole)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_listed_case_is_not_called_as_a_path(raw: Path, name: str) -> None:
    """nnU-Net's `dataset.json` may say where files are, and a case's name becomes that of a folder in the store."""
    files = {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    changed(raw / "dataset.json", lambda value: value.update(dataset={name: files}))
    with pytest.raises(BadInputError, match=r"dataset\.json: `dataset`: .* this cannot be one\. Rename it\."):
        find_cases(raw)


def test_a_list_of_files_tells_nobody_what_the_environment_holds(
    raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("PLACE", str(raw / "imagesTr"))
    files = {"images": ["$SECRET/x_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    there = {"images": ["$PLACE/case_1_0000.nii.gz"], "label": "labelsTr/case_1.nii.gz"}
    changed(raw / "dataset.json", lambda value: value.update(dataset={"a": files, "b": there}))
    cases = {case.name: case for case in find_cases(raw, "nnunet")}
    assert cases["b"].image.samefile(raw / "imagesTr" / "case_1_0000.nii.gz")
    with pytest.raises(BadInputError) as refused:
        cases["a"].read()
    assert "$SECRET" in str(refused.value)
    with pytest.raises(BadInputError):
        prepare(raw, tmp_path / "store", PrepareConfig(downsample=1), layout="nnunet")
    assert "hunter2" not in (tmp_path / "store" / "quarantine.csv").read_text()


def test_a_file_whose_name_no_store_could_have_is_one_bad_case(raw: Path, tmp_path: Path) -> None:
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (raw / folder / f"case_0{ending}").rename(raw / folder / f"a\\b\n{ending}")
    with pytest.raises(BadInputError, match=r"(?s)1 of 5 cases was left out .* a backslash or the like\. Rename it"):
        prepare(raw, tmp_path / "store", PrepareConfig(downsample=1))
    assert Store.open(tmp_path / "store").names() == [f"case_{n}" for n in range(1, 5)]


@pytest.mark.parametrize("name", OUTSIDE[:5])
def test_records_of_other_artifacts(tmp_path: Path, name: str) -> None:
    digest = "0" * 64
    model = {"file": name, "sha256": digest, "step": 1, "checkpoint_sha256": digest}
    (tmp_path / "fusion.yaml").write_text(json.dumps({"models": {"a": model}}))
    with pytest.raises(BadInputError, match=r"fusion\.yaml: damaged"):
        FusionRecord.read(RunFolder(tmp_path))
    if name != "a/b":
        export = {"format_version": 1, "viscera": "1", "run_sha256": digest, "forms": [], "files": {name: digest}}
        with pytest.raises(ValueError, match="a path within the folder was expected"):
            ExportRecord.model_validate(export)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "export.json").write_text(json.dumps(export))
        assert [(each.path.name, each.state) for each in verify(tmp_path / "out")] == [("export.json", "damaged")]
        assert all(check.path.resolve().is_relative_to(tmp_path) for check in checks_of(tmp_path))
    assert known_checksums(tmp_path / "x.json", {"outputs_sha256": {name: digest, "x.nii.gz": digest}}) == {
        tmp_path / "x.nii.gz": {digest}
    }


def test_an_address_in_a_record_is_not_asked_where_it_was_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(url: str) -> None:
        raise AssertionError(f"{url} was asked")

    monkeypatch.setattr(mirror_index, "RemoteFolder", asked)
    assert mirror_of("http://169.254.169.254/latest") == Path("http://169.254.169.254/latest")


def test_room_is_made_in_the_cache_alone(tmp_path: Path) -> None:
    """A list that a process left behind names what can go."""
    home = tmp_path / "cache" / "remote" / "0123"
    (home / "x").mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    seen = Seen.of(tmp_path / "mine")
    assert seen is not None
    files = {"../../../../mine": Known(seen.size, "", seen.mtime_ns)}
    write_json(home / "index.json", {"url": "s3://b/x", "files": files, "sending": {}, "is_written": False})
    write_json(home / LISTED, {"../../../../mine": {}, str(tmp_path / "mine"): {}})
    _make_room(home)
    assert (tmp_path / "mine").read_text() == "mine"
