"""Augmentation against answers worked by hand, laws, and a plain version written with SciPy."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation
from scipy.stats import kstest
from torch import Tensor

from viscera.core.config import AugmentConfig
from viscera.core.geometry import Index3
from viscera.core.scan import AIR_HU
from viscera.imaging import augment as module
from viscera.imaging.augment import Augmentation, augment, draw, linear_map, margin

ALWAYS = AugmentConfig(
    enabled=True,
    rotation_probability=1,
    scaling_probability=1,
    elastic_probability=1,
    blur_probability=1,
    intensity_probability=1,
    noise_probability=1,
)
LATER_KINDS = ("low_resolution_probability", "gamma_probability", "inverted_gamma_probability")
ALL_KINDS = ALWAYS.model_copy(update={"mirror_axes": ("R", "A", "S"), **dict.fromkeys(LATER_KINDS, 1.0)})
TURNED = Augmentation(linear=linear_map((10, 20, 30), 1.1))
WITHIN_HU = (-500.0, 500.0)
Array = npt.NDArray[np.float64]


def windows(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random HU and labels of shape (B, I, J, K)."""
    random = np.random.default_rng(seed)
    hu = random.integers(-1000, 1500, shape, dtype=np.int16)
    return torch.from_numpy(hu), torch.from_numpy(random.integers(0, 8, shape, dtype=np.uint8))


def moved_labels(labels: npt.NDArray[np.uint8], linear: Array) -> npt.NDArray[np.uint8]:
    """Labels of one cubic window under a linear map alone."""
    one = torch.from_numpy(labels.copy())[None]
    moved: npt.NDArray[np.uint8] = augment(one.to(torch.int16), one, [Augmentation(linear=linear)], len(labels))[1][
        0
    ].numpy()
    return moved


def ball(edge: int, radius: float) -> npt.NDArray[np.uint8]:
    offset = np.arange(edge) - (edge - 1) / 2
    distance = np.linalg.norm(np.meshgrid(offset, offset, offset), axis=0)
    inside: npt.NDArray[np.bool_] = np.asarray(distance <= radius)
    return inside.astype(np.uint8)


# ------------------------------------------------------------------------------------------ nothing happens


@pytest.mark.parametrize("edge", [8, 9])
def test_a_window_to_which_nothing_happens_keeps_its_voxels_whatever_happens_to_the_next(edge: int) -> None:
    hu, labels = windows(2, edge, edge, edge)
    for other in (Augmentation(), TURNED, replace(TURNED, blur_voxels=0.7, contrast=1.2, shift_hu=3.3, noise_hu=9)):
        new_hu, new_labels = augment(hu, labels, [Augmentation(), other], edge)
        assert torch.equal(new_hu[0], hu[0])
        assert torch.equal(new_labels[0], labels[0])
        assert (new_hu.dtype, new_labels.dtype) == (torch.int16, torch.uint8)


def test_a_larger_window_is_cut_to_its_middle() -> None:
    hu, labels = windows(1, 12, 8, 10)
    for augmentation in (Augmentation(), Augmentation(shift_hu=1)):
        new_hu, new_labels = augment(hu, labels, [augmentation], 8)
        assert torch.equal(new_hu, hu[:, 2:10, :, 1:9] + int(augmentation.shift_hu))
        assert torch.equal(new_labels, labels[:, 2:10, :, 1:9])
    new_hu, new_labels = augment(hu.repeat(2, 1, 1, 1), labels.repeat(2, 1, 1, 1), [Augmentation(), TURNED], 8)
    assert torch.equal(new_hu[0], hu[0, 2:10, :, 1:9])
    assert torch.equal(new_labels[0], labels[0, 2:10, :, 1:9])


# ------------------------------------------------------------------------------------------ rotation and scaling


