"""One door for NIfTI files, DICOM folders and zip files."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

import viscera
from tests.ct_series import STORED, ct_series, enhanced, file_name, save
from viscera.core.errors import BadInputError
from viscera.io.scans import list_series, open_scan, open_scans

HU_IJK = (STORED.astype(np.int16) - 1024).transpose(2, 1, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A patient's folder: one series, in a folder of its own."""
    return save(tmp_path / "patient.7" / "S1", ct_series()).parent


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def test_the_same_volume_from_a_folder_a_zip_file_a_multi_frame_file_and_nifti(folder: Path, tmp_path: Path) -> None:
    (multi_frame,) = save(tmp_path / "frames", [enhanced(ct_series())]).iterdir()
    volume = viscera.read_volume(folder)
    assert (volume.hu == HU_IJK).all()
    nib.save(nib.Nifti1Image(HU_IJK, volume.geometry.affine), tmp_path / "ct.nii.gz")
    for path in (zipped(folder), multi_frame, tmp_path / "ct.nii.gz"):
        other = viscera.read_volume(path)
        assert (other.hu == HU_IJK).all()
        np.testing.assert_allclose(other.geometry.affine, volume.geometry.affine, atol=1e-5)


def test_a_scan_knows_its_series_and_its_name(folder: Path) -> None:
    for path in (folder, zipped(folder)):
        with open_scan(path) as scan:
            assert scan.name == "patient.7"
            assert scan.path == path
            assert scan.series is not None
            assert all(source.is_file() for source in scan.series.sources)
        assert all(source.exists() for source in scan.series.sources) == (path is folder)


def test_a_dicomdir_is_called_after_its_folder(folder: Path) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    save(folder, [ds])
    (folder / file_name(ds)).rename(folder / "DICOMDIR")
    with open_scan(folder / "DICOMDIR") as scan:
        assert scan.name == "patient.7"
        assert (scan.read().hu == HU_IJK).all()


def test_the_checksum_of_a_series_is_that_of_its_files_in_order(folder: Path, tmp_path: Path) -> None:
    with open_scan(folder) as scan, open_scan(zipped(folder)) as packed:
        before = scan.sha256()
        assert packed.sha256() == before
        assert scan.series is not None
        first, second = scan.series.sources[:2]
        for path in (first, second):
            path.rename(tmp_path / path.name)
        (tmp_path / first.name).rename(second)
        (tmp_path / second.name).rename(first)
    with open_scan(folder) as renamed:
        assert renamed.sha256() == before
    (folder / "S1" / "more").write_text("beside the series")
    first.write_bytes(first.read_bytes() + b"\0\0")
    with open_scan(folder) as changed:
        assert changed.sha256() != before


def test_a_series_by_its_uid(folder: Path) -> None:
    thick = ct_series(STORED[:4])
    save(folder / "S2", thick)
    assert viscera.read_volume(folder, series=thick[0].SeriesInstanceUID).hu.shape == (48, 40, 4)
    assert viscera.read_volume(folder, series=2).hu.shape == (48, 40, 4)  # of `viscera series`, which lists most first


def test_what_else_was_there_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(folder / "S2", ct_series(STORED[:4], SeriesDescription="thick"))
    (folder / "cut").write_bytes(bytes(128) + b"DICM" + b"\xff" * 9)
    with caplog.at_level(logging.WARNING):
        viscera.read_volume(folder)
    assert "which has most images; there are also" in caplog.messages[0]
    assert "series 2 (4 images of 48×40 pixels, 2.5 mm apart)" in caplog.messages[0]
    assert "thick" not in caplog.messages[0]
    assert "left out: 1 damaged DICOM file: cut" in caplog.messages[1]


def test_a_folder_of_nifti_files_and_a_folder_of_both(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = tmp_path / "both"
    save(both, ct_series())
    for name in ("b_0000.nii.gz", "a.nii"):
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), folder / name)
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), both / name)
    with open_scans(folder) as scans:  # DICOM only in a folder below
        assert [(scan.name, scan.series) for scan in scans] == [("a", None), ("b", None)]
    with open_scans(both) as scans:
        assert [scan.name for scan in scans] == ["both"]
        assert scans[0].series is not None
    assert "read as DICOM; the 2 NIfTI files in it are left alone" in caplog.text
    uid = scans[0].series.uid
    with pytest.raises(BadInputError, match="there is no series"), open_scans(folder, uid):
        pass


def test_endings_in_capitals(tmp_path: Path) -> None:
    for name in ("b_0000.NII.GZ", "a.NII"):
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), tmp_path / name.lower())
        (tmp_path / name.lower()).rename(tmp_path / name)
    with open_scans(tmp_path) as scans:
        assert [scan.name for scan in scans] == ["a", "b"]
        assert all((scan.read().hu == HU_IJK).all() for scan in scans)
        assert [scan.path.name for scan in scans] == ["a.NII", "b_0000.NII.GZ"]


