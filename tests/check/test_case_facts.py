"""What is measured in one labelled scan, worked out by hand on small grids."""

import dataclasses

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from viscera.check.case_facts import CaseFacts, measure_case
from viscera.core.anatomy import ABDOMEN
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Overlap, Volume
from viscera.metrics.hounsfield import hu_facts

SHAPE = (20, 16, 12)
AFFINE = np.array([[2.0, 0, 0, -100], [0, 2.0, 0, 50], [0, 0, 5.0, 10], [0, 0, 0, 1]])
LIVER, SPLEEN = 3, 4


def case_of(hu: npt.NDArray[np.int16], labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64] = AFFINE) -> Case:
    geometry = Geometry((hu.shape[0], hu.shape[1], hu.shape[2]), affine)
    return Case("case", Volume(hu, geometry), LabelMap(labels, geometry))


def two_cubes() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """A liver of 4×4×4 voxels, 2×2×2 more of it 6, 5 and 0 voxels away, a spleen in one corner; air around."""
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:8, 3:7, 2:6] = LIVER
    labels[14:16, 12:14, 2:4] = LIVER
    labels[0:2, 14:16, 10:12] = SPLEEN
    hu[labels == LIVER] = 60
    hu[labels == SPLEEN] = 100
    hu[14:16, 12:14, 2:4] = -300
    return hu, labels


def test_volume_hu_and_pieces_by_hand() -> None:
    liver = measure_case(case_of(*two_cubes()), ABDOMEN).organ("liver")
    assert liver is not None
    assert liver.volume_ml == pytest.approx(72 * 0.02)  # 2×2×5 mm = 0.02 mL
    assert liver.mean_hu == pytest.approx((64 * 60 - 8 * 300) / 72)
    assert liver.in_air == pytest.approx(8 / 72)
    assert liver.pieces == 2
    assert liver.largest_piece == pytest.approx(64 / 72)
    assert liver.edges == ""
    assert liver.stray is not None
    assert liver.stray.volume_ml == pytest.approx(0.16)
    assert liver.stray.gap_mm == pytest.approx(np.hypot(6 * 2, 5 * 2))
    assert liver.stray.centre_mm == pytest.approx((-100 + 14.5 * 2, 50 + 12.5 * 2, 10 + 2.5 * 5))
    assert not liver.stray.at_edge
    assert liver.air_mm == pytest.approx((-100 + 14 * 2, 50 + 12 * 2, 10 + 2 * 5))  # the first of eight as near


def test_the_edges_that_an_organ_touches_are_named() -> None:
    facts = measure_case(case_of(*two_cubes()), ABDOMEN)
    spleen = facts.organ("spleen")
    assert spleen is not None
    assert sorted(spleen.edges) == ["A", "L", "S"]  # first along I, last along J and K
    assert (spleen.pieces, spleen.largest_piece, spleen.stray) == (1, 1.0, None)
    assert facts.organ("pancreas") is None


def test_a_stray_at_the_edge_says_so_and_specks_come_last() -> None:
    hu, labels = two_cubes()
    labels[15:20, 12:16, 2:4] = LIVER
    labels[10, 0, 0] = LIVER  # one voxel of 0.02 mL
    stray = measure_case(case_of(hu, labels), ABDOMEN).organs[0].stray
    assert stray is not None
    assert stray.volume_ml > 0.05
    assert stray.at_edge


def test_overlaps_are_named() -> None:
    overlap = Overlap(kept=LIVER, lost=SPLEEN, voxels=5, share=0.25, inside_mm=(1, 2, 3))
    (facts,) = measure_case(dataclasses.replace(case_of(*two_cubes()), overlaps=(overlap,)), ABDOMEN).overlaps
    assert (facts.organ, facts.kept_by, facts.share, facts.inside_mm) == ("spleen", "liver", 0.25, (1, 2, 3))
    assert facts.volume_ml == pytest.approx(5 * 0.02)


def test_voxels_that_meet_at_a_corner_are_one_piece() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3, 3, 3] = labels[4, 4, 4] = SPLEEN
    assert measure_case(case_of(np.zeros(SHAPE, np.int16), labels), ABDOMEN).organs[0].pieces == 1


@pytest.mark.parametrize("codes", ["LPS", "RPI", "AIL", "SLP"])
def test_a_file_of_another_orientation_measures_the_same(codes: str) -> None:
    hu, labels = two_cubes()
    hu[::3] += np.arange(16, dtype=np.int16)[:, np.newaxis]

    def turned(array: npt.NDArray[np.generic]) -> nib.Nifti1Image:
        image = nib.Nifti1Image(array, AFFINE)
        start = nib.orientations.io_orientation(AFFINE)
        return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))

    scan, mask = turned(hu), turned(labels)
    there = measure_case(case_of(np.asarray(scan.dataobj), np.asarray(mask.dataobj), scan.affine), ABDOMEN)
    here = measure_case(case_of(hu, labels), ABDOMEN)
    assert (here.orientation, there.orientation) == ("RAS", codes)
    assert there.image_sha256 == here.image_sha256
    assert there.labels_sha256 == here.labels_sha256
    assert (there.shape, there.hu) == (here.shape, here.hu)
    assert there.spacing_mm == pytest.approx(here.spacing_mm)
    assert_same_organs(there, here)


def assert_same_organs(one: CaseFacts, other: CaseFacts) -> None:
    for a, b in zip(one.organs, other.organs, strict=True):
        assert (a.name, a.edges, a.pieces) == (b.name, b.edges, b.pieces)
        assert a.volume_ml == pytest.approx(b.volume_ml)
        assert a.centre_mm == pytest.approx(b.centre_mm)
        assert a.inside_mm == pytest.approx(b.inside_mm)


def test_one_voxel_more_is_another_scan() -> None:
    hu, labels = two_cubes()
    other = hu.copy()
    other[3, 2, 1] += 1
    assert measure_case(case_of(hu, labels), ABDOMEN).image_sha256 != (
        measure_case(case_of(other, labels), ABDOMEN).image_sha256
    )


def test_the_distribution_of_hu_by_hand() -> None:
    hu = np.zeros((10, 10, 10), dtype=np.int16)
    hu[:4] = -1024  # 40 %
    hu[4] = -500  # not below -500
    hu[5] = np.arange(-200, 300, 5).reshape(10, 10)  # tissue
    hu[6] = 900
    hu[9, 9, 9] = 32767
    hu[9, 9, 8] = -32768
    facts = hu_facts(hu)
    assert (facts.lowest, facts.highest, facts.commonest) == (-32768, 32767, -1024)
    assert facts.at_commonest == pytest.approx(0.4)
    assert facts.at_highest == pytest.approx(0.001)
    assert facts.air == pytest.approx(0.401)
    assert facts.tissue == pytest.approx(0.1 + 0.298)  # zeros of slices 7 to 9 but two
    assert facts.stored_tissue == pytest.approx(0.1)


def test_what_a_case_is_not_labelled_for_is_no_organ_of_it() -> None:
    case = dataclasses.replace(case_of(*two_cubes()), unlabelled=("artery", "pancreas"))
    facts = measure_case(case, ABDOMEN)
    assert facts.labelled == ("portal_vein", "liver", "spleen", "stomach", "gallbladder")