@pytest.mark.parametrize("edge", [10, 11])
@pytest.mark.parametrize(("axis", "plane"), [(0, (1, 2)), (1, (2, 0)), (2, (0, 1))])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_rot90(edge: int, axis: int, plane: tuple[int, int], quarters: int) -> None:
    hu, labels = windows(1, edge, edge, edge)
    angles = np.zeros(3)
    angles[axis] = 90 * quarters
    turn = Augmentation(linear=linear_map(angles.tolist()))
    assert margin([turn], edge) == (0, 0, 0)
    new_hu, new_labels = augment(hu, labels, [turn], edge)
    assert (new_labels[0].numpy() == np.rot90(labels[0].numpy(), quarters, plane)).all()
    assert (new_hu[0].numpy() == np.rot90(hu[0].numpy(), quarters, plane)).all()


def test_turning_is_rigid_in_millimetres() -> None:
    """Voxels of 1×1×2 mm: 4 voxels along J and 4 along K are 4×8 mm, and after a quarter turn about I 8×2 voxels."""
    labels = np.zeros((16, 16, 16), dtype=np.uint8)
    labels[6:10, 6:10, 6:10] = 3
    expected = np.zeros_like(labels)
    expected[6:10, 4:12, 7:9] = 3
    assert (moved_labels(labels, linear_map((90, 0, 0), spacing_mm=(1, 1, 2))) == expected).all()


def test_twice_as_large() -> None:
    """The cube of 4 voxels about the centre becomes one of 8."""
    labels = np.zeros((16, 16, 16), dtype=np.uint8)
    labels[6:10, 6:10, 6:10] = 5
    expected = np.zeros_like(labels)
    expected[4:12, 4:12, 4:12] = 5
    assert (moved_labels(labels, linear_map((0, 0, 0), 2.0)) == expected).all()


@pytest.mark.parametrize("scale", [0.75, 0.9, 1.2, 1.5])
def test_a_volume_grows_with_the_cube_of_the_scale(scale: float) -> None:
    before = ball(48, 13)
    after = moved_labels(before, linear_map((10, -25, 40), scale))
    assert after.sum() / before.sum() == pytest.approx(scale**3, rel=0.02)


def test_mirroring_moves_what_is_left_to_the_right() -> None:
    hu, labels = windows(1, 9, 9, 9)
    mirror = Augmentation(linear=linear_map((0, 0, 0), mirrored=(True, False, False)))
    new_hu, new_labels = augment(hu, labels, [mirror], 9)
    assert torch.equal(new_hu, hu.flip(1))
    assert torch.equal(new_labels, labels.flip(1))


ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.tuples(*[st.floats(0.5, 5)] * 3)


@given(ANGLES, st.floats(0.5, 2), SPACINGS)
def test_in_millimetres_the_map_is_scipys_rotation_over_the_scale(
    angles: tuple[float, float, float], scale: float, spacing_mm: tuple[float, float, float]
) -> None:
    to_mm = np.diag(spacing_mm)
    in_mm = to_mm @ linear_map(angles, scale, spacing_mm) @ np.linalg.inv(to_mm)
    expected = Rotation.from_euler("xyz", angles, degrees=True).inv().as_matrix() / scale
    assert np.allclose(in_mm, expected, atol=1e-12)


def test_rotation_and_scaling_against_scipys_affine_transform() -> None:
    hu, labels = windows(1, 24, 24, 24)
    smooth = torch.from_numpy(ndimage.gaussian_filter(hu[0].numpy().astype(float), 1.5).astype(np.int16))
    linear = linear_map((12, -20, 31), 1.3, (0.9, 1.1, 2.0))
    centre = np.full(3, 11.5)
    new_hu, new_labels = augment(smooth[None], labels, [Augmentation(linear=linear)], 24)
    offset = centre - linear @ centre
    oracle = ndimage.affine_transform(
        smooth.numpy().astype(float), linear, offset, order=1, mode="grid-constant", cval=AIR_HU
    )
    assert np.abs(new_hu[0].numpy() - oracle).max() <= 0.5 + 0.02
    nearest = ndimage.affine_transform(labels[0].numpy(), linear, offset, order=0, mode="grid-constant", cval=0)
    assert (new_labels[0].numpy() != nearest).mean() < 1e-3  # ties


# ------------------------------------------------------------------------------------------ corners


