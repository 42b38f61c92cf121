"""Stores, predictions and checks under pseudonyms: stable, complete, and without a name of a case, file or folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.layout_examples import save_labels
from tests.what_files_say import files_that_say
from viscera.check.check_stage import check, refused_by_prepare
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError, UsageError
from viscera.core.shard import Shard
from viscera.io.pseudonyms import Pseudonyms
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare

CONFIG = PrepareConfig(downsample=1, test_fraction=0.2)
Make = Callable[..., Any]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def names_in(keys: Path) -> dict[str, str]:
    cases: dict[str, str] = json.loads(keys.read_text())["cases"]
    return cases


def test_a_store_has_pseudonyms_alone(raw: Path, tmp_path: Path, keys: Path) -> None:
    (raw / "labelsTr" / "case_3.nii.gz").unlink()
    scan = raw / "imagesTr" / "case_4_0000.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-200])
    with pytest.raises(BadInputError, match=r"2 of 5 cases were left out") as refused:
        prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    store = Store.open(tmp_path / "store")
    named = names_in(keys)
    assert set(named.values()) == {f"case_{n}" for n in range(5)}
    assert {named[name] for name in store.names()} == {"case_0", "case_1", "case_2"}
    names = [f"case_{n}" for n in range(5)] + [f"case_{n}_0000" for n in range(5)] + [str(raw), str(tmp_path)]
    assert files_that_say(tmp_path / "store", names) == set()
    assert not [name for name in names[:-1] if name in str(refused.value)]
    assert set(store.manifest.cases[store.names()[0]].sources) == {"scan", "labels"}
    listed = (tmp_path / "store" / "quarantine.csv").read_text()
    (of_3,) = (pseudonym for pseudonym, name in named.items() if name == "case_3")
    assert f"{of_3}: SOURCE/labelsTr/{of_3} (labels) is missing" in listed or f"{of_3} (labels) is missing" in listed


def test_it_can_be_continued_with_the_same_key_file_alone(
    raw: Path, tmp_path: Path, keys: Path, make_case: Make
) -> None:
    before = prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    text = (tmp_path / "store" / "manifest.json").read_text()
    prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    assert (tmp_path / "store" / "manifest.json").read_text() == text
    for wrong, message in (
        (None, r"Give the key file that they are from \(key"),
        (tmp_path / "k2", "no such key file"),
    ):
        with pytest.raises(BadInputError, match=message):
            prepare(raw, tmp_path / "store", CONFIG, pseudonyms=wrong)
    hu, labels = make_case(9)
    affine = before.original_geometry(before.names()[0]).affine
    save_labels(raw / "labelsTr" / "new.nii.gz", labels, affine)
    save_labels(raw / "imagesTr" / "new_0000.nii.gz", hu, affine)
    after = prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    assert set(before.names()) < set(after.names())
    assert {names_in(keys)[name] for name in after.names()} == {*(f"case_{n}" for n in range(5)), "new"}


def test_names_and_pseudonyms_are_not_mixed(raw: Path, tmp_path: Path, keys: Path) -> None:
    prepare(raw, tmp_path / "store", CONFIG)
    with pytest.raises(BadInputError, match="its cases have their own names"):
        prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    with pytest.raises(BadInputError, match="the key file lies in"):
        prepare(raw, tmp_path / "new", CONFIG, pseudonyms=tmp_path / "new" / "keys.json")
    assert not (tmp_path / "new").exists()


def test_a_split_file_names_cases_as_the_data_set_does(raw: Path, tmp_path: Path, keys: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["case_0", "case_1", "case_2"], "test": ["case_3", "case_4"]}))
    store = prepare(raw, tmp_path / "store", CONFIG, split_file=split, pseudonyms=keys)
    assert {names_in(keys)[name] for name in store.names("test")} == {"case_3", "case_4"}


def test_parts_of_a_job_array_share_a_key_file(raw: Path, tmp_path: Path, keys: Path) -> None:
    for number in (1, 2):
        store = prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys, shard=Shard(number, 2))
    assert len(store.names()) == len(names_in(keys)) == 5
    assert {record.split for record in store.manifest.cases.values()} == {"train", "test"}


def test_masks_are_numbered(tmp_path: Path, keys: Path, make_case: Make) -> None:
    """TotalSegmentator's layout, whose folders are the cases."""
    hu, labels = make_case(1)
    for case in ("s0001", "s0002"):
        save_labels(tmp_path / "raw" / case / "ct.nii.gz", hu, np.diag([2.0, 2, 2, 1]))
        for number, organ in ((3, "liver"), (4, "spleen")):
            path = tmp_path / "raw" / case / "segmentations" / f"{organ}.nii.gz"
            save_labels(path, (labels == number).astype("uint8"), np.diag([2.0, 2, 2, 1]))
    config = PrepareConfig(downsample=1, test_fraction=0)
    store = prepare(tmp_path / "raw", tmp_path / "store", config, partial=True, pseudonyms=keys)
    record = store.manifest.cases[store.names()[0]]
    assert set(record.sources) == {"scan", "mask 1", "mask 2"}
    assert sorted((record.meaning or {}).values()) == [3, 4]
    prepare(tmp_path / "raw", tmp_path / "store", config, partial=True, pseudonyms=keys)  # is stored already
    assert files_that_say(tmp_path / "store", ["s0001", "s0002", "raw"]) == set()


