"""Label maps on the scans' own grids, where and as what they are asked for; what is measured of them, and flagged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.label_maps import labels_of, rows_of, state
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.engine.trust import OrganRange, TrainingRanges, save_ranges
from viscera.io.files import sha256
from viscera.io.nifti import read_labels, read_volume
from viscera.io.store import Store
from viscera.stages.predict import predict, predict_store

MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
ORIENTATIONS = ["LPS", "RPI", "AIL", "SLP"]


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


def test_values_that_are_no_hu_are_named(
    half_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nib.load(scans / "case_3_0000.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).clip(-100, 155) + 100, image.affine), tmp_path / "grey.nii.gz")
    predict(half_run, tmp_path / "grey.nii.gz", tmp_path / "out")
    assert "grey.nii.gz: its values do not look like HU (0 to 255" in caplog.text


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
