"""Cases with one mask file an organ: how they become one label map."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.layout_examples import AFFINE, SHAPE, VOXELS, plane, save, write_example
from viscera.core.errors import BadInputError
from viscera.io.layouts.labelled_cases import find_cases

MASKS = Path("s0000") / "segmentations"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases as TotalSegmentator writes them, with all organs, to spoil."""
    return write_example(tmp_path / "set", "totalsegmentator")


def test_the_lowest_class_keeps_a_voxel_of_several_masks_and_they_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    liver = plane(3)
    liver[2, :2], liver[1, 0] = 1, 1  # 16 voxels of the portal vein's plane, 8 of the aorta's
    save(folder / MASKS / "liver.nii.gz", liver)
    with caplog.at_level(logging.WARNING):
        case = find_cases(folder)[0].read()
    labels = case.label_map
    overlaps = {(each.kept, each.lost): each for each in case.overlaps}
    assert {pair: each.voxels for pair, each in overlaps.items()} == {(1, 3): 8, (2, 3): 16}
    assert overlaps[1, 3].share == pytest.approx(8 / (VOXELS + 24))
    i, j, k = (np.linalg.inv(AFFINE) @ [*overlaps[2, 3].inside_mm, 1])[:3].round().astype(int)
    assert plane(2)[i, j, k]
    assert liver[i, j, k]
    assert labels.voxel_counts()[1:].tolist() == [VOXELS] * 7
    assert "s0000: 24 voxels lie in more than one mask" in caplog.text
    caplog.clear()
    assert find_cases(folder)[1].read().overlaps == ()
    assert not caplog.text


def test_scan_and_masks_of_one_grid_in_other_axis_orders_are_one_case(folder: Path) -> None:
    expected = find_cases(folder)[0].read().label_map
    for path, codes in ((folder / "s0000" / "ct.nii.gz", "LPS"), (folder / MASKS / "liver.nii.gz", "SAR")):
        image = nib.load(path)
        turned = nib.orientations.axcodes2ornt(codes)
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), turned)), path)
    case = find_cases(folder)[0].read()
    assert case.label_map.geometry.orientation == "LPS"
    assert case.label_map.geometry.same_grid(case.volume.geometry)
    assert np.array_equal(case.label_map.canonical().labels, expected.labels)


def test_two_masks_of_one_organ_leave_that_case_out(folder: Path) -> None:
    save(folder / MASKS / "liver.nii", plane(3))
    first, second = find_cases(folder)
    assert second.read().name == "s0011"
    with pytest.raises(BadInputError, match=r"s0000: .*liver\.nii.*: liver\.nii.* is of the same organ"):
        first.read()


def test_an_empty_mask_is_an_organ_that_is_not_there(folder: Path) -> None:
    save(folder / MASKS / "gallbladder.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    case = find_cases(folder)[0]
    assert case.numbers.unlabelled == ()
    assert case.read().label_map.voxel_counts()[6] == 0


def test_an_absent_mask_is_an_organ_that_is_not_labelled_in_that_case(folder: Path) -> None:
    (folder / MASKS / "gallbladder.nii.gz").unlink()
    first, second = find_cases(folder, partial=True)
    assert (first.numbers.unlabelled, second.numbers.unlabelled) == (("gallbladder",), ())
    assert first.read().label_map.voxel_counts()[6] == 0
    first, second = find_cases(folder)
    second.read()
    with pytest.raises(BadInputError, match=r"s0000: .*segmentations has no gallbladder\. Add it, or use --partial"):
        first.read()


def test_an_organ_without_a_mask_in_any_case_is_refused_at_once(folder: Path) -> None:
    for mask in folder.rglob("gallbladder.nii.gz"):
        mask.unlink()
    with pytest.raises(BadInputError, match=r"totalsegmentator does not label gallbladder\. Training needs artery"):
        find_cases(folder)
    assert [case.numbers.unlabelled for case in find_cases(folder, partial=True)] == [("gallbladder",)] * 2


@pytest.mark.parametrize("partial", [False, True])
def test_a_case_without_masks_is_named_when_it_is_read(folder: Path, partial: bool) -> None:
    for mask in (folder / MASKS).iterdir():
        mask.unlink()
    with pytest.raises(BadInputError, match=r"s0000: .*segmentations is missing or empty"):
        find_cases(folder, partial=partial)[0].read()
    save(folder / MASKS / "skull.nii.gz", plane(0))
    with pytest.raises(BadInputError, match=r"s0000: .*segmentations has no mask of an organ that is wanted"):
        find_cases(folder, partial=partial)[0].read()


def test_a_case_without_a_scan_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "s0000" / "ct.nii.gz").unlink()
    case = find_cases(folder)[0]
    assert case.read_labels().voxel_counts()[1] == VOXELS
    with pytest.raises(BadInputError, match=r"s0000: .*s0000/ct\.nii\.gz is missing"):
        case.read()


def test_two_masks_of_one_organ_are_refused_by_the_case(folder: Path) -> None:
    save(folder / MASKS / "gall_bladder.nii.gz", plane(6))
    with pytest.raises(BadInputError, match=r"s0000: .*both mean gallbladder"):
        find_cases(folder)[0].read()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("inside", [1, 255])
def test_masks_of_any_number_type(folder: Path, dtype: type[np.generic], inside: int) -> None:
    path = folder / MASKS / "liver.nii.gz"
    nib.save(nib.Nifti1Image((plane(3).astype(np.float64) * inside).astype(dtype), AFFINE), path)
    assert find_cases(folder)[0].read().label_map.voxel_counts()[3] == VOXELS


def test_a_mask_stored_with_a_scale_that_is_not_quite_1(folder: Path) -> None:
    image = nib.Nifti1Image(plane(3), AFFINE)
    image.header.set_slope_inter(1.0000001, 0)
    nib.save(image, folder / MASKS / "liver.nii.gz")
    assert find_cases(folder)[0].read().label_map.voxel_counts()[3] == VOXELS


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (plane(3) * 2 + plane(4), r"liver\.nii\.gz: numbers 1, 2 in a mask of one organ"),
        (plane(3) / 2, r"liver\.nii\.gz: the values are not whole numbers"),
        (plane(3)[1:], r"s0000: .*liver\.nii\.gz and .*aorta\.nii\.gz do not lie on one grid"),
    ],
)
def test_what_is_no_mask_of_this_scan_is_named(folder: Path, mask: np.ndarray, message: str) -> None:
    save(folder / MASKS / "liver.nii.gz", mask)
    with pytest.raises(BadInputError, match=message):
        find_cases(folder)[0].read()


def test_all_masks_of_another_scan_are_refused(folder: Path) -> None:
    for number, organ in enumerate(sorted((folder / MASKS).iterdir())):
        save(organ, plane(number % 8)[1:])
    with pytest.raises(BadInputError, match="s0000: labels are 7×8×8 but the scan is 8×8×8"):
        find_cases(folder)[0].read()