def test_predictions_and_a_check_have_the_pseudonyms_of_the_store(
    raw: Path,
    tiny_run: Path,
    tmp_path: Path,
    keys: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = prepare(raw, tmp_path / "store", CONFIG, pseudonyms=keys)
    scan = raw / "imagesTr" / "case_4_0000.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-200])
    with pytest.raises(BadInputError, match="1 of 5 cases was left out") as refused:
        predict(tiny_run, raw / "imagesTr", tmp_path / "out", pseudonyms=keys)
    assert {path.name.removesuffix(".nii.gz") for path in (tmp_path / "out").glob("*.nii.gz")} < set(store.names())
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)  # which take seconds
    found = check(raw, tmp_path / "check", pseudonyms=keys)
    assert [case.case for case in found.cases] == store.names()
    names = [f"case_{n}" for n in range(5)] + [str(raw)]
    for folder in ("out", "check"):
        assert files_that_say(tmp_path / folder, names) == set()
    assert not [name for name in names if name in f"{refused.value} {caplog.text}"]
    (raw / "labelsTr" / "case_1.nii.gz").rename(raw / "labelsTr" / "case_1.nii")
    assert not [name for name in names if name in str(refused_by_prepare(raw, pseudonyms=keys))]


def test_formats_that_say_whose_scan_it_is_are_refused(
    patient: Path, tiny_run: Path, tmp_path: Path, keys: Path
) -> None:
    with pytest.raises(UsageError, match="--format rtstruct says whose scan it is"):
        predict(tiny_run, patient, tmp_path / "out", formats=["nifti", "rtstruct"], pseudonyms=keys)
    (written,) = predict(tiny_run, patient, tmp_path / "out", pseudonyms=keys)
    assert written.name == f"{Pseudonyms.open(keys).of('patient_7')}.nii.gz"
    assert files_that_say(tmp_path / "out", ["patient_7", "S1", "IM"]) == set()


def test_another_key_file_is_told_where_predictions_lie(
    raw: Path, tiny_run: Path, tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan, out = raw / "imagesTr" / "case_4_0000.nii.gz", tmp_path / "out"
    predict(tiny_run, scan, out, pseudonyms=keys)
    predict(tiny_run, raw / "imagesTr" / "case_3_0000.nii.gz", out, pseudonyms=keys)
    assert "not called by a pseudonym" not in caplog.text
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(BadInputError, match=r"kyes\.json: there is no such key .*out has 2 predictions under"):
        predict(tiny_run, scan, out, pseudonyms=tmp_path / "kyes.json")
    assert not (tmp_path / "kyes.json").exists()
    assert sorted(path.name for path in out.iterdir()) == before
    Pseudonyms.open(tmp_path / "other.json")
    predict(tiny_run, scan, out, pseudonyms=tmp_path / "other.json")
    assert "2 predictions there are not called by a pseudonym of" in caplog.text


def test_predictions_are_scored_by_their_pseudonyms(
    raw: Path, tiny_run: Path, tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predict(tiny_run, raw / "imagesTr", tmp_path / "out", pseudonyms=keys)
    path = raw / "labelsTr" / "case_2.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInputError, match="1 of 5 cases was left out") as refused:
        evaluate(
            tmp_path / "out", raw, tmp_path / "s" / "scores.csv", pseudonyms=keys, summary=tmp_path / "s" / "s.json"
        )
    rows = read_scores(tmp_path / "s" / "scores.csv")
    assert {names_in(keys)[row.case] for row in rows} == {"case_0", "case_1", "case_3", "case_4"}
    assert files_that_say(tmp_path / "s", [*names_in(keys).values(), str(raw)]) == set()
    assert "case_" not in f"{refused.value} {caplog.text}".replace("pseudonyms", "")
    with pytest.raises(BadInputError, match="there is no such key file"):
        evaluate(tmp_path / "out", raw, tmp_path / "t" / "scores.csv", pseudonyms=tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()
    predict(tiny_run, raw / "imagesTr", tmp_path / "named")
    with pytest.raises(BadInputError, match="5 of the predictions are not called by its pseudonyms"):
        evaluate(tmp_path / "named", raw, tmp_path / "t" / "scores.csv", pseudonyms=keys)