def test_beyond_the_windows_given_there_is_air_and_background() -> None:
    hu, labels = torch.full((1, 16, 16, 16), 300, dtype=torch.int16), torch.full((1, 16, 16, 16), 4, dtype=torch.uint8)
    new_hu, new_labels = augment(hu, labels, [Augmentation(linear=linear_map((0, 0, 45)))], 16)
    assert (new_hu[0, 0, 0] == AIR_HU).all()
    assert (new_labels[0, 0, 0] == 0).all()
    assert (new_hu[0, 8, 8] == 300).all()
    assert (new_labels[0, 8, 8] == 4).all()


@given(st.integers(0, 10_000), st.integers(1, 17), SPACINGS, st.booleans())
def test_with_its_margin_a_window_has_corners(step: int, patch: int, spacing_mm: Index3, flip: bool) -> None:
    config = AugmentConfig(
        rotation_degrees=180, scaling=1.5, elastic_voxels=1, elastic_spacing=6, blur_voxels=2, flip_left_right=flip
    )
    augmentations = [draw(config, (0, step, slot), spacing_mm) for slot in range(2)]
    changed = [replace(each, contrast=1, shift_hu=0, noise_hu=0) for each in augmentations]
    shape = (2, *(patch + 2 * n for n in margin(changed, patch)))
    hu, labels = torch.full(shape, 700, dtype=torch.int16), torch.ones(shape, dtype=torch.uint8)
    new_hu, new_labels = augment(hu, labels, changed, patch)
    assert new_hu.shape == new_labels.shape == (2, patch, patch, patch)
    assert (new_labels == 1).all()
    assert ((new_hu - 700).abs() <= 1).all()  # rounding: a place on the face may lie 1e-4 voxels beyond it


def test_the_margin_by_hand() -> None:
    """45° about K: the corner of 64 voxels lies 31.5·√2 = 44.55 from the centre, 13.05 beyond the face."""
    turned, deformed = Augmentation(linear=linear_map((0, 0, 45))), Augmentation(elastic_voxels=1.5)
    assert margin([turned], 64) == (14, 14, 0)
    assert margin([deformed], 64) == (5, 5, 5)  # 3 · 1.5 = 4.5
    assert margin([deformed, turned, Augmentation()], 64) == (14, 14, 5)
    assert margin([Augmentation(noise_hu=5, blur_voxels=1)], 64) == margin([], 64) == (0, 0, 0)
    assert margin([Augmentation(linear=linear_map((0, 0, 0), 1.25))], 64) == (0, 0, 0)


# ------------------------------------------------------------------------------------------ elastic deformation


def test_the_displacement_has_the_s_d_asked_for_everywhere_and_ends_at_three() -> None:
    fields = torch.stack(
        [
            module._displacement(Augmentation((0, step, 0), elastic_voxels=2, elastic_spacing=5), 12)
            for step in range(800)
        ]
    )
    assert fields.shape == (800, 3, 12, 12, 12)
    assert fields.std().item() == pytest.approx(2, rel=0.02)
    assert fields.abs().max().item() <= 6
    by_voxel = fields.std(dim=0)  # of 800 values each: 2.5 % is one standard error
    assert by_voxel.min().item() > 2 * 0.85
    assert by_voxel.max().item() < 2 * 1.15
    assert fields.mean(dim=0).abs().max().item() < 2 * 5 / np.sqrt(800)


@pytest.mark.parametrize(("patch", "spacing"), [(1, 4.0), (16, 5.0), (16, 7.5), (17, 16.0)])
def test_the_weights_are_scipys_cubic_b_splines(patch: int, spacing: float) -> None:
    """Up to the scaling of each row to unit length."""
    weights = module._spline_weights(patch, spacing).double().numpy()
    intervals = weights.shape[1] - 3
    assert intervals == max(1, np.ceil((patch - 1) / spacing))
    knots = (patch - 1) / 2 + spacing * (np.arange(-3, intervals + 4) - intervals / 2)
    splines = BSpline.design_matrix(np.arange(patch, dtype=float), knots, 3).toarray()
    assert np.allclose(weights, splines / np.linalg.norm(splines, axis=1, keepdims=True), atol=1e-6)


