"""HD95 and surface Dice beside Google DeepMind's surface-distance."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from tests.plain_surfaces import surface_distances
from viscera.core.anatomy import ABDOMEN
from viscera.core.scan import LabelMap
from viscera.io.nifti import read_labels
from viscera.metrics import surface_distance
from viscera.metrics.scoring import score
from viscera.metrics.surface_distance import surfel_areas_mm2

oracle = pytest.importorskip("surface_distance", reason="surface-distance is not installed: viscera[oracle]")
Mask = npt.NDArray[np.bool_]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own: names that SciPy has moved
SPACINGS_MM = (0.5, 0.703125, 1.0, 2.5, 5.0)


@pytest.fixture(autouse=True)
def names_of_old_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released version says np.Inf and np.NaN, which NumPy 2 has not."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(np, "NaN", np.nan, raising=False)


def compare(prediction: Mask, reference: Mask, spacing_mm: npt.NDArray[np.float64]) -> None:
    """All values within 1e-9, by looking around and by search tree."""
    theirs: Any = oracle.compute_surface_distances(reference, prediction, spacing_mm)
    for tree in ((100, 500), (0, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface_distance, "_TREE", tree)
            ours = surface_distances(prediction, reference, spacing_mm.tolist())
        for percent in (50, 95, 100):
            wanted = oracle.compute_robust_hausdorff(theirs, percent)
            assert ours.hausdorff_mm(percent) == pytest.approx(wanted, abs=1e-9)
        for tolerance_mm in (0, 0.5, 1, 2, 2.5, 3, 5):
            wanted = oracle.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
            assert ours.dice(tolerance_mm) == pytest.approx(wanted, abs=1e-9)


def random_pairs(seed: int, number: int) -> Iterator[tuple[Mask, Mask, npt.NDArray[np.float64]]]:
    """Noise of any density, and blobs that touch every border; any spacing."""
    random = np.random.default_rng(seed)

    def mask(shape: list[int], *, smooth: bool) -> Mask:
        noise = random.random(shape)
        if smooth:
            noise = ndimage.gaussian_filter(noise, random.uniform(0.5, 2.5))
        found: Mask = noise >= np.quantile(noise, random.random())
        return found

    for index in range(number):
        shape = random.integers(1, 13, 3).tolist()
        spacing = random.choice(SPACINGS_MM, 3)
        smooth = bool(index % 2)
        yield mask(shape, smooth=smooth), mask(shape, smooth=smooth), spacing


def test_random_masks_of_any_spacing() -> None:
    for prediction, reference, spacing in random_pairs(seed=0, number=150):
        compare(prediction, reference, spacing)


def test_single_voxels_identical_masks_and_whole_arrays() -> None:
    spacing = np.array([0.7, 1.0, 2.5])
    one, other, corner = np.zeros((3, 5, 6, 7), dtype=bool)
    one[1, 2, 3], other[4, 2, 5], corner[0, 0, 0] = True, True, True
    whole = np.ones((5, 6, 7), dtype=bool)
    for pair in ((one, other), (one, one), (one, corner), (corner, whole), (whole, whole), (whole[:1], one[1:2])):
        compare(*pair, spacing)


def test_where_one_mask_is_empty() -> None:
    one, nothing = np.zeros((2, 5, 6, 7), dtype=bool)
    one[1:3, 2:4, 3] = True
    compare(one, nothing, np.array([1.0, 2.0, 3.0]))
    compare(nothing, one, np.array([1.0, 2.0, 3.0]))


def test_where_both_are_empty_we_say_undefined() -> None:
    nothing = np.zeros((2, 2, 2), dtype=bool)
    theirs = oracle.compute_surface_distances(nothing, nothing, (1, 1, 1))
    assert oracle.compute_robust_hausdorff(theirs, 95) == np.inf  # although nothing is missed
    ours = surface_distances(nothing, nothing, (1, 1, 1))
    assert ours.hausdorff_mm() is None
    assert ours.dice(1.0) is None


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.703125, 0.703125, 2.5), (5.0, 1.0, 0.3)])
def test_the_area_of_every_neighbour_code(spacing: tuple[float, float, float]) -> None:
    theirs = oracle.lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    reversed_bits = [int(f"{code:08b}"[::-1], 2) for code in range(256)]  # their first corner is the highest bit
    np.testing.assert_allclose(surfel_areas_mm2(spacing), theirs[reversed_bits], rtol=1e-12, atol=1e-12)


def test_real_organs_a_little_off(real_data: Path) -> None:
    reference = read_labels(real_data / "nnunet_real" / "labelsTr" / "lidc0001.nii.gz")
    prediction = LabelMap(np.roll(reference.labels, (2, -1, 1), axis=(0, 1, 2)), reference.geometry)
    prediction.labels[reference.labels == 7] = 0  # and a pancreas with pieces missing
    for organ in np.unique(reference.labels)[1:].tolist():
        masks = prediction.labels == organ, reference.labels == organ
        theirs = oracle.compute_surface_distances(*masks[::-1], reference.geometry.spacing_mm)
        name = ABDOMEN.names[organ]
        ours = score(prediction, reference, metrics=("hd95_mm", "surface_dice"), tolerance_mm=2.0)
        found = {each.metric: each.value for each in ours if each.organ == name}
        assert found["hd95_mm"] == pytest.approx(oracle.compute_robust_hausdorff(theirs, 95), abs=1e-9)
        wanted = oracle.compute_surface_dice_at_tolerance(theirs, 2.0)
        assert found["surface_dice"] == pytest.approx(wanted, abs=1e-9)
