"""Reading DICOM, voxel by voxel against SimpleITK, an implementation of its own (ITK and GDCM), and nibabel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

import viscera
from tests.ct_series import STORED, ct_series, enhanced, save
from viscera.core.errors import BadInputError
from viscera.core.scan import Volume
from viscera.io.dicom import find_series, read_series

sitk = pytest.importorskip("SimpleITK")

ANGLE = np.deg2rad(20)
COS, SIN = np.cos(ANGLE), np.sin(ANGLE)
SIGNED = (STORED.astype(np.int16) - 2000).astype(np.int16)
SLOPES = [1, 2, 0.5, 1.25, 3, 0.1]


def with_each(slices: list[Dataset], change: Callable[[int, Dataset], None]) -> list[Dataset]:
    for k, ds in enumerate(slices):
        change(k, ds)
    return slices


def slope_of_its_own(k: int, ds: Dataset) -> None:
    ds.RescaleSlope, ds.RescaleIntercept = SLOPES[k], -1000 + k


def dirty_bits(_k: int, ds: Dataset) -> None:
    stored = np.frombuffer(ds.PixelData, dtype=np.uint16) | 0x3000  # an overlay in bits 12 and 13
    ds.BitsStored, ds.HighBit, ds.PixelData = 12, 11, stored.tobytes()


ODDITIES: dict[str, Callable[[], list[Dataset]]] = {
    "plain": ct_series,
    "12 bits stored": lambda: ct_series(BitsStored=12, HighBit=11),
    "12 bits stored, others in use": lambda: with_each(ct_series(), dirty_bits),
    "signed": lambda: ct_series(SIGNED, RescaleIntercept=0),
    "signed, 12 bits stored": lambda: ct_series((SIGNED // 2).astype(np.int16), BitsStored=12, HighBit=11),
    "8 bits": lambda: ct_series((STORED // 16).astype(np.uint8), RescaleSlope=16),
    "32 bits": lambda: ct_series(STORED.astype(np.uint32)),
    "fractional slope": lambda: ct_series(RescaleSlope=0.37, RescaleIntercept=-100.5),
    "slope of each slice": lambda: with_each(ct_series(), slope_of_its_own),
    "no slope, no intercept": lambda: ct_series(
        (STORED // 2).astype(np.uint16), RescaleSlope=None, RescaleIntercept=None
    ),
    "few tags": lambda: ct_series(
        PatientID=None, SeriesDescription=None, SliceThickness=None, InstanceNumber=None, FrameOfReferenceUID=None
    ),
    "from head to feet": lambda: ct_series(step_mm=(0, 0, -2.5)),
    "oblique": lambda: ct_series(orientation=(COS, SIN, 0, -SIN, COS, 0)),
    "oblique in three axes": lambda: ct_series(
        orientation=(COS, 0, -SIN, SIN * SIN, COS, SIN * COS), step_mm=np.multiply(3, [SIN * COS, -SIN, COS * COS])
    ),
    "coronal": lambda: ct_series(orientation=(1, 0, 0, 0, 0, -1), step_mm=(0, 4, 0)),
    "sagittal": lambda: ct_series(orientation=(0, 1, 0, 0, 0, -1), step_mm=(-4, 0, 0)),
    "feet first": lambda: ct_series(orientation=(-1, 0, 0, 0, 1, 0)),
}


def itk_image(files: Sequence[str]) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader.Execute()


def itk_slices(files: Sequence[Path]) -> np.ndarray:
    """HU (slices, rows, columns), each file for itself: the series reader takes the number type of the first."""
    return np.stack([np.rint(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[0]) for file in files])


def with_air(hu: np.ndarray) -> np.ndarray:
    """GE's padding, -2000 stored, is air with us; SimpleITK gives it as it is."""
    return np.where(hu == -3024, -1024, hu)


def itk_affine(image: Any) -> np.ndarray:
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.asarray(np.diag([-1.0, -1, 1, 1]) @ lps)


def agrees(volume: Volume, files: Sequence[Path]) -> None:
    """The same voxels at the same places; SimpleITK gets the files in our order."""
    assert (volume.hu.transpose(2, 1, 0) == itk_slices(files)).all()
    expected = itk_affine(itk_image([str(file) for file in files]))
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-5)


@pytest.mark.parametrize("name", ODDITIES)
def test_generated_oddities(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "in", ODDITIES[name]())
    (series,) = find_series(folder)
    agrees(read_series(series), series.sources)
    in_their_order = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert [str(path) for path in series.sources] == list(in_their_order)