def test_voxels_are_read_where_the_displacement_says() -> None:
    """Linear interpolation of a ramp is exact: 50 HU a voxel along each axis in turn."""
    augmentation = Augmentation((3, 1, 2), elastic_voxels=1.5, elastic_spacing=8)
    beyond = margin([augmentation], 20)
    displacement = module._displacement(augmentation, 20).numpy()
    for axis in range(3):
        ramp = np.indices([20 + 2 * n for n in beyond])[axis].astype(np.int16)[None] * np.int16(50)
        hu, _ = augment(torch.from_numpy(ramp), torch.zeros(ramp.shape, dtype=torch.uint8), [augmentation], 20)
        expected = 50 * (np.indices((20, 20, 20))[axis] + beyond[axis] + displacement[axis])
        assert np.abs(hu[0].numpy() - expected).max() <= 0.5 + 0.02


def test_at_the_strongest_setting_tissue_hardly_folds() -> None:
    """Folded where the Jacobian determinant of x + u is not positive."""
    folded = []
    for step in range(20):
        augmentation = Augmentation((0, step, 0), elastic_voxels=16 / 6, elastic_spacing=16)
        u = module._displacement(augmentation, 48).double().numpy()
        jacobian = np.stack([np.stack(np.gradient(u[axis])) for axis in range(3)]) + np.eye(3)[:, :, None, None, None]
        folded.append((np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))) <= 0).mean())
    assert np.mean(folded) < 1e-4


# ------------------------------------------------------------------------------------------ intensities


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.4])
def test_blur_is_scipys_gaussian_filter(sigma: float) -> None:
    hu, labels = windows(2, 17, 17, 17)
    new_hu, new_labels = augment(hu, labels, [Augmentation(blur_voxels=sigma), Augmentation()], 17)
    oracle = ndimage.gaussian_filter(hu[0].numpy().astype(np.float64), sigma, mode="nearest")
    assert np.abs(new_hu[0].numpy() - oracle).max() <= 0.5 + 1e-3
    assert torch.equal(new_hu[1], hu[1])
    assert torch.equal(new_labels, labels)


def test_shift_and_contrast_are_exact() -> None:
    hu, labels = windows(2, 8, 8, 8)
    new_hu, new_labels = augment(hu, labels, [Augmentation(shift_hu=-13), Augmentation(contrast=1.5, shift_hu=2)], 8)
    assert torch.equal(new_hu[0], hu[0] - 13)
    assert torch.equal(new_hu[1].double(), (hu[1].double() * 1.5 + 2).round())
    assert torch.equal(new_labels, labels)


def test_hu_end_at_the_limits_of_int16() -> None:
    hu = torch.tensor([32_700, -32_700], dtype=torch.int16).view(2, 1, 1, 1)
    new_hu, _ = augment(hu, hu.to(torch.uint8), [Augmentation(shift_hu=100), Augmentation(shift_hu=-100)], 1)
    assert new_hu.flatten().tolist() == [32_767, -32_768]


def test_noise_is_gaussian_with_the_s_d_asked_for() -> None:
    hu, labels = windows(2, 40, 40, 40)
    new_hu, new_labels = augment(hu, labels, [Augmentation(noise_hu=30), Augmentation((0, 0, 1), noise_hu=8)], 40)
    noise = (new_hu - hu).double().numpy().reshape(2, -1)
    assert noise.std(axis=1) == pytest.approx([30, np.sqrt(8**2 + 1 / 12)], rel=0.01)
    assert np.abs(noise.mean(axis=1)).max() < 30 * 4 / np.sqrt(40**3)
    continuous = noise[0] + np.random.default_rng(1).uniform(-0.5, 0.5, noise[0].size)  # undoes the steps of 1 HU
    assert kstest(continuous / 30, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise)[0, 1]) < 4 / np.sqrt(40**3)
    assert torch.equal(new_labels, labels)


# ------------------------------------------------------------------------------------------ everything together


def with_gamma(values: Array, exponent: float) -> Array:
    bent = (values - values.min()) ** exponent
    found: Array = (bent - bent.mean()) / bent.std() * values.std() + values.mean()
    return found


