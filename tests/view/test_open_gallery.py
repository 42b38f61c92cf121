"""What lies at a path: scans, label maps, data sets, DICOM, stores, studies; and what belongs to which case."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.io.dicom_series import oblique, write_series
from viscera.core.arms import arms_of
from viscera.core.errors import BadInputError, UsageError
from viscera.core.resolve import resolve_config
from viscera.io.nifti import write_nifti
from viscera.io.pseudonyms import Pseudonyms
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.view.gallery import Gallery, by_distrust
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

SaveScan = Callable[[Path, np.ndarray, np.ndarray], Path]


def layers_of(gallery: Gallery) -> list[tuple[str, list[str]]]:
    return [(case.name, [layer.title for layer in case.layers]) for case in gallery.cases]


def test_predictions_with_their_references_and_the_scans_of_these(phantoms: Path, predicted: Path) -> None:
    gallery = open_gallery(predicted, Beside(references=phantoms))
    both = ["prediction", "reference"]
    assert layers_of(gallery) == [("phantom_001", both), ("phantom_000", both)]  # the flagged one first
    assert all(case.scan is not None for case in gallery.cases)
    assert gallery.cases[0].flagged == {"gallbladder": ("not found",)}
    assert gallery.kind == "predictions"


def test_predictions_alone_have_no_scan(predicted: Path) -> None:
    gallery = open_gallery(predicted)
    assert {case.scan for case in gallery.cases} == {None}


def test_one_prediction_with_its_scan(phantoms: Path, predicted: Path) -> None:
    path, scan = predicted / "phantom_000.nii.gz", phantoms / "imagesTr" / "phantom_000_0000.nii.gz"
    gallery = open_gallery(path, Beside(scans=scan, references=phantoms / "labelsTr" / "phantom_000.nii.gz"))
    assert layers_of(gallery) == [("phantom_000", ["prediction", "reference"])]
    assert gallery.cases[0].scan is not None


def test_a_scan_with_labels_of_another_name(tmp_path: Path, save_scan: SaveScan) -> None:
    scan = save_scan(tmp_path / "ct.nii.gz", np.zeros((5, 4, 3), np.int16), np.eye(4))
    labels = save_scan(tmp_path / "organs.nii.gz", np.ones((5, 4, 3), np.uint8), np.eye(4))
    gallery = open_gallery(scan, Beside(labels=labels))
    assert layers_of(gallery) == [("ct", ["prediction"])]
    assert gallery.kind == "scans"


def test_a_file_of_bytes_is_a_label_map(tmp_path: Path, save_scan: SaveScan) -> None:
    labels = save_scan(tmp_path / "organs.nii.gz", np.ones((5, 4, 3), np.uint8), np.eye(4))
    assert open_gallery(labels).kind == "predictions"


def test_a_data_set_has_scans_and_references(phantoms: Path) -> None:
    gallery = open_gallery(phantoms)
    assert gallery.kind == "data set"
    assert layers_of(gallery) == [("phantom_000", ["reference"]), ("phantom_001", ["reference"])]


def test_a_dicom_folder_opens_as_it_is(tmp_path: Path) -> None:
    geometry = oblique()
    write_series(tmp_path / "series", geometry)
    gallery = open_gallery(tmp_path / "series")
    assert gallery.kind == "scans"
    scan = gallery.cases[0].scan
    assert scan is not None
    assert sorted(scan.read().hu.shape) == sorted(geometry.shape)


def test_labels_beside_dicom_images_do_not_hide_these(tmp_path: Path, save_scan: SaveScan) -> None:
    geometry = oblique()
    write_series(tmp_path / "series", geometry)
    labels = save_scan(tmp_path / "series" / "labels.nii.gz", np.zeros(geometry.shape, np.uint8), geometry.affine)
    gallery = open_gallery(tmp_path / "series", Beside(labels=labels))
    assert layers_of(gallery) == [("series", ["prediction"])]


def test_a_study_has_its_test_cases_through_all_arms(tiny_store: Store, tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "study")
    config = resolve_config(
        file_values={"study": {"weightings": ["uniform", "square"], "learning_rates": [0.001], "seeds": [0, 1]}}
    )
    name = tiny_store.names("test")[0]
    record = StudyRecord(version="1", store=str(tiny_store.path), dataset="tiny", config=config)
    study.path.mkdir()
    study.write_record(record)
    for seed, arm in enumerate(arms_of(config.study)):  # the others are not predicted yet
        run = study.run(arm, seed)
        run.predictions.mkdir(parents=True)
        write_nifti(run.predictions / f"{name}.nii.gz", tiny_store.original_labels(name))
        write_scores(run.scores, [ScoreRow(name, "liver", "original", "dice", 0.25 + seed / 2)])
    gallery = open_gallery(study.path)
    titles = ["reference", "uniform, rate 0.001, seed 0", "square, rate 0.001, seed 1"]
    assert layers_of(gallery) == [(name, titles)]
    assert [layer.dice.get("liver") for layer in gallery.cases[0].layers] == [None, 0.25, 0.75]
    study.write_record(record.model_copy(update={"store": str(tmp_path / "gone")}))
    with pytest.raises(BadInputError, match=r"its store .*gone is not there.* --scans STORE"):
        open_gallery(study.path)
    assert layers_of(open_gallery(study.path, Beside(scans=tiny_store.path))) == [(name, titles)]


def test_a_store_has_its_cases_with_their_split(tiny_store: Store) -> None:
    gallery = open_gallery(tiny_store.path)
    assert gallery.kind == "store"
    assert [(case.name, case.split) for case in gallery.cases] == [
        (name, tiny_store.manifest.cases[name].split) for name in tiny_store.names()
    ]


def test_a_trained_model_is_told_apart(tiny_run: Path) -> None:
    with pytest.raises(BadInputError, match=r"this is a trained model. Apply it with `viscera predict"):
        open_gallery(tiny_run)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no such file or folder"):
        open_gallery(tmp_path / "missing")
    with pytest.raises(BadInputError):
        open_gallery(tmp_path)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (Beside(labels=Path("x")), "it goes with scans, and these are label maps"),
    ],
)
def test_what_does_not_go_together_is_refused(predicted: Path, beside: Beside, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_gallery(predicted, beside)


def test_scans_do_not_go_with_scans(phantoms: Path) -> None:
    with pytest.raises(UsageError, match="it goes with label maps"):
        open_gallery(phantoms / "imagesTr", Beside(scans=phantoms / "imagesTr"))


def test_the_least_trusted_come_first(phantoms: Path, predicted: Path) -> None:
    cases = list(open_gallery(predicted, Beside(references=phantoms)).cases)
    assert [case.name for case in by_distrust(cases[::-1])] == ["phantom_001", "phantom_000"]


def test_scans_and_references_are_found_by_the_pseudonyms_of_label_maps(
    tmp_path: Path, predicted: Path, phantoms: Path
) -> None:
    keys = Pseudonyms.open(tmp_path / "keys.json")
    keys.remember(["phantom_000", "phantom_001"])
    for name in ("phantom_000", "phantom_001"):
        (tmp_path / "out").mkdir(exist_ok=True)
        shutil.copy(predicted / f"{name}.nii.gz", tmp_path / "out" / f"{keys.of(name)}.nii.gz")
    gallery = open_gallery(tmp_path / "out", Beside(scans=phantoms / "imagesTr", references=phantoms, keys=keys))
    assert {case.name for case in gallery.cases} == {keys.of("phantom_000"), keys.of("phantom_001")}
    assert all(case.scan is not None and case.reference is not None for case in gallery.cases)
    gallery = open_gallery(phantoms / "imagesTr", Beside(labels=tmp_path / "out", keys=keys))
    assert all(case.name.startswith("p_") and len(case.layers) == 1 for case in gallery.cases)


def test_a_file_that_is_no_scan_is_refused_before_the_page_opens(tmp_path: Path, save_scan: SaveScan) -> None:
    picture = tmp_path / "slice.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    text = tmp_path / "scan.nii.gz"
    text.write_text("not here\n")
    odd = tmp_path / "scan.zip"  # of a zip file the end alone, which says that it is the second of nine
    odd.write_bytes(bytes(600) + struct.pack("<4sLQL", b"PK\6\7", 1, 0, 9) + b"PK\5\6" + bytes(18))
    for path in (picture, text, odd):
        with pytest.raises(BadInputError, match=rf"{path.name}: this is not a NIfTI file"):
            open_gallery(path)
    labels = save_scan(tmp_path / "organs.nii.gz", np.ones((5, 4, 3), np.uint8), np.eye(4))
    with pytest.raises(BadInputError, match=r"slice\.png: this is not a NIfTI file"):
        open_gallery(labels, Beside(scans=picture))


@pytest.mark.parametrize(("kind", "names"), [(np.uint8, ("a.nii", "a.nii.gz")), (np.int16, ("a.nii", "a_0000.nii"))])
def test_two_files_of_one_case_are_refused(
    tmp_path: Path, save_scan: SaveScan, kind: type[np.generic], names: tuple[str, str]
) -> None:
    """Label maps, which are files of bytes, and scans: either could be the one that was meant."""
    for name in names:
        save_scan(tmp_path / name, np.zeros((4, 4, 4), kind), np.eye(4))
    with pytest.raises(BadInputError, match=rf"{names[1]}: {names[0]} is of the same case. Keep one of them"):
        open_gallery(tmp_path, Beside())
