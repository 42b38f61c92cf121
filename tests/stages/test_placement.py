"""What a NIfTI header can say of place, voxel type and scaling: the answer has the place, the scan its HU.

Where qform and sform disagree nibabel takes the sform, and so do we; SimpleITK takes it only with code 1.
"""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.oriented_scans import (
    LEVELS_HU,
    OBLIQUE,
    SPACING_MM,
    STRAIGHT,
    TILTED,
    Array,
    ByLevel,
    Perm,
    affine_of,
    forms_of,
    saved,
    voxels_of,
)
from viscera.io.nifti import read_volume
from viscera.stages.predict import predict

MakeRun = Callable[..., Path]


def with_codes(path: Path, qform: tuple[Array, int], sform: tuple[Array, int]) -> Path:
    """The file with both forms written and these codes; a form of code 0 is there, and does not count."""
    header = nib.load(path).header.copy()
    header.set_qform(qform[0], code=1)
    header.set_sform(sform[0], code=1)
    header["qform_code"], header["sform_code"] = qform[1], sform[1]
    content = bytearray(path.read_bytes())
    for place in (slice(76, 92), slice(252, 328)):
        content[place] = header.binaryblock[place]
    path.write_bytes(content)
    return path


def simpleitk_places(path: Path) -> Array | None:
    """(4, 4) voxel to RAS+ mm as SimpleITK reads the file; None where it refuses."""
    sitk = pytest.importorskip("SimpleITK")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    ras: Array = np.diag([-1, -1, 1, 1]) @ affine
    return ras


SHAPE = (9, 8, 7)
HERE = affine_of((0, 1, 2), (-1, 1, 1), OBLIQUE, SHAPE, SPACING_MM)  # qfac -1
THERE = affine_of((0, 1, 2), (1, 1, 1), STRAIGHT, SHAPE, SPACING_MM)
SHEARED = affine_of((0, 1, 2), (-1, 1, 1), TILTED, SHAPE, SPACING_MM)
NOWHERE = np.diag([-1, 1, 1, 1]) @ affine_of((0, 1, 2), (1, 1, 1), STRAIGHT, SHAPE, SPACING_MM)
NOWHERE[:3, 3] = -NOWHERE[:3, :3] @ (np.array(SHAPE) - 1) / 2

# (qform, code), (sform, code), what nibabel and we take, what SimpleITK takes
PLACES = {
    "both agree": ((HERE, 1), (HERE, 1), HERE, HERE),
    "qform only": ((HERE, 1), (THERE, 0), HERE, HERE),
    "sform only": ((THERE, 0), (HERE, 2), HERE, HERE),
    "disagree, sform of the scanner": ((THERE, 1), (HERE, 1), HERE, HERE),
    "disagree, sform aligned": ((THERE, 1), (HERE, 2), HERE, THERE),
    "disagree, sform of a template": ((THERE, 2), (HERE, 4), HERE, THERE),
    "sheared, sform only": ((THERE, 0), (SHEARED, 1), SHEARED, None),
    "sheared, qform without the shear": ((HERE, 1), (SHEARED, 1), SHEARED, HERE),
    "neither": ((THERE, 0), (HERE, 0), NOWHERE, np.diag([-0.71, -0.93, 2.7, 1])),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_any_program_shows_scan_and_answer_in_one_place(
    make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, ending: str
) -> None:
    qform, sform, ours, simpleitks = PLACES[kind]
    labels = np.random.default_rng(2).integers(0, 8, SHAPE)
    scan = with_codes(saved(tmp_path / "ct.nii", LEVELS_HU[labels], HERE), qform, sform)
    if ending == ".nii.gz":
        scan = tmp_path / "ct.nii.gz"
        scan.write_bytes(gzip.compress((tmp_path / "ct.nii").read_bytes()))
    np.testing.assert_allclose(nib.load(scan).affine, ours, atol=1e-4)
    np.testing.assert_allclose(read_volume(scan).geometry.affine, ours, atol=1e-4)
    (answer,) = predict(make_run(ByLevel(), **{"prepare.downsample": 1}), scan, tmp_path / f"answer{ending}")
    assert (voxels_of(answer) == labels).all()
    assert forms_of(answer) == forms_of(scan)
    disagree = "disagree" in kind or kind == "sheared, qform without the shear"
    assert ("its qform and sform disagree" in caplog.text) == disagree
    assert ("does not say how the patient lies" in caplog.text) == (kind == "neither")

    for place in (simpleitk_places(answer), simpleitk_places(scan)):
        assert (place is None) == (simpleitks is None)
        if place is not None and simpleitks is not None:
            np.testing.assert_allclose(place, simpleitks, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [
        (np.int8, 1000 / 7, -500),
        (np.uint8, 1000 / 7, -500),
        (np.int16, 1, 0),
        (np.int16, 2, -1024),
        (np.uint16, 0.5, -1024),
        (np.uint16, 1, -1024),
        (np.int32, 1, 0),
        (np.float32, 1, 0),
        (np.float32, 2, -1000),
        (np.float64, 0.5, 10),
    ],
)
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1)], ids=["3D", "one time point"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_hu_are_what_slope_and_intercept_say_of_any_number_type(  # noqa: PLR0913, PLR0917
    make_run: MakeRun, tmp_path: Path, dtype: type, slope: float, intercept: float, shape: Perm, byte_order: str
) -> None:
    labels = np.random.default_rng(3).integers(0, 8, SHAPE)
    stored = np.rint((LEVELS_HU[labels] - intercept) / slope).astype(dtype).reshape(shape)
    scan = saved(tmp_path / "ct.nii", stored, HERE, byte_order)
    content = bytearray(scan.read_bytes())
    content[112:120] = np.array([slope, intercept], dtype=f"{byte_order}f4").tobytes()
    scan.write_bytes(content)
    (answer,) = predict(make_run(ByLevel(), **{"prepare.downsample": 1}), scan, tmp_path / "answer.nii")
    assert (voxels_of(answer) == labels).all()
    np.testing.assert_allclose(nib.load(answer).affine, HERE, atol=1e-4)
    assert nib.load(answer).get_data_dtype() == np.uint8


def test_nifti_2(make_run: MakeRun, tmp_path: Path) -> None:
    labels = np.random.default_rng(4).integers(0, 8, SHAPE)
    nib.save(nib.Nifti2Image(LEVELS_HU[labels], SHEARED), tmp_path / "ct.nii.gz")
    (answer,) = predict(make_run(ByLevel(), **{"prepare.downsample": 1}), tmp_path / "ct.nii.gz", tmp_path / "a.nii.gz")
    assert (voxels_of(answer) == labels).all()
    np.testing.assert_allclose(nib.load(answer).affine, SHEARED, atol=1e-4)