def coarsened(values: Array, factors: tuple[float, float, float]) -> Array:
    for axis, (n, factor) in enumerate(zip(values.shape, factors, strict=True)):
        fewer = round(n / factor)
        kept = values.take(np.floor((np.arange(fewer) + 0.5) * n / fewer).astype(int), axis)
        places = np.clip((np.arange(n) + 0.5) * fewer / n - 0.5, 0, fewer - 1)
        values = ndimage.map_coordinates(
            kept, [places[at] if along == axis else at for along, at in enumerate(np.indices(values.shape))], order=1
        )
    return values


def plain(hu: Array, labels: Array, augmentation: Augmentation, patch: int) -> tuple[Array, Array]:
    """Augmentation of one window in the words of SciPy; its random fields are those of the fast version."""
    x = np.indices((patch,) * 3) - (patch - 1) / 2
    y = np.einsum("ab,bijk->aijk", augmentation.linear, x)
    if augmentation.elastic_voxels:
        y = y + module._displacement(augmentation, patch).double().numpy()
    places = y + ((np.array(hu.shape) - 1) / 2)[:, None, None, None]
    values = ndimage.map_coordinates(hu, places, order=1, mode="grid-constant", cval=AIR_HU)
    new_labels = ndimage.map_coordinates(labels, places, order=0, mode="grid-constant", cval=0)
    if augmentation.blur_voxels:
        values = ndimage.gaussian_filter(values, augmentation.blur_voxels, mode="nearest")
    noise = augmentation.random(module._NOISE).standard_normal((patch,) * 3, dtype=np.float32)
    values = values * augmentation.contrast + augmentation.shift_hu + augmentation.noise_hu * noise
    values = np.clip(coarsened(values, augmentation.coarser), *WITHIN_HU)
    return np.rint(with_gamma(-with_gamma(-values, augmentation.inverted_gamma), augmentation.gamma)), new_labels


def test_all_together_against_the_plain_version() -> None:
    for step in range(3):
        augmentations = [draw(ALL_KINDS, (1, step, slot), (1, 1.2, 2)) for slot in range(3)]
        hu, labels = windows(3, *(20 + 2 * n for n in margin(augmentations, 20)), seed=step)
        new_hu, new_labels = augment(hu, labels, augmentations, 20, WITHIN_HU)
        for slot, augmentation in enumerate(augmentations):
            oracle_hu, oracle_labels = plain(hu[slot].double().numpy(), labels[slot].numpy(), augmentation, 20)
            assert np.abs(new_hu[slot].numpy() - oracle_hu).max() <= 1
            assert (new_hu[slot].numpy() != oracle_hu).mean() < 0.01
            assert (new_labels[slot].numpy() != oracle_labels).mean() < 1e-3


@given(st.integers(0, 10_000), st.sets(st.integers(0, 255), min_size=1, max_size=4))
def test_no_class_comes_into_being(step: int, classes: set[int]) -> None:
    random = np.random.default_rng(step)
    labels = torch.from_numpy(random.choice(sorted(classes), (2, 12, 12, 12)).astype(np.uint8))
    augmentations = [draw(ALWAYS, (0, step, slot)) for slot in range(2)]
    _, new_labels = augment(windows(2, 12, 12, 12)[0], labels, augmentations, 12)
    assert set(np.unique(new_labels.numpy()).tolist()) <= classes | {0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_up_to_rounding() -> None:
    augmentations = [draw(ALL_KINDS, (1, 4, slot)) for slot in range(3)]
    hu, labels = windows(3, *(24 + 2 * n for n in margin(augmentations, 24)))
    on_cpu, on_gpu = augment(hu, labels, augmentations, 24), augment(hu.cuda(), labels.cuda(), augmentations, 24)
    assert (on_cpu[0] - on_gpu[0].cpu()).abs().max() <= 1
    assert (on_cpu[0] != on_gpu[0].cpu()).double().mean() < 0.01
    assert (on_cpu[1] != on_gpu[1].cpu()).double().mean() < 1e-3