@pytest.mark.parametrize("name", ["12 bits stored", "signed", "slope of each slice"])
def test_big_endian(tmp_path: Path, name: str) -> None:
    (series,) = find_series(save(tmp_path / "in", ODDITIES[name](), syntax=ExplicitVRBigEndian))
    agrees(read_series(series), series.sources)


SYNTAXES = {
    "JPEG 2000": "JPEG2000Lossless",
    "JPEG-LS": "JPEGLSLossless",
    "lossless JPEG": "JPEGLosslessProcess14_1",
    "RLE": "RLELossless",
    "implicit": "ImplicitVRLittleEndian",
    "deflated": "DeflatedExplicitVRLittleEndian",
}


@pytest.mark.parametrize("oddity", ["12 bits stored", "signed", "signed, 12 bits stored", "slope of each slice"])
@pytest.mark.parametrize("name", SYNTAXES)
def test_compressed(tmp_path: Path, name: str, oddity: str) -> None:
    gdcm = pytest.importorskip("gdcm")
    plain = save(tmp_path / "plain", ODDITIES[oddity]())
    (tmp_path / "in").mkdir()
    for file in plain.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, SYNTAXES[name])))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(tmp_path / "in" / file.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    (series,) = find_series(tmp_path / "in")
    agrees(read_series(series), series.sources)
    (plain_series,) = find_series(plain)
    assert (read_series(series).hu == read_series(plain_series).hu).all()


def test_multi_frame(tmp_path: Path) -> None:
    slices = with_each(ct_series(orientation=(COS, SIN, 0, -SIN, COS, 0)), slope_of_its_own)
    folder = save(tmp_path / "frames", [enhanced(slices)])
    (file,) = folder.iterdir()
    (series,) = find_series(folder)
    image = sitk.ReadImage(str(file))
    np.testing.assert_allclose(read_series(series).geometry.affine, itk_affine(image), atol=1e-5)
    single = save(tmp_path / "single", slices)
    assert (read_series(series).hu == viscera.read_volume(single).hu).all()


# ------------------------------------------------------------------------------------------ real series


def test_what_pydicom_is_tested_with() -> None:
    """Its folder of oddities: all kinds of objects, of several patients, truncated, without headers, or no DICOM."""
    found = find_series(Path(pydicom.data.__file__).parent)
    assert {"CT", "MR", "SEG", "SR", "US", "RTSTRUCT", "RTPLAN", "RTDOSE"} <= {series.modality for series in found}
    readable = [series for series in found if not series.problem and not series.passed_over]
    assert [series.description for series in readable] == ["SmartScore - Gated 0.5 sec"]
    agrees(read_series(readable[0]), readable[0].sources)
    brain = next(series for series in found if series.description == "Routine Brain")
    assert brain.problem.startswith("161 slices are missing")
    with pytest.raises(BadInputError, match="scans of several patients"):
        viscera.read_volume(Path(pydicom.data.__file__).parent)


@pytest.mark.parametrize("folder", ["ts_dicom", "dicom_seg_examples/ct-3slice", "dicom_seg_examples/rtstruct_phantom"])
def test_real_series(real_data: Path, folder: str) -> None:
    series = next(series for series in find_series(real_data / folder) if series.modality == "CT")
    volume = read_series(series)
    assert (volume.hu.transpose(2, 1, 0) == with_air(itk_slices(series.sources))).all()
    expected = itk_affine(itk_image([str(file) for file in series.sources]))
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-5)


def test_a_real_single_slice(real_data: Path) -> None:
    (series,) = find_series(real_data / "dicom_seg_examples" / "ct_image.dcm")
    volume = read_series(series)
    assert (with_air(itk_slices(series.sources))[0] == volume.hu[..., 0].T).all()
    expected = itk_affine(sitk.ReadImage(str(series.sources[0])))
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-5)


def test_a_real_series_lies_where_its_nifti_labels_do(real_data: Path) -> None:
    volume = viscera.read_volume(real_data / "ts_dicom").canonical()
    labels = nib.as_closest_canonical(nib.load(real_data / "ts_dicom" / "labels.nii.gz"))
    np.testing.assert_allclose(volume.geometry.affine, labels.affine, atol=1e-4)
    liver = volume.hu[np.asanyarray(labels.dataobj) == 3]
    assert 60 < liver.mean() < 130  # portal-venous


def test_the_same_scan_as_dicom_and_as_nifti(real_data: Path) -> None:
    from_dicom = viscera.read_volume(real_data / "ts_dicom").canonical()
    from_nifti = viscera.read_volume(real_data / "nnunet_real" / "imagesTr" / "ts_slab_0000.nii.gz").canonical()
    assert (from_dicom.hu == from_nifti.hu).all()
    assert from_dicom.geometry.same_grid(from_nifti.geometry)
