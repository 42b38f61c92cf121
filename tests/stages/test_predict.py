"""Label maps on the scans' own grids; what is kept, refused, left out and remembered."""

import csv
import errno
import json
import logging
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
from scipy import ndimage

import viscera
from tests.ct_series import ct_series, enhanced, save
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PredictConfig, PrepareConfig
from viscera.core.errors import BadInputError, DefectError
from viscera.core.geometry import Geometry
from viscera.core.scan import Volume
from viscera.engine.trust import OrganRange, TrainingRanges, save_ranges
from viscera.io import predictions
from viscera.io.files import sha256
from viscera.io.nifti import read_labels, read_volume
from viscera.io.scans import open_scan
from viscera.io.store import Store
from viscera.stages.predict import predict, predict_store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Affine = np.ndarray
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
ORIENTATIONS = ["LPS", "RPI", "AIL", "SLP"]


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def scans(raw: Path) -> Path:
    """A folder of five scans, to spoil."""
    return raw / "imagesTr"


@pytest.fixture(scope="module")
def half_store(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The tiny patients on a grid twice as coarse."""
    return prepare(tiny_raw, tmp_path_factory.mktemp("half") / "store", PrepareConfig(downsample=2, test_fraction=0.4))


@pytest.fixture(scope="module")
def half_run(half_store: Store, tiny_config: Callable[..., Config]) -> Path:
    """Trained on them long enough to tell the organs apart a little."""
    run = half_store.path.parent / "run"
    train(half_store.path, run, tiny_config(iterations=80, learning_rate=0.02, filters=4, batch_norm="recomputed"))
    return run


def test_a_folder_of_scans_becomes_a_folder_of_label_maps(half_run: Path, scans: Path, tmp_path: Path) -> None:
    written = predict(half_run, scans, tmp_path / "out")
    assert [path.name for path in written] == [f"case_{n}.nii.gz" for n in range(5)]
    for n, path in enumerate(written):
        image, scan = nib.load(path), nib.load(scans / f"case_{n}_0000.nii.gz")
        assert image.get_data_dtype() == np.uint8
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
    assert len(set(labels_of(written[0]).ravel().tolist())) > 2  # a prediction, not one class everywhere


def test_a_label_map_says_where_it_comes_from(half_run: Path, scans: Path, tmp_path: Path) -> None:
    predict(half_run, scans / "case_1_0000.nii.gz", tmp_path)
    said = json.loads((tmp_path / "case_1.json").read_text())
    assert said["run_sha256"] == sha256(half_run / "last.pt")
    assert said["input"] == "case_1_0000.nii.gz"
    assert said["input_sha256"] == sha256(scans / "case_1_0000.nii.gz")
    assert said["output_sha256"] == sha256(tmp_path / "case_1.nii.gz")
    assert said["step"] == 80
    assert said["settings"]["overlap"] == 0.5
    assert said["viscera"]


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_file_as_the_output(half_run: Path, scans: Path, tmp_path: Path, name: str) -> None:
    (written,) = predict(half_run, scans / "case_1_0000.nii.gz", tmp_path / "new" / name)
    assert written == tmp_path / "new" / name
    assert (tmp_path / "new" / "x.json").exists()
    assert written.read_bytes()[:2] == (b"\x1f\x8b" if name.endswith(".gz") else (348).to_bytes(2, "little"))
    with pytest.raises(BadInputError, match="one file for 5 scans"):
        predict(half_run, scans, tmp_path / "y.nii.gz")


@pytest.mark.parametrize("name", ["x.NII.GZ", "x.Nii", "x.NRRD"])
def test_the_ending_of_a_file_may_be_in_capitals(half_run: Path, scans: Path, tmp_path: Path, name: str) -> None:
    (written,) = predict(half_run, scans / "case_1_0000.nii.gz", tmp_path / name)
    assert written == tmp_path / name
    start = {"x.NII.GZ": b"\x1f\x8b", "x.Nii": (348).to_bytes(2, "little"), "x.NRRD": b"NR"}
    assert written.read_bytes()[:2] == start[name]
    assert (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", ["out.mha", "out.nrrd.gz", "OUT.MHD", "out.img", "out.json", "out.zip", "x.dicom"])
def test_a_file_that_is_not_written_is_no_folder(half_run: Path, scans: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    with pytest.raises(BadInputError, match=rf"{name}: .*\.nii\.gz, \.nii, .*\.dcm, .*\.nrrd.* or a folder"):
        predict(half_run, scans / "case_1_0000.nii.gz", output)
    assert not output.exists()
    output.mkdir()
    predict(half_run, scans / "case_1_0000.nii.gz", output)  # it is a folder
    assert (output / "case_1.nii.gz").exists()


def test_folders_may_have_dots_and_a_folder_is_no_file(half_run: Path, scans: Path, tmp_path: Path) -> None:
    for name in ("v1.2", "out.old", "2024.05.01"):
        predict(half_run, scans / "case_1_0000.nii.gz", tmp_path / name)
        assert (tmp_path / name / "case_1.nii.gz").exists()
    (tmp_path / "x.nii.gz").mkdir()
    with pytest.raises(BadInputError, match=r"x\.nii\.gz: this is a folder"):
        predict(half_run, scans / "case_1_0000.nii.gz", tmp_path / "x.nii.gz")


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_the_answer_is_the_same_in_the_patient_whatever_the_orientation_of_the_file(
    half_run: Path, tmp_path: Path, make_case: MakeCase, codes: str
) -> None:
    hu, _ = make_case(3, (15, 11, 9))  # odd, and not a multiple of the factor
    image = nib.Nifti1Image(hu, np.diag([2.0, 2.1, 2.4, 1]))
    nib.save(image, tmp_path / "a.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), tmp_path / "b.nii.gz")
    (a,) = predict(half_run, tmp_path / "a.nii.gz", tmp_path / "out")
    (b,) = predict(half_run, tmp_path / "b.nii.gz", tmp_path / "out")
    assert nib.aff2axcodes(nib.load(b).affine) == tuple(codes)
    back = nib.as_closest_canonical(nib.load(b))
    assert (np.asarray(back.dataobj) == labels_of(a)).all()
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-5)


def test_from_the_store_and_from_the_file_come_the_same_voxels(
    half_run: Path, half_store: Store, tiny_raw: Path, tmp_path: Path
) -> None:
    from_store = predict_store(half_run, half_store, half_store.names(), tmp_path / "store")
    from_files = predict(half_run, tiny_raw / "imagesTr", tmp_path / "files")
    for a, b in zip(from_store, from_files, strict=True):
        assert a.name == b.name
        assert (labels_of(a) == labels_of(b)).all()
        np.testing.assert_allclose(nib.load(a).affine, nib.load(b).affine, atol=1e-5)


def test_a_run_predicts_without_its_store_and_from_anywhere(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("last.pt",):
        (tmp_path / "moved run").mkdir()
        shutil.copy(half_run / file, tmp_path / "moved run" / file)
    monkeypatch.chdir(tmp_path)
    (written,) = predict(Path("moved run"), scans / "case_0_0000.nii.gz", Path("out put"))
    (expected,) = predict(half_run, scans / "case_0_0000.nii.gz", tmp_path / "expected")
    assert (labels_of(written) == labels_of(expected)).all()


@pytest.mark.parametrize("name", ["case.1", "a case", "Größe"])
def test_names_with_dots_spaces_and_umlauts(half_run: Path, scans: Path, tmp_path: Path, name: str) -> None:
    scan = (scans / "case_0_0000.nii.gz").rename(scans / f"{name}_0000.nii.gz")
    (written,) = predict(half_run, scan, tmp_path / "out")
    assert written.name == f"{name}.nii.gz"
    assert (tmp_path / "out" / f"{name}.json").exists()


def test_names_that_are_not_utf8(half_run: Path, scans: Path, tmp_path: Path) -> None:
    """Bytes of an older system: Python shows them as lone surrogates and gives them back to the system as they were."""
    name = os.fsdecode(b"M\xfcller")
    scan = (scans / "case_0_0000.nii.gz").rename(scans / f"{name}.nii.gz")
    (written,) = predict(half_run, scan, tmp_path / "out")
    assert os.fsencode(written.name) == b"M\xfcller.nii.gz"
    assert written in (tmp_path / "out").iterdir()
    assert b"\nM\xfcller,liver," in (tmp_path / "out" / "measurements.csv").read_bytes()
    before = state(tmp_path / "out")
    assert predict(half_run, scan, tmp_path / "out") == [written]
    assert state(tmp_path / "out") == before
    scan.write_text("no scan")
    for _ in range(2):
        with pytest.raises(BadInputError):
            predict(half_run, scan, tmp_path / "bad")
        assert b"\nM\xfcller.nii.gz," in (tmp_path / "bad" / "quarantine.csv").read_bytes()


# ------------------------------------------------------------------------------------------ DICOM


def series_of(hu: np.ndarray, **tags: Any) -> list[pydicom.Dataset]:
    """HU (I, J, K), I to the right, J to the front, as an axial series: to the left and to the back."""
    stored = (hu[::-1, ::-1].transpose(2, 1, 0) + 1024).astype(np.uint16)
    return ct_series(stored, PixelSpacing=[2.1, 2], **tags)


def dicom(folder: Path, hu: np.ndarray, **tags: Any) -> Path:
    return save(folder, series_of(hu, **tags))


@pytest.fixture
def patient(tmp_path: Path, make_case: MakeCase) -> Path:
    """A folder with one series of 15×11×9 voxels, in a folder of its own."""
    return dicom(tmp_path / "patient_7" / "S1", make_case(3, (15, 11, 9))[0]).parent


def test_a_dicom_series_gives_the_labels_of_the_same_scan_as_nifti(
    half_run: Path, patient: Path, tmp_path: Path
) -> None:
    (from_dicom,) = predict(half_run, patient, tmp_path / "out")
    assert from_dicom.name == "patient_7.nii.gz"
    volume = viscera.read_volume(patient)
    nib.save(nib.Nifti1Image(volume.hu, volume.geometry.affine), tmp_path / "scan.nii.gz")
    (from_nifti,) = predict(half_run, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert (labels_of(from_dicom) == labels_of(from_nifti)).all()
    assert len(set(labels_of(from_dicom).ravel().tolist())) > 2
    np.testing.assert_allclose(nib.load(from_dicom).affine, volume.geometry.affine, atol=1e-4)
    said = json.loads((tmp_path / "out" / "patient_7.json").read_text())
    assert said["input"] == "patient_7"
    assert said["series"]


def test_a_zip_file_is_the_same_scan(half_run: Path, patient: Path, tmp_path: Path) -> None:
    (written,) = predict(half_run, patient, tmp_path / "out")
    before = state(tmp_path / "out")
    predict(half_run, patient, tmp_path / "out")
    assert state(tmp_path / "out") == before
    packed = Path(shutil.make_archive(str(patient), "zip", patient))
    (other,) = predict(half_run, packed, tmp_path / "packed")
    assert other.name == written.name
    assert (labels_of(other) == labels_of(written)).all()


def test_another_series_does_not_replace_a_label_map_unasked(
    half_run: Path, patient: Path, tmp_path: Path, make_case: MakeCase
) -> None:
    predict(half_run, patient, tmp_path / "out")
    dicom(patient / "S2", make_case(4, (15, 11, 8))[0], SeriesDescription="thick")
    with pytest.raises(BadInputError, match=r"patient_7\.nii\.gz: exists, made from series .*\. Give"):
        predict(half_run, patient, tmp_path / "out", series="thick")
    assert labels_of(tmp_path / "out" / "patient_7.nii.gz").shape[2] == 9
    predict(half_run, patient, tmp_path / "out" / "thick.nii.gz", series="thick")
    assert labels_of(tmp_path / "out" / "thick.nii.gz").shape[2] == 8


def test_another_patient_without_a_series_uid_does_not_replace_a_label_map_unasked(
    half_run: Path, tmp_path: Path, make_case: MakeCase
) -> None:
    for n in (1, 2):
        dicom(tmp_path / str(n) / "CT", make_case(n, (15, 11, 9))[0], SeriesInstanceUID="")
    predict(half_run, tmp_path / "1" / "CT", tmp_path / "out")
    before = state(tmp_path / "out")
    with pytest.raises(BadInputError, match=r"CT\.nii\.gz: exists, made from another scan called CT"):
        predict(half_run, tmp_path / "2" / "CT", tmp_path / "out")
    assert before.items() <= state(tmp_path / "out").items()


def test_a_sheared_grid_goes_through_to_the_label_map(half_run: Path, tmp_path: Path, make_case: MakeCase) -> None:
    """Under a tilted gantry the voxels keep their places: those of the label map are those of the series."""
    hu, lean = make_case(3, (15, 11, 9))[0], np.deg2rad(12)
    stored = (hu.transpose(2, 1, 0) + 1024).astype(np.uint16)
    orientation = (1, 0, 0, 0, np.cos(lean), np.sin(lean))
    save(tmp_path / "tilted", ct_series(stored, orientation=orientation, step_mm=(0, 0, 2.5)))
    save(tmp_path / "upright", ct_series(stored))
    (tilted,) = predict(half_run, tmp_path / "tilted", tmp_path / "out")
    (upright,) = predict(half_run, tmp_path / "upright", tmp_path / "out")
    geometry = viscera.read_volume(tmp_path / "tilted").geometry
    assert geometry.skew_degrees == pytest.approx(12)
    np.testing.assert_allclose(nib.load(tilted).affine, geometry.affine, atol=1e-4)
    assert (labels_of(tilted) == labels_of(upright)).all()  # resampling works along the axes of the grid


def test_a_series_with_a_missing_slice_is_one_sentence(half_run: Path, patient: Path, tmp_path: Path) -> None:
    with open_scan(patient) as scan:
        assert scan.series is not None
        scan.series.sources[4].unlink()
    with pytest.raises(BadInputError, match=r"patient_7: series .*: 1 slice is missing"):
        predict(half_run, patient, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ again


def test_a_second_call_keeps_what_is_done(half_run: Path, scans: Path, tmp_path: Path) -> None:
    predict(half_run, scans, tmp_path / "out")
    before = state(tmp_path / "out")
    (tmp_path / "out" / "case_2.nii.gz").unlink()
    predict(half_run, scans, tmp_path / "out")
    after = state(tmp_path / "out")
    assert after["case_2.nii.gz"][0] == before["case_2.nii.gz"][0]
    redone = {name for name in before if after[name] != before[name]}
    assert redone == {"case_2.nii.gz", "case_2.json"}


def test_another_model_or_setting_replaces_its_own_label_maps(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path
) -> None:
    scan = scans / "case_2_0000.nii.gz"
    predict(half_run, scan, tmp_path)
    first = labels_of(tmp_path / "case_2.nii.gz")
    predict(half_run, scan, tmp_path, PredictConfig(overlap=0.25))
    assert json.loads((tmp_path / "case_2.json").read_text())["settings"]["overlap"] == 0.25
    predict(tiny_run, scan, tmp_path)
    assert (labels_of(tmp_path / "case_2.nii.gz") != first).any()


def test_scans_of_one_name_from_several_folders_do_not_replace_each_other(
    half_run: Path, scans: Path, tmp_path: Path
) -> None:
    """As in a loop over TotalSegmentator's folders, each of which holds a `ct.nii.gz`."""
    for n in (1, 2):
        (tmp_path / f"s{n}").mkdir()
        shutil.copy(scans / f"case_{n}_0000.nii.gz", tmp_path / f"s{n}" / "ct.nii.gz")
    first, second, out = tmp_path / "s1" / "ct.nii.gz", tmp_path / "s2" / "ct.nii.gz", tmp_path / "out"
    predict(half_run, first, out)
    before = state(out)
    for formats in (None, ["seg-nrrd"]):  # neither the label map nor what is known about it
        with pytest.raises(BadInputError, match=r"another scan called ct\.nii\.gz.*Give another name.*--overwrite"):
            predict(half_run, second, out, formats=formats)
        assert before.items() <= state(out).items()
    predict(half_run, first, out)
    assert before.items() <= state(out).items()
    predict(half_run, second, out, overwrite=True)
    assert json.loads((out / "ct.json").read_text())["input_sha256"] == sha256(second)
    (out / "ct.nii.gz").unlink()
    predict(half_run, first, out)  # nothing is lost


def test_a_scan_that_was_mended_is_predicted_again_on_request(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_1_0000.nii.gz"
    predict(half_run, scan, tmp_path / "out")
    shutil.copy(scans / "case_2_0000.nii.gz", scan)
    with pytest.raises(BadInputError, match="or from this one before it was changed"):
        predict(half_run, scan, tmp_path / "out")
    (written,) = predict(half_run, scan, tmp_path / "out", overwrite=True)
    (expected,) = predict(half_run, scans / "case_2_0000.nii.gz", tmp_path / "expected")
    assert written.read_bytes() == expected.read_bytes()


def test_a_label_map_edited_by_hand_is_kept_unless_told_otherwise(half_run: Path, scans: Path, tmp_path: Path) -> None:
    predict(half_run, scans, tmp_path / "out")
    path = tmp_path / "out" / "case_3.nii.gz"
    image = nib.load(path)
    edited = np.full(image.shape, 5, dtype=np.uint8)
    nib.save(nib.Nifti1Image(edited, image.affine), path)
    with pytest.raises(BadInputError, match=r"case_3\.nii\.gz: exists, and is not as viscera wrote it"):
        predict(half_run, scans, tmp_path / "out")
    assert (labels_of(path) == 5).all()
    predict(half_run, scans, tmp_path / "out", overwrite=True)
    assert (labels_of(path) != 5).any()


def test_files_of_others_are_not_overwritten(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_3_0000.nii.gz"
    for name in ("case_3.nii.gz", "case_3.json"):
        (tmp_path / name).write_text("[1]")
        with pytest.raises(BadInputError, match="Move it away, or add --overwrite"):
            predict(half_run, scan, tmp_path / "case_3.nii.gz")
        assert (tmp_path / name).read_text() == "[1]"
        (tmp_path / name).unlink()
    (tmp_path / "case_3.json").write_text("{")
    (tmp_path / "case_3.nii.gz").write_text("no")
    predict(half_run, scan, tmp_path / "case_3.nii.gz", overwrite=True)
    assert labels_of(tmp_path / "case_3.nii.gz").shape == (14, 12, 10)


def test_a_series_in_every_format(half_run: Path, patient: Path, tmp_path: Path) -> None:
    """The voxels of each file are those of the NIfTI, at the same place in the patient."""
    pytest.importorskip("highdicom")
    formats = ["nifti", "dicom-seg", "rtstruct", "seg-nrrd"]
    (main,) = predict(half_run, patient, tmp_path / "out", formats=formats)
    names = ["measurements.csv"] + [
        f"patient_7.{ending}" for ending in ("json", "nii.gz", "rtstruct.dcm", "seg.dcm", "seg.nrrd")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    expected = read_labels(main)
    written, header = nrrd.read(str(tmp_path / "out" / "patient_7.seg.nrrd"))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    affine = np.diag([-1, -1, 1, 1]) @ affine
    assert Geometry(written.shape, affine).same_grid(expected.geometry)
    assert np.array_equal(written, expected.labels)
    segmentation = pydicom.dcmread(tmp_path / "out" / "patient_7.seg.dcm")
    model = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert model.AlgorithmParameters == f"model={sha256(half_run / 'last.pt')}"
    for item in segmentation.SegmentSequence:
        frames = [
            frame
            for frame, about in zip(
                segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns),
                segmentation.PerFrameFunctionalGroupsSequence,
                strict=True,
            )
            if about.SegmentIdentificationSequence[0].ReferencedSegmentNumber == item.SegmentNumber
        ]
        assert sum(int(frame.sum()) for frame in frames) == int((expected.labels == item.SegmentNumber).sum())
    before = state(tmp_path / "out")
    predict(half_run, patient, tmp_path / "out", formats=formats)
    assert state(tmp_path / "out") == before  # all of it is there already


def rows_of(table: Path) -> dict[tuple[str, str], dict[str, str]]:
    with table.open(newline="") as file:
        return {(row["case"], row["organ"]): row for row in csv.DictReader(file)}


def test_measurements_stand_beside_the_predictions(half_run: Path, scans: Path, tmp_path: Path) -> None:
    """One row a case and organ; numbers from the label map by hand."""
    written = predict(half_run, scans, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "measurements.csv")
    assert len(rows) == 7 * len(written)
    name = written[0].name.removesuffix(".nii.gz")
    labels, hu = read_labels(written[0]), read_volume(scans / f"{name}_0000.nii.gz").hu
    for label, organ in enumerate(CLASS_NAMES[1:], start=1):
        here, row = labels.labels == label, rows[name, organ]
        assert int(row["voxels"]) == here.sum()
        assert float(row["volume_ml"]) == pytest.approx(here.sum() * 2 * 2 * 2.5 / 1000, abs=6e-4)
        assert (row["confidence"] == "") <= (not here.any())
        if here.any():
            assert 1 / 8 < float(row["confidence"]) <= 1
            assert float(row["mean_hu"]) == pytest.approx(hu[here].mean(), abs=0.06)
            assert float(row["sd_hu"]) == pytest.approx(hu[here].std(), abs=0.06)
            places = np.argwhere(here) @ labels.geometry.affine[:3, :3].T + labels.geometry.affine[:3, 3]
            assert float(row["lowest_s_mm"]) == pytest.approx(places[:, 2].min() - 1.25, abs=0.06)
            assert float(row["highest_r_mm"]) == pytest.approx(places[:, 0].max() + 1, abs=0.06)
            assert [int(row[f"first_{axis}"]) for axis in "ijk"] == np.argwhere(here).min(axis=0).tolist()
            assert [int(row[f"last_{axis}"]) for axis in "ijk"] == np.argwhere(here).max(axis=0).tolist()
            pieces, number = ndimage.label(here, np.ones((3, 3, 3)))
            assert int(row["pieces"]) == number
            assert float(row["largest_piece"]) == pytest.approx(np.bincount(pieces[here]).max() / here.sum(), abs=6e-4)
        else:
            assert row["mean_hu"] == row["lowest_r_mm"] == row["first_i"] == row["largest_piece"] == ""
            assert row["pieces"] == "0"
    # a second folder run adds what is new; a single file has a table of its own
    predict(half_run, scans / f"{name}_0000.nii.gz", tmp_path / "one.nii.gz")
    assert {case for case, _ in rows_of(tmp_path / "one.measurements.csv")} == {"one"}


def test_odd_files_in_the_folder_stop_nobody(
    half_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a file that should be JSON and is not, or a damaged record, is worth a word."""
    out = tmp_path / "out"
    predict(half_run, scans / "case_0_0000.nii.gz", out)
    record = json.loads((out / "case_0.json").read_text())
    (out / "._old.json").write_bytes(b"\x00\x05\x16\x07 a Mac's own file")
    (out / ".0123abcd-case_9.json").write_text('{"run_sha')  # of a power cut
    (out / "dataset.json").write_text('{"measurements": "of others"}')
    (out / "folder.json").mkdir()
    (out / "half.json").write_text("{")
    (out / "spoilt.json").write_text(json.dumps({**record, "measurements": {"liver": 3}}))
    (out / "deep.json").write_text("[" * 100_000)
    predict(half_run, scans / "case_1_0000.nii.gz", out)
    assert {case for case, _ in rows_of(out / "measurements.csv")} == {"case_0", "case_1"}
    said = [message.split("/")[-1].split(":")[0] for message in caplog.messages if "measurements.csv" in message]
    assert said == ["deep.json", "folder.json", "half.json", "spoilt.json"]


@pytest.mark.parametrize("record", ["{", '{"run_sha256": "x", "outputs_sha256": [1], "replaces_sha256": {"a": {}}}'])
def test_a_damaged_record_is_a_sentence_and_is_replaced_on_request(
    half_run: Path, scans: Path, tmp_path: Path, record: str
) -> None:
    scan, out = scans / "case_0_0000.nii.gz", tmp_path / "out"
    (written,) = predict(half_run, scan, out)
    content = written.read_bytes()
    (out / "case_0.json").write_text(record)
    with pytest.raises(BadInputError, match="add --overwrite"):
        predict(half_run, scan, out)
    predict(half_run, scan, out, overwrite=True)
    assert written.read_bytes() == content


def test_the_first_error_is_the_one_to_hear_of(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object) -> None:
        raise BadInputError("the table")

    def full(*_args: object) -> None:
        raise BadInputError("the disk is full")

    monkeypatch.setattr("viscera.stages.predict.write_tables", failing)
    with pytest.raises(BadInputError, match="the table"):
        predict(half_run, scans, tmp_path / "out")
    monkeypatch.setattr(predictions, "write_bytes", full)
    with pytest.raises(BadInputError, match="the disk is full"):
        predict(half_run, scans, tmp_path / "other")


def test_what_is_unlike_training_is_flagged_with_its_reason(half_run: Path, scans: Path, tmp_path: Path) -> None:
    run = shutil.copytree(half_run, tmp_path / "run")
    known = OrganRange(cases=4, present=1.0, cut_off=1.0, volume_ml=(9e3, 1e4), mean_hu=(-900, -800), large_fragments=9)
    save_ranges(run / "training_ranges.json", TrainingRanges(dict.fromkeys(CLASS_NAMES[1:], known)))
    (written, *_) = predict(run, scans, tmp_path / "out")
    labels = read_labels(written).labels
    name = written.name.removesuffix(".nii.gz")
    for label, organ in enumerate(CLASS_NAMES[1:], start=1):
        row = rows_of(tmp_path / "out" / "measurements.csv")[name, organ]
        assert row["flag"] == "look"
        assert (
            ("outside -920 to -780" in row["reasons"]) if (labels == label).any() else ("not found" in row["reasons"])
        )
    (run / "training_ranges.json").unlink()  # as of a run of an earlier version: nothing to hold it against
    predict(run, scans, tmp_path / "plain")
    assert {row["flag"] for row in rows_of(tmp_path / "plain" / "measurements.csv").values()} == {""}


def test_a_multi_frame_image_in_every_format(half_run: Path, make_case: MakeCase, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    slices = series_of(make_case(3, (15, 11, 9))[0])
    source = save(tmp_path / "enhanced", [enhanced(slices)])
    (main,) = predict(half_run, source, tmp_path / "out", formats=["nifti", "dicom-seg", "rtstruct", "seg-nrrd"])
    segmentation = pydicom.dcmread(tmp_path / "out" / "enhanced.seg.dcm")
    assert {
        int(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    } == {k + 1 for k in range(9) if labels_of(main)[..., k].any()}
    assert pydicom.dcmread(tmp_path / "out" / "enhanced.rtstruct.dcm").Modality == "RTSTRUCT"


@pytest.mark.parametrize(
    ("name", "asked", "modality"),
    [
        ("x.dcm", None, "SEG"),
        ("x.seg.dcm", None, "SEG"),
        ("x.rtstruct.dcm", None, "RTSTRUCT"),
        ("x.dcm", ["rtstruct"], "RTSTRUCT"),
    ],
)
def test_a_file_of_dicom_is_what_its_name_or_format_says(
    half_run: Path, patient: Path, tmp_path: Path, name: str, asked: list[str] | None, modality: str
) -> None:
    pytest.importorskip("highdicom")
    assert predict(half_run, patient, tmp_path / name, formats=asked) == [tmp_path / name]
    assert pydicom.dcmread(tmp_path / name).Modality == modality
    assert (tmp_path / "x.json").exists()


def test_values_that_are_no_hu_are_named(
    half_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nib.load(scans / "case_3_0000.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).clip(-100, 155) + 100, image.affine), tmp_path / "grey.nii.gz")
    predict(half_run, tmp_path / "grey.nii.gz", tmp_path / "out")
    assert "grey.nii.gz: its values seem to be no HU (0 to 255" in caplog.text


def test_another_format_is_added_and_an_edited_one_is_kept(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(half_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert (out / "case_3.seg.nrrd").exists()
    (out / "case_3.seg.nrrd").write_bytes(b"edited by hand")
    with pytest.raises(BadInputError, match="not as viscera wrote it"):
        predict(half_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert (out / "case_3.seg.nrrd").read_bytes() == b"edited by hand"
    predict(half_run, scan, out, formats=["nifti", "seg-nrrd"], overwrite=True)
    assert (out / "case_3.seg.nrrd").read_bytes() != b"edited by hand"


def test_a_format_of_an_earlier_model_is_made_anew_when_it_is_asked_for(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The NIfTI of the first model stays while the second writes another format; then it is replaced."""
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    assert "case_3.nii.gz: made by another model" in caplog.text
    predict(tiny_run, scan, out)
    (expected,) = predict(tiny_run, scan, tmp_path / "expected")
    assert (out / "case_3.nii.gz").read_bytes() == expected.read_bytes()
    before = state(out)
    predict(tiny_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert state(out) == before  # both formats are of one model now


def test_what_two_models_left_is_still_known_as_our_own(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path
) -> None:
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    predict(tiny_run, scan, out, PredictConfig(overlap=0.25), formats=["seg-nrrd"])
    predict(half_run, scan, out, PredictConfig(overlap=0.25))  # no refusal: nobody edited the NIfTI
    image = nib.load(out / "case_3.nii.gz")
    nib.save(nib.Nifti1Image(np.full(image.shape, 5, dtype=np.uint8), image.affine), out / "case_3.nii.gz")
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    with pytest.raises(BadInputError, match="not as viscera wrote it"):
        predict(tiny_run, scan, out)


def test_formats_that_cannot_be_written(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_3_0000.nii.gz"
    for output, formats, message in (
        ("out", ["stl"], "there is no such format. There are: nifti, dicom-seg, rtstruct, seg-nrrd"),
        ("out", ["rtstruct"], "rtstruct refers to one"),
        ("x.nii.gz", ["nifti", "seg-nrrd"], "one file, and --format nifti, seg-nrrd"),
        ("x.nii.gz", ["seg-nrrd"], "one file, and --format seg-nrrd"),
        ("x.rtstruct.dcm", ["dicom-seg"], "one file, and --format dicom-seg"),
    ):
        with pytest.raises(BadInputError, match=message):
            predict(half_run, scan, tmp_path / output, formats=formats)
    predict(half_run, scan, tmp_path / "x.seg.nrrd")  # the name asks for it
    assert (tmp_path / "x.json").exists()


@pytest.mark.parametrize("formats", [["nifti", "dicom-seg"], ["dicom-seg", "nifti"]])
@pytest.mark.parametrize("error", [BadInputError("too many segments."), ZeroDivisionError()])
def test_a_format_that_cannot_be_written_costs_none_of_the_others(
    half_run: Path,
    patient: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    formats: list[str],
    error: Exception,
) -> None:
    def failing(*_args: object) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("viscera.io.formats.dicom_seg_bytes", failing)
        kind = BadInputError if isinstance(error, BadInputError) else DefectError
        with pytest.raises(kind, match=r"So patient_7\.seg\.dcm is not written; written: patient_7\.nii\.gz\."):
            predict(half_run, patient, tmp_path / "out", formats=formats)
    assert (tmp_path / "out" / "patient_7.nii.gz").exists()
    assert "is not written" in (tmp_path / "out" / "quarantine.csv").read_text()
    assert (tmp_path / "out" / "measurements.csv").exists()
    predict(half_run, patient, tmp_path / "out", formats=formats)
    assert (tmp_path / "out" / "patient_7.seg.dcm").exists()
    assert not (tmp_path / "out" / "quarantine.csv").exists()


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("dies_at", ["write_json", "write_bytes"])
def test_killed_between_its_two_files_a_second_call_completes(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str, replacing: bool
) -> None:
    scan, config = scans / "case_3_0000.nii.gz", PredictConfig(overlap=0.25)
    if replacing:
        predict(half_run, scan, tmp_path / "out")

    def dying(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predictions, dies_at, dying)
        with pytest.raises(KeyboardInterrupt):
            predict(half_run, scan, tmp_path / "out", config)
    predict(half_run, scan, tmp_path / "out", config)
    said = json.loads((tmp_path / "out" / "case_3.json").read_text())
    assert said["output_sha256"] == sha256(tmp_path / "out" / "case_3.nii.gz")
    before = state(tmp_path / "out")
    predict(half_run, scan, tmp_path / "out", config)
    assert state(tmp_path / "out") == before


def test_scans_are_never_overwritten(half_run: Path, scans: Path) -> None:
    scan = (scans / "case_3_0000.nii.gz").rename(scans / "case_3.nii.gz")
    content = scan.read_bytes()
    for output in (scans, scan):
        with pytest.raises(BadInputError, match="the label map would replace a scan"):
            predict(half_run, scan, output, overwrite=True)
    assert scan.read_bytes() == content


@pytest.mark.parametrize("formats", [None, ["rtstruct"]])
def test_images_of_a_series_are_never_overwritten(half_run: Path, patient: Path, formats: list[str] | None) -> None:
    slices = [path.rename(path.with_name(f"{n}.dcm")) for n, path in enumerate(sorted((patient / "S1").iterdir()))]
    before = state(patient / "S1")
    for output in (slices[3], patient / ".." / patient.name / "S1" / slices[0].name):
        with pytest.raises(BadInputError, match=r"\.dcm: the label map would replace a scan"):
            predict(half_run, patient, output, formats=formats, overwrite=True)
    assert state(patient / "S1") == before


def test_two_scans_of_one_name_are_refused(half_run: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copy(scans / "case_3_0000.nii.gz", scans / "case_3.nii.gz")
    with pytest.raises(BadInputError, match=r"would both become case_3\.nii\.gz"):
        predict(half_run, scans, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ bad input


def test_bad_scans_are_left_out_with_their_reasons_and_the_others_go_on(
    half_run: Path, scans: Path, tmp_path: Path
) -> None:
    (scans / "case_0_0000.nii.gz").write_bytes((scans / "case_0_0000.nii.gz").read_bytes()[:-30])
    (scans / "case_1_0000.nii.gz").write_text("not a scan")
    nan = np.full((4, 4, 4), np.nan, dtype=np.float32)
    nib.save(nib.Nifti1Image(nan, np.eye(4)), scans / "case_2_0000.nii.gz")
    (scans / "gone.nii.gz").symlink_to(scans / "nowhere.nii.gz")
    (scans / "folder.nii.gz").mkdir()
    with pytest.raises(BadInputError, match=r"5 of 7 cases were left out \(reasons in .*out/quarantine\.csv\)"):
        predict(half_run, scans, tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        reasons = {line["case"]: line["reason"] for line in csv.DictReader(file)}
    assert "truncated" in reasons["case_0_0000.nii.gz"]
    assert "not a NIfTI" in reasons["case_1_0000.nii.gz"]
    assert "64 voxels are NaN" in reasons["case_2_0000.nii.gz"]
    assert "cannot be read" in reasons["gone.nii.gz"]
    assert "cannot be read" in reasons["folder.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["case_3.nii.gz", "case_4.nii.gz"]
    mended = tmp_path / "mended"
    mended.mkdir()
    for name in reasons:
        shutil.copy(scans / "case_3_0000.nii.gz", mended / name)
    predict(half_run, mended, tmp_path / "out")
    assert not (tmp_path / "out" / "quarantine.csv").exists()


def test_one_scan_never_stops_the_others_whatever_it_raises(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(path: Path) -> Volume:
        number = int(path.name[5])
        if number == 0:
            raise ZeroDivisionError("nobody thought of it")
        if number == 1:
            raise MemoryError("Unable to allocate 21 TiB")
        if number == 2:
            (scans / "case_3_0000.nii.gz").unlink()
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_volume(path)

    monkeypatch.setattr("viscera.io.scans.read_nifti", read)
    with pytest.raises(DefectError, match=r"4 of 5 cases were left out .*case_0.*ZeroDivisionError: nobody"):
        predict(half_run, scans, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["case_4.nii.gz"]
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        reasons = [line["reason"] for line in csv.DictReader(file)]
    for reason, part in zip(reasons, ("a defect", "out of memory", "Permission denied", "No such file"), strict=True):
        assert part in reason
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_as_the_output_is_written_through(half_run: Path, scans: Path, tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "disk" / "real.nii.gz", tmp_path / "link.nii.gz"
    target.parent.mkdir()
    link.symlink_to(Path("disk") / "real.nii.gz")
    if exists:
        predict(half_run, scans / "case_1_0000.nii.gz", link)
    predict(half_run, scans / "case_1_0000.nii.gz", link, PredictConfig(overlap=0.25))
    assert link.is_symlink()
    assert [path.name for path in target.parent.iterdir()] == ["real.nii.gz"]
    assert labels_of(target).shape == (14, 12, 10)


def test_what_other_calls_left_out_stays_on_the_list(half_run: Path, scans: Path, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.nii.gz", tmp_path / "out"
    bad.write_text("not a scan")
    with pytest.raises(BadInputError, match="not a NIfTI"):
        predict(half_run, bad, out)
    before = (out / "quarantine.csv").read_bytes()
    predict(half_run, scans, out)
    assert (out / "quarantine.csv").read_bytes() == before
    shutil.copy(scans / "case_3_0000.nii.gz", bad)
    predict(half_run, bad, out)
    assert not (out / "quarantine.csv").exists()


@pytest.mark.parametrize(
    ("table", "output"),
    [("quarantine.csv", "out"), ("measurements.csv", "out"), ("x.measurements.csv", "out/x.nii.gz")],
)
@pytest.mark.parametrize("content", [b"patient;since\n7;May\n", b"M\xfcller", b""])
def test_tables_of_others_are_kept(
    half_run: Path, scans: Path, tmp_path: Path, table: str, output: str, content: bytes
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / table).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{table}: exists, and viscera did not write it. Move it away, or choose"):
        predict(half_run, scans / "case_0_0000.nii.gz", tmp_path / output, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [table]
    assert (tmp_path / "out" / table).read_bytes() == content


def test_one_bad_scan_is_said_in_one_sentence(half_run: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "case_0_0000.nii.gz").write_text("not a scan")
    with pytest.raises(BadInputError, match=r"case_0_0000\.nii\.gz: this is not a NIfTI file"):
        predict(half_run, scans / "case_0_0000.nii.gz", tmp_path / "x.nii.gz")


def test_what_cannot_be_predicted_from_or_to(half_run: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    scan = scans / "case_0_0000.nii.gz"
    for arguments, message in (
        (
            (half_run, tmp_path / "empty", tmp_path / "out"),
            "no DICOM image in it. Give the folder of a CT series, or a NIfTI file",
        ),
        ((half_run, tmp_path / "missing", tmp_path / "out"), "there is no such file or folder"),
        ((tmp_path / "empty", scan, tmp_path / "out"), "there is no such checkpoint"),
        ((half_run, scan, tmp_path / "out.dcm"), "no DICOM series, and dicom-seg refers to one"),
        ((half_run, scan, tmp_path / "file"), "this is a file. Give a folder"),
        ((half_run, scan, tmp_path / "file" / "x.nii.gz"), "cannot be written"),
    ):
        with pytest.raises(BadInputError, match=message):
            predict(*arguments)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_ends_the_command_and_keeps_what_was_there(
    half_run: Path, tmp_path: Path, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(make_case(0, (42, 40, 40))[0], np.eye(4) * 2), tmp_path / "a.nii")
    predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii")
    before = (tmp_path / "out" / "a.nii").read_bytes()
    segmented: list[int] = []

    def watched(path: Path) -> Volume:
        segmented.append(1)
        return read_volume(path)

    monkeypatch.setattr("viscera.io.scans.read_nifti", watched)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(BadInputError, match=r"a\.nii: the disk is full .*Free some space"):
            predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii", PredictConfig(overlap=0.1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(segmented) == 1
    assert (tmp_path / "out" / "a.nii").read_bytes() == before
    predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii", PredictConfig(overlap=0.1))  # still its own


def test_a_damaged_case_of_the_store_is_left_out(half_run: Path, half_store: Store, tmp_path: Path) -> None:
    shutil.copytree(half_store.path, tmp_path / "s")
    name = half_store.names("test")[0]
    path = tmp_path / "s" / "cases" / name / "image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"1 of 2 .*quarantine\.csv.*{name}/image\.npy: changed since"):
        predict_store(half_run, Store.open(tmp_path / "s"), half_store.names("test"), tmp_path / "out")
    assert (tmp_path / "out" / "quarantine.csv").exists()
