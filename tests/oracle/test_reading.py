"""Reading against nibabel and SimpleITK, on every real NIfTI file: the same voxels at the same place."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from viscera.core.geometry import Geometry
from viscera.io.nifti import read_labels, read_volume

sitk = pytest.importorskip("SimpleITK")


def read_by_simpleitk(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Voxels (I, J, K) and geometry in RAS+; SimpleITK's is LPS+."""
    image = sitk.ReadImage(str(path))
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, Geometry(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine)


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers of voxels as whole numbers; as they are where they are."""
    return values if values.dtype.kind in "iu" else np.rint(values)


def test_every_real_nifti_file(real_data: Path) -> None:
    paths = sorted(real_data.rglob("*.nii.gz"))
    assert len(paths) > 100
    for path in paths:
        expected, theirs = read_by_simpleitk(path)
        image = nib.load(path)
        raw = np.asanyarray(image.dataobj)
        voxels: npt.NDArray[Any]
        if "labels" in path.name or {"segmentations", "labelsTr"} & set(path.parts):
            label_map = read_labels(path, {number: number for number in range(255)})
            voxels, ours = label_map.labels, label_map.geometry
        else:
            volume = read_volume(path)
            voxels, ours = volume.hu, volume.geometry
        assert np.array_equal(voxels, rounded(raw)), path
        assert np.array_equal(voxels, rounded(expected)), path
        assert np.array_equal(ours.affine, image.affine), path
        assert ours.same_grid(theirs, tolerance_mm=0.01 * min(ours.spacing_mm)), path
