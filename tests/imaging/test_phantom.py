import hashlib
import subprocess
import sys
import time
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from viscera.core.anatomy import CLASS_NAMES, NUM_CLASSES, ORGANS
from viscera.core.geometry import Index3
from viscera.core.scan import Case
from viscera.imaging.phantom import phantom_case, spacing_for

DEFAULT: Index3 = (128, 128, 96)  # 3 mm
FINE: Index3 = (96, 72, 72)  # 4 mm, and no more than the field of view
COARSE: Index3 = (48, 36, 36)  # 8 mm
TOUCHING = np.ones((3, 3, 3))  # 26 neighbours

# mL: lowest and highest single case, lowest and highest median of a set; adults.
VOLUMES_ML = {
    "artery": (40, 130, 55, 90),
    "portal_vein": (20, 65, 30, 50),
    "liver": (1000, 2400, 1300, 1700),
    "spleen": (80, 400, 150, 250),
    "stomach": (120, 550, 240, 360),
    "gallbladder": (10, 60, 20, 40),
    "pancreas": (35, 140, 60, 100),
}
# HU: median of an organ's voxels in one case, and the median of that over a set, in the portal-venous phase.
HU = {
    "artery": (120, 190, 140, 170),
    "portal_vein": (120, 190, 140, 170),
    "liver": (75, 130, 85, 115),
    "spleen": (90, 140, 105, 125),
    "gallbladder": (-15, 40, 0, 25),
    "pancreas": (60, 115, 78, 100),
}


@cache
def fine_cases() -> tuple[Case, ...]:
    return tuple(phantom_case(0, number, FINE) for number in range(12))


@cache
def coarse_cases() -> tuple[Case, ...]:
    return tuple(phantom_case(0, number, COARSE) for number in range(24))


def organ(case: Case, name: str) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = case.label_map.labels == CLASS_NAMES.index(name)
    return mask


def volume_ml(case: Case, name: str) -> float:
    return int(organ(case, name).sum()) * case.label_map.geometry.voxel_volume_ml


