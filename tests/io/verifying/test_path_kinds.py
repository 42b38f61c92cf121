"""What lies at a path."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from viscera.io.store import Store
from viscera.io.verifying.path_kinds import Found, a_run_of, images_of, store_of, what_is


def save(path: Path, *, predicted: bool = False) -> Path:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    if predicted:
        (path.parent / f"{path.name.partition('.')[0]}.json").write_text(json.dumps({"run_sha256": "0"}))
    return path


def test_artifacts_and_what_belongs_to_them(tiny_raw: Path, tiny_store: Store, tiny_run: Path) -> None:
    assert what_is(tiny_store.path) == Found("store", tiny_store.path)
    assert what_is(tiny_run) == Found("run", tiny_run)
    assert what_is(tiny_run / "last.pt") == Found("checkpoint", tiny_run)
    assert what_is(tiny_raw) == Found("data set", tiny_raw)
    assert what_is(tiny_raw / "imagesTr") == Found("images", tiny_raw)
    assert what_is(tiny_raw / "labelsTr") == Found("labels", tiny_raw)
    assert what_is(tiny_raw / "labelsTr" / "case_0.nii.gz") == Found("labels", tiny_raw)
    assert images_of(tiny_raw) == tiny_raw / "imagesTr"
    assert store_of(tiny_run) is None
    assert a_run_of(tiny_raw) is None


def test_predictions_are_those_with_a_record_each(tmp_path: Path) -> None:
    scan = save(tmp_path / "scans" / "a_0000.nii.gz")
    assert what_is(scan) == Found("scans", scan)
    assert what_is(scan.parent) == Found("scans", scan.parent)
    label_map = save(tmp_path / "out" / "a.nii.gz", predicted=True)
    assert what_is(label_map) == Found("predictions", label_map)
    assert what_is(label_map.parent) == Found("predictions", label_map.parent)
    save(tmp_path / "scans" / "a.nii.gz", predicted=True)  # beside the scans, which are still to be segmented
    assert what_is(scan.parent) == Found("scans", scan.parent)


def test_what_is_not_recognised_is_nothing(tmp_path: Path) -> None:
    assert what_is(tmp_path) is None
    assert what_is(tmp_path / "missing") is None
    assert what_is(tmp_path / ("n" * 300)) is None
