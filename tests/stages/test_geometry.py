"""The answer lies where the scan lies: every orientation, oblique, sheared, of any spacing, in patient millimetres.

The network is replaced by exact functions of HU, so that what it should say of a scan is known. All else is as always:
NIfTI files in, `stages.predict`, NIfTI files out.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from tests.oriented_scans import (
    ALL_48,
    LEVELS_HU,
    OBLIQUE,
    SPACING_MM,
    STRAIGHT,
    TILTED,
    Array,
    ByLevel,
    ByShare,
    Flips,
    Perm,
    affine_of,
    forms_of,
    in_file_order,
    saved,
    voxels_of,
)
from viscera.stages.predict import predict

MakeRun = Callable[..., Path]
pytestmark = pytest.mark.no_cover  # one way through prediction, 218 times


# ------------------------------------------------------------------------------------------ voxel by voxel


@pytest.mark.parametrize("place", [STRAIGHT, TILTED], ids=["straight", "tilted"])
@pytest.mark.parametrize(("axes", "flips"), ALL_48)
def test_every_voxel_keeps_its_class_in_every_orientation(
    make_run: MakeRun, tmp_path: Path, axes: Perm, flips: Flips, place: Array
) -> None:
    shape = (19, 14, 9)
    labels = np.random.default_rng(0).integers(0, 8, shape)
    affine = affine_of(axes, flips, place, shape, SPACING_MM)
    scan = saved(tmp_path / "ct.nii", LEVELS_HU[labels], affine)
    (answer,) = predict(make_run(ByLevel(), **{"prepare.downsample": 1}), scan, tmp_path / "answer.nii")
    assert (voxels_of(answer) == labels).all()
    assert forms_of(answer) == forms_of(scan)


@pytest.mark.parametrize(("axes", "flips"), ALL_48[::5])
def test_what_fills_whole_network_voxels_comes_back_voxel_by_voxel(
    make_run: MakeRun, tmp_path: Path, axes: Perm, flips: Flips
) -> None:
    # network voxels count from the left, posterior, lower corner; here they are 4×3×2 voxels of the scan
    coarse = np.random.default_rng(1).integers(0, 8, (5, 4, 6))
    in_patient = coarse.repeat(4, axis=0).repeat(3, axis=1).repeat(2, axis=2)
    labels = in_patient.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
    affine = affine_of(axes, flips, OBLIQUE, labels.shape, in_file_order(SPACING_MM, axes))
    scan = saved(tmp_path / "ct.nii.gz", LEVELS_HU[labels], affine)
    run = make_run(ByLevel(), **{"prepare.downsample": "4,3,2", "predict.restore": "labels"})
    (answer,) = predict(run, scan, tmp_path / "answer.nii.gz")
    assert (voxels_of(answer) == labels).all()


# ------------------------------------------------------------------------------------------ landmarks

LANDMARKS_MM = {1: (27, -12, 24), 3: (-22, -19, -21), 6: (-4, 22, 3), 7: (-20, 15, 34)}  # from the centre; no symmetry


def scan_with_landmarks(affine: Array, shape: Perm, radius_mm: float, scale: float) -> npt.NDArray[np.int16]:
    """Balls of one HU an organ in air, where their centres lie in the patient."""
    i, j, k = np.ogrid[tuple(slice(size) for size in shape)]
    x, y, z = (by_i * i + by_j * j + by_k * k + first for by_i, by_j, by_k, first in affine[:3])
    hu = np.full(shape, LEVELS_HU[0])
    for label, offset in LANDMARKS_MM.items():
        centre = np.array([17, -45, 830]) + scale * np.array(offset)
        hu[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius_mm**2] = LEVELS_HU[label]
    return hu


def misplaced_by(answer: Path, scale: float) -> Array:
    """(landmarks, 3) how many voxels of the scan's grid each landmark lies off along I, J, K."""
    image = nib.load(answer)
    labels = np.asarray(image.dataobj)
    components, number = ndimage.label(labels > 0)
    assert number == len(LANDMARKS_MM)
    off = []
    for label, offset in LANDMARKS_MM.items():
        truth = np.linalg.inv(image.affine) @ [*(np.array([17, -45, 830]) + scale * np.array(offset)), 1]
        at = tuple(np.rint(truth[:3]).astype(int))
        assert labels[at] == label
        off.append(np.array(ndimage.center_of_mass(components == components[at])) - truth[:3])
    return np.abs(off)


@pytest.mark.parametrize("place", [OBLIQUE, TILTED], ids=["oblique", "tilted"])
@pytest.mark.parametrize(("axes", "flips"), ALL_48)
def test_landmarks_stay_within_half_a_voxel_in_every_orientation(
    make_run: MakeRun, tmp_path: Path, axes: Perm, flips: Flips, place: Array
) -> None:
    shape, scale = (84, 64, 28), 0.65
    affine = affine_of(axes, flips, place, shape, SPACING_MM)
    scan = saved(tmp_path / "ct.nii", scan_with_landmarks(affine, shape, 6, scale), affine)
    (answer,) = predict(make_run(ByShare(), **{"prepare.downsample": 2}), scan, tmp_path / "answer.nii")
    assert misplaced_by(answer, scale).max() <= 0.5
    assert forms_of(answer) == forms_of(scan)


@pytest.mark.parametrize(
    ("settings", "network_mm"),
    [
        ({"prepare.downsample": 4}, (2.84, 3.72, 10.8)),
        ({"prepare.downsample": "4,4,1"}, (2.84, 3.72, 2.7)),
        ({"prepare.downsample": "3 2 1"}, (2.13, 1.86, 2.7)),
        ({"prepare.spacing_mm": 3}, (3, 3, 3)),
        ({"prepare.spacing_mm": "1.5,1.5,3"}, (1.5, 1.5, 3)),
        ({"prepare.spacing_mm": "4,0.5,2"}, (4, 0.5, 2)),
        ({"predict.grid": "auto"}, (2.5, 2, 3)),  # four times the scan's would be unlike the training scans
        ({"predict.grid": "spacing"}, (2.5, 2, 3)),
    ],
)
@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), (-1, -1, 1)), ((1, 2, 0), (1, -1, -1))])
def test_landmarks_larger_than_a_network_voxel_stay_within_half_a_voxel_of_the_scan(
    make_run: MakeRun,
    tmp_path: Path,
    axes: Perm,
    flips: Flips,
    settings: dict[str, object],
    network_mm: tuple[float, float, float],
) -> None:
    radius_mm = float(np.linalg.norm(network_mm))  # so that a ball holds a whole network voxel, wherever it lies
    scale = 0.7 + radius_mm / 14
    spacing_mm = in_file_order(SPACING_MM, axes)
    shape = tuple(int(2 * (34 * scale + radius_mm + 4) / mm) for mm in spacing_mm)
    affine = affine_of(axes, flips, TILTED, shape, spacing_mm)
    scan = saved(tmp_path / "ct.nii", scan_with_landmarks(affine, shape, radius_mm, scale), affine)
    run = make_run(ByShare(), trained_mm=((2.5, 2, 3), (2.6, 2, 2.9), (1.5, 2, 3.1)), **settings)
    (answer,) = predict(run, scan, tmp_path / "answer.nii")
    assert misplaced_by(answer, scale).max() <= 0.5