def centre_mm(case: Case, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    affine = case.volume.geometry.affine
    centre: npt.NDArray[np.float64] = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    return centre


def digest(case: Case) -> str:
    return hashlib.sha256(case.volume.hu.tobytes() + case.label_map.labels.tobytes()).hexdigest()


def foreground_dice(prediction: npt.NDArray[np.integer], reference: npt.NDArray[np.uint8]) -> float:
    """Mean over the seven organs of 2 |S and R| / (|S| + |R|); every organ is in every reference."""
    return float(
        np.mean(
            [
                2
                * ((prediction == o.label) & (reference == o.label)).sum()
                / ((prediction == o.label).sum() + (reference == o.label).sum())
                for o in ORGANS
            ]
        )
    )


@pytest.mark.parametrize(("shape", "spacing_mm"), [(DEFAULT, 3), (COARSE, 8), (FINE, 4), ((96, 96, 36), 8)])
def test_without_a_spacing_the_whole_abdomen_fits(shape: Index3, spacing_mm: float) -> None:
    assert spacing_for(shape) == spacing_mm  # 384 x 288 x 288 mm; the worst axis decides
    assert phantom_case(1, 0, shape).volume.geometry.spacing_mm == pytest.approx((spacing_mm,) * 3)


def test_the_body_lies_inside_the_default_field_of_view() -> None:
    for case in fine_cases():
        sides = case.volume.hu[[0, -1]], case.volume.hu[:, [0, -1]]
        assert all(np.mean(side > -500) < 0.01 for side in sides)


def test_a_case_is_a_scan_and_labels_of_the_promised_types_on_one_canonical_grid() -> None:
    case = phantom_case(3, 14, (40, 30, 20), 9.0)
    assert case.name == "phantom_014"
    assert case.volume.hu.dtype == np.int16
    assert case.label_map.labels.dtype == np.uint8
    assert case.volume.hu.shape == case.label_map.labels.shape == (40, 30, 20)
    assert np.array_equal(case.volume.geometry.affine[:3, :3], np.diag([9.0, 9, 9]))
    assert case.volume.geometry.same_grid(case.label_map.geometry)


def test_seed_and_number_decide_in_any_order_and_process() -> None:
    forward = [digest(phantom_case(5, number, COARSE)) for number in (0, 1, 2)]
    backward = [digest(phantom_case(5, number, COARSE)) for number in (2, 1, 0)]
    assert forward == backward[::-1]
    assert len({*forward, *(digest(phantom_case(6, number, COARSE)) for number in (0, 1, 2))}) == 6
    program = (
        "import hashlib; from viscera.imaging.phantom import phantom_case; "
        f"c = phantom_case(5, 1, {COARSE}); "
        "print(hashlib.sha256(c.volume.hu.tobytes() + c.label_map.labels.tobytes()).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == forward[1]


def test_the_same_patient_on_every_grid() -> None:
    # Sampling V mL at 8 mm counts about V / 0.512 voxels; what surfaces cut differently stays within these shares.
    tolerance = {"liver": 0.05, "spleen": 0.12, "stomach": 0.12, "pancreas": 0.25}
    for fine, coarse in zip(fine_cases()[:6], coarse_cases(), strict=False):
        for name, share in tolerance.items():
            assert volume_ml(coarse, name) == pytest.approx(volume_ml(fine, name), rel=share)
            apart_mm = centre_mm(coarse, organ(coarse, name)) - centre_mm(fine, organ(fine, name))
            assert np.linalg.norm(apart_mm) < 4  # half a coarse voxel


def test_a_larger_field_of_view_shows_the_same_patient() -> None:
    small, large = phantom_case(2, 3, (80, 70, 60), 4.0), phantom_case(2, 3, (100, 90, 80), 4.0)
    assert np.array_equal(large.label_map.labels[10:90, 10:80, 10:70], small.label_map.labels)


@pytest.mark.parametrize("name", VOLUMES_ML)
def test_volumes_are_those_of_adults_and_differ_between_patients(name: str) -> None:
    volumes = np.array([volume_ml(case, name) for case in fine_cases()])
    low, high, low_median, high_median = VOLUMES_ML[name]
    assert low <= volumes.min() <= volumes.max() <= high
    assert low_median <= np.median(volumes) <= high_median
    assert volumes.std() > 0.08 * volumes.mean()


@pytest.mark.parametrize("name", HU)
def test_hu_are_those_of_the_portal_venous_phase(name: str) -> None:
    medians = np.array([np.median(case.volume.hu[organ(case, name)]) for case in fine_cases()])
    low, high, low_median, high_median = HU[name]
    assert low <= medians.min() <= medians.max() <= high
    assert low_median <= np.median(medians) <= high_median


def test_the_stomach_holds_fluid_air_and_in_some_patients_contrast() -> None:
    inside = [case.volume.hu[organ(case, "stomach")] for case in fine_cases()]
    assert sum(np.mean(hu < -700) > 0.02 for hu in inside) >= 6
    assert 2 <= sum(np.percentile(hu, 90) > 130 for hu in inside) <= 10


def test_the_unlabelled_rest_holds_lung_fat_muscle_bone_and_look_alikes() -> None:
    for case in fine_cases():
        rest = case.volume.hu[case.label_map.labels == 0]
        body = rest[rest > -960]
        shares = {
            "lung": np.mean((body > -900) & (body < -700)),
            "fat": np.mean((body > -140) & (body < -60)),
            "muscle": np.mean((body > 20) & (body < 95)),
            "like vessels": np.mean((body > 135) & (body < 195)),
            "bone": np.mean(body > 260),
        }
        assert shares["fat"] > 0.2
        assert shares["muscle"] > 0.1
        assert all(shares[name] > 0.01 for name in ("lung", "like vessels", "bone")), shares


def test_classes_are_imbalanced_as_in_patients() -> None:
    counts = np.sum([case.label_map.voxel_counts() for case in coarse_cases()], axis=0)
    assert 0.9 < counts[0] / counts.sum() < 0.97
    assert 20 < counts[CLASS_NAMES.index("liver")] / counts[CLASS_NAMES.index("portal_vein")] < 60


def test_every_organ_is_in_every_case_even_at_8_mm() -> None:
    least = np.min([case.label_map.voxel_counts() for case in coarse_cases()], axis=0)
    assert len(least) == NUM_CLASSES
    assert least.min() >= 15


def test_artery_and_portal_vein_are_connected() -> None:
    for case in fine_cases():
        for name in ("artery", "portal_vein"):
            assert ndimage.label(organ(case, name), TOUCHING)[1] == 1, (case.name, name)


def test_organs_hang_together() -> None:
    for case in fine_cases():
        for o in ORGANS:
            pieces, _ = ndimage.label(organ(case, o.name), TOUCHING)
            assert np.bincount(pieces.ravel())[1:].max() > 0.97 * organ(case, o.name).sum(), (case.name, o.name)


def test_right_is_right_front_is_front_and_up_is_up() -> None:
    for case in fine_cases():
        at = {o.name: centre_mm(case, organ(case, o.name)) for o in ORGANS}
        lung = centre_mm(case, (case.volume.hu > -900) & (case.volume.hu < -700))
        top = np.zeros(FINE, dtype=bool)
        top[42:54, :, 60:] = True  # above the bowel, near the midline: of bone only the spine
        spine = centre_mm(case, top & (case.volume.hu > 250))
        assert at["liver"][0] > 20
        assert at["spleen"][0] < -40
        assert at["gallbladder"][0] > 20
        assert at["stomach"][0] < 0
        assert at["stomach"][1] > at["pancreas"][1] - 20 > at["spleen"][1] - 20
        assert spine[1] < at["artery"][1] < at["pancreas"][1]
        assert lung[2] > max(at[name][2] for name in at)
        assert at["artery"][0] < at["portal_vein"][0]


def test_single_voxels_by_hu_do_not_give_it_away() -> None:
    """A Bayes classifier on 5 HU bins, once with the classes' frequencies and once with equal priors."""
    train, test = coarse_cases()[:16], coarse_cases()[16:]
    bins = np.arange(-1024, 1500, 5)
    counts = np.zeros((NUM_CLASSES, len(bins) + 1))
    for case in train:
        np.add.at(counts, (case.label_map.labels.ravel(), np.digitize(case.volume.hu.ravel(), bins)), 1)
    for evidence in (counts, counts / counts.sum(axis=1, keepdims=True)):
        best = evidence.argmax(axis=0)
        scores = [foreground_dice(best[np.digitize(c.volume.hu, bins)], c.label_map.labels) for c in test]
        assert np.mean(scores) < 0.35


def test_the_most_frequent_label_map_does_not_give_it_away() -> None:
    train, test = coarse_cases()[:16], coarse_cases()[16:]
    votes = [sum((case.label_map.labels == label).astype(int) for case in train) for label in range(NUM_CLASSES)]
    mode = np.argmax(votes, axis=0)
    scores = [foreground_dice(mode, case.label_map.labels) for case in test]
    assert 0.1 < np.mean(scores) < 0.5  # an atlas knows something: patients resemble each other


@pytest.mark.slow
def test_vessels_are_connected_in_many_patients() -> None:
    for number in range(40):
        case = phantom_case(11, number, DEFAULT)
        assert [ndimage.label(organ(case, name), TOUCHING)[1] for name in ("artery", "portal_vein")] == [1, 1], number


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "limit_s"), [(DEFAULT, 3.0), (FINE, 1.5), (COARSE, 0.5)])
def test_a_case_takes_no_longer_than_promised_on_one_core(shape: Index3, limit_s: float) -> None:
    start = time.process_time()
    for number in range(3):
        phantom_case(0, number, shape)
    assert (time.process_time() - start) / 3 < limit_s


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        phantom_case(-1, 0, COARSE)