def test_what_is_no_scan(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("no scan")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "missing", "there is no such file"),
        (tmp_path / "text.nii.gz", "this is not a NIfTI file|damaged"),
        (tmp_path / "empty", "the folder is empty"),
        (next((folder / "S1").iterdir()), "fewer than three images"),
    ):
        with pytest.raises(BadInputError, match=message):
            viscera.read_volume(path)
    with pytest.raises(BadInputError, match="a series was named, but this is not DICOM"):
        viscera.read_volume(tmp_path / "text.nii.gz", series="1.2.3")


def test_the_list_of_a_zip_file(folder: Path) -> None:
    listing = list_series(zipped(folder))
    assert listing.chosen is listing.series[0]
    assert listing.refusal == ""


def test_the_list_where_none_would_be_read(folder: Path, tmp_path: Path) -> None:
    save(folder / "S2", ct_series())
    listing = list_series(folder)
    assert len(listing.series) == 2
    assert listing.chosen is None
    assert "as many images" in listing.refusal
    for path, message in ((tmp_path / "missing", "no such file or folder"), (tmp_path, "the folder is empty")):
        shutil.rmtree(folder, ignore_errors=True)
        with pytest.raises(BadInputError, match=message):
            list_series(path)


def test_further_channels_of_one_grid_are_no_scans(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "c_0001", "d_0002", "n_0000"):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), dtype=np.int16), np.eye(4)), tmp_path / f"{name}.nii.gz")
    other = nib.Nifti1Image(np.zeros((4, 4, 5), dtype=np.int16), np.eye(4))
    nib.save(other, tmp_path / "n_0001.nii.gz")  # patients that are counted from 0
    with open_scans(tmp_path) as scans:
        assert [scan.name for scan in scans] == ["a", "b", "c_0001", "d_0002", "n", "n_0001"]
    assert "left out, as further channels of cases whose CT is channel 0 (_0000): a_0001.nii.gz." in caplog.text


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """NIfTI files in folders below, as BIDS and nnU-Net have them."""
    for name in ("sub-01/ct.nii.gz", "sub-02/ct.nii.gz"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), tmp_path / "data" / name)
    return tmp_path / "data"


def test_nifti_in_folders_below_or_in_a_zip_file_is_said(nested: Path) -> None:
    message = r"data: there is no DICOM image in it, but 2 NIfTI files \(in sub-01, sub-02; ct\.nii\.gz\)\. Give one of"
    for find in (open_scan, open_scans):
        with pytest.raises(BadInputError, match=message), find(nested):
            pass
    with pytest.raises(BadInputError, match=message):
        list_series(nested)
    with pytest.raises(
        BadInputError, match=r"data\.zip: there is no DICOM image in it, but 2 NIfTI .* Unpack it and give"
    ):
        viscera.read_volume(zipped(nested))


def test_packed_files_and_pairs_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.nii.bz2", "b_0000.nii"):
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), tmp_path / name)
    nib.save(nib.Nifti1Pair(HU_IJK, np.eye(4)), tmp_path / "c.img")
    (tmp_path / "alone.hdr").write_bytes((tmp_path / "c.hdr").read_bytes())
    (tmp_path / "._a.nii.gz").write_bytes(b"of a Mac")
    with open_scans(tmp_path) as scans:
        assert [(scan.name, scan.path.name) for scan in scans] == [
            ("a", "a.nii.bz2"),
            ("b", "b_0000.nii"),
            ("c", "c.hdr"),
        ]
        assert all((scan.read().hu == HU_IJK).all() for scan in scans)
        before = scans[2].sha256()
        content = bytearray((tmp_path / "c.img").read_bytes())
        content[-1] ^= 1
        (tmp_path / "c.img").write_bytes(content)
        assert scans[2].sha256() != before
    with open_scan(tmp_path / "c.img") as scan:
        assert scan.name == "c"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("mode", [0o600, 0o000])
def test_what_may_not_be_looked_at_is_one_sentence(mode: int) -> None:
    """A folder without search permission, and files in it, seen by a user who is not root."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        folder = Path(name) / "closed"
        folder.mkdir()
        nib.save(nib.Nifti1Image(HU_IJK, np.eye(4)), folder / "a.nii.gz")
        (folder / "b").write_bytes(bytes(200))
        scan_names(folder)  # what is imported on the way is root's, too
        folder.chmod(mode)
        Path(name).chmod(0o755)
        os.seteuid(65534)
        try:
            for source in (folder, folder / "a.nii.gz", folder / "missing"):
                for look in (viscera.read_volume, list_series, scan_names):
                    with pytest.raises(BadInputError, match="cannot be read"):
                        look(source)
        finally:
            os.seteuid(0)


def scan_names(source: Path) -> list[str]:
    with open_scans(source) as scans:
        return [scan.name for scan in scans if scan.read().hu.size]


def test_a_pipe_is_named_by_every_door(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (list_series, viscera.read_volume):
        with pytest.raises(BadInputError, match="this is a pipe, socket or device; a file was expected"):
            read(tmp_path / "pipe")
