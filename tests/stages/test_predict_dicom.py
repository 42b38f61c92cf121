"""DICOM in, and every format out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest

import viscera
from tests.ct_series import ct_series, enhanced, save
from tests.label_maps import axial_series, labels_of, save_axial, state
from viscera.core.errors import BadInputError, DefectError
from viscera.core.geometry import Geometry
from viscera.io.files import sha256
from viscera.io.nifti import read_labels
from viscera.io.scans import open_scan
from viscera.stages.predict import predict

MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


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
    assert said["dicom"]
    assert "series" not in said  # where its UID stood in 0.1


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
    save_axial(patient / "S2", make_case(4, (15, 11, 8))[0], SeriesDescription="thick")
    with pytest.raises(BadInputError, match=r"patient_7\.nii\.gz: exists, made from another series, or .*\. Give"):
        predict(half_run, patient, tmp_path / "out", series="thick")
    assert labels_of(tmp_path / "out" / "patient_7.nii.gz").shape[2] == 9
    predict(half_run, patient, tmp_path / "out" / "thick.nii.gz", series="thick")
    assert labels_of(tmp_path / "out" / "thick.nii.gz").shape[2] == 8


def test_another_patient_without_a_series_uid_does_not_replace_a_label_map_unasked(
    half_run: Path, tmp_path: Path, make_case: MakeCase
) -> None:
    for n in (1, 2):
        save_axial(tmp_path / str(n) / "CT", make_case(n, (15, 11, 9))[0], SeriesInstanceUID="")
    predict(half_run, tmp_path / "1" / "CT", tmp_path / "out")
    before = state(tmp_path / "out")
    with pytest.raises(BadInputError, match=r"CT\.nii\.gz: exists, made from another series"):
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


def test_a_series_in_every_format(half_run: Path, patient: Path, tmp_path: Path) -> None:
    """The voxels of each file are those of the NIfTI, at the same place in the patient."""
    pytest.importorskip("highdicom")
    formats = ["nifti", "dicom-seg", "rtstruct", "seg-nrrd"]
    (main,) = predict(half_run, patient, tmp_path / "out", formats=formats)
    names = ["measurements.csv", "measurements.csv.sha256"] + [
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


def test_a_multi_frame_image_in_every_format(half_run: Path, make_case: MakeCase, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    slices = axial_series(make_case(3, (15, 11, 9))[0])
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


@pytest.mark.parametrize("formats", [None, ["rtstruct"]])
def test_images_of_a_series_are_never_overwritten(half_run: Path, patient: Path, formats: list[str] | None) -> None:
    slices = [path.rename(path.with_name(f"{n}.dcm")) for n, path in enumerate(sorted((patient / "S1").iterdir()))]
    before = state(patient / "S1")
    for output in (slices[3], patient / ".." / patient.name / "S1" / slices[0].name):
        with pytest.raises(BadInputError, match=r"\.dcm: the label map would replace a scan"):
            predict(half_run, patient, output, formats=formats, overwrite=True)
    assert state(patient / "S1") == before


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
