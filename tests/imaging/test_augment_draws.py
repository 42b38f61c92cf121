"""What augmentation draws: a pure function of seed, step and slot, with the shares and strengths asked for."""

import random as python_random

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import binomtest, kstest
from torch import Tensor

from tests.imaging.test_augment import ALL_KINDS, ALWAYS, Array, windows
from viscera.core.config import AugmentConfig
from viscera.imaging import augment as module
from viscera.imaging.augment import augment, draw


def test_a_pure_function_that_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), python_random.getstate()  # type: ignore[index] # noqa: NPY002
    hu, labels = windows(2, 16, 16, 16)

    def made(seed: int, step: int) -> Tensor:
        return augment(hu, labels, [draw(ALWAYS, (seed, step, slot)) for slot in range(2)], 16)[0]

    assert torch.equal(made(1, 2), made(1, 2))
    assert not torch.equal(made(1, 2), made(1, 3))
    assert not torch.equal(made(1, 2), made(2, 2))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), python_random.getstate()  # type: ignore[index] # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_the_windows_of_a_batch_fare_differently() -> None:
    hu, labels = windows(1, 16, 16, 16)
    augmentations = [draw(ALWAYS, (0, 7, slot)) for slot in range(3)]
    new_hu, _ = augment(hu.repeat(3, 1, 1, 1), labels.repeat(3, 1, 1, 1), augmentations, 16)
    assert not torch.equal(new_hu[0], new_hu[1])
    assert not torch.equal(new_hu[1], new_hu[2])
    fields = [module._displacement(each, 16) / each.elastic_voxels for each in augmentations]
    assert not torch.allclose(fields[0], fields[1])


def test_as_drawn_the_strengths_fill_their_ranges_and_the_shares_are_those_asked_for() -> None:
    config = AugmentConfig(scaling_probability=1, intensity_probability=1, elastic_probability=0.25)
    drawn = [draw(config, (5, step, slot)) for step in range(500) for slot in range(2)]
    log_scales = -np.log([np.linalg.det(each.linear) for each in drawn]) / 3 / np.log(config.scaling)
    for values in (
        log_scales,
        np.log([each.contrast for each in drawn]) / np.log(config.contrast),
        np.array([each.shift_hu for each in drawn]) / config.shift_hu,
        2 * np.array([each.blur_voxels for each in drawn if each.blur_voxels]) / config.blur_voxels - 1,
        2 * np.array([each.noise_hu for each in drawn if each.noise_hu]) / config.noise_hu - 1,
        2 * np.array([each.elastic_voxels for each in drawn if each.elastic_voxels]) / config.elastic_voxels - 1,
    ):
        assert kstest(values, "uniform", args=(-1, 2)).pvalue > 1e-3
    turned = [not np.allclose(each.linear, np.eye(3) * each.linear[0, 0]) for each in drawn]
    for happened, share in (
        (turned, config.rotation_probability),
        ([each.elastic_voxels > 0 for each in drawn], 0.25),
        ([each.blur_voxels > 0 for each in drawn], config.blur_probability),
        ([each.noise_hu > 0 for each in drawn], config.noise_probability),
    ):
        assert binomtest(int(np.sum(happened)), 1000, share).pvalue > 1e-3


def test_angles_are_uniform_up_to_the_largest() -> None:
    config = AugmentConfig(rotation_probability=1, scaling_probability=0, rotation_degrees=40)
    spacing_mm = (1, 2, 3)
    to_mm = np.diag(spacing_mm)
    angles = [
        Rotation.from_matrix(
            np.linalg.inv(to_mm @ draw(config, (5, step, 0), spacing_mm).linear @ np.linalg.inv(to_mm))
        ).as_euler("xyz", degrees=True)
        for step in range(500)
    ]
    for about_axis in np.transpose(angles):
        assert kstest(about_axis, "uniform", args=(-40, 80)).pvalue > 1e-3


KINDS = ["rotation", "scaling", "elastic", "blur", "intensity", "noise", "low_resolution", "gamma", "inverted_gamma"]


@pytest.mark.parametrize("kind", KINDS)
def test_switching_one_kind_off_leaves_the_others_as_they_are(kind: str) -> None:
    def aspects(config: AugmentConfig) -> dict[str, Array]:
        drawn = draw(config, (0, 3, 1))
        enlargement = np.cbrt(np.linalg.det(drawn.linear))
        return {
            "rotation": drawn.linear / enlargement,
            "scaling": enlargement,
            "elastic": np.array(drawn.elastic_voxels),
            "blur": np.array(drawn.blur_voxels),
            "intensity": np.array([drawn.contrast, drawn.shift_hu]),
            "noise": np.array(drawn.noise_hu),
            "low_resolution": np.array(drawn.coarser),
            "gamma": np.array(drawn.gamma),
            "inverted_gamma": np.array(drawn.inverted_gamma),
        }

    on, off = aspects(ALL_KINDS), aspects(ALL_KINDS.model_copy(update={f"{kind}_probability": 0}))
    assert [each for each in on if not np.allclose(on[each], off[each], rtol=1e-12)] == [kind]


def test_nothing_is_mirrored_unless_asked_for() -> None:
    drawn = [draw(ALWAYS, (0, step, 0)) for step in range(1000)]
    assert all(np.linalg.det(each.linear) > 0 for each in drawn)
    flipping = ALWAYS.model_copy(update={"flip_left_right": True})
    mirrored = [draw(flipping, (0, step, 0)) for step in range(1000)]
    flipped = [np.linalg.det(each.linear) < 0 for each in mirrored]
    assert binomtest(int(np.sum(flipped)), 1000, 0.5).pvalue > 1e-3
    mirror = np.diag([-1, 1, 1])
    for one, other, is_flipped in zip(drawn, mirrored, flipped, strict=True):
        assert np.array_equal(other.linear, mirror @ one.linear if is_flipped else one.linear)


def test_what_is_off_by_default_moves_nothing_else() -> None:
    later = {"coarser": (1, 1, 1), "gamma": 1, "inverted_gamma": 1}
    signs = {tuple(np.sign(np.diag(linear))) for linear in (draw(MIRRORING, (0, step, 0)).linear for step in range(99))}
    assert len(signs) == 8
    for step in range(20):
        one, all_kinds = (vars(draw(config, (0, step, 1))) for config in (ALWAYS, ALL_KINDS))
        assert {name: one[name] for name in later} == later
        assert np.array_equal(np.abs(one.pop("linear")), np.abs(all_kinds.pop("linear")))  # but for mirrors
        assert one == all_kinds | later


MIRRORING = AugmentConfig(mirror_axes=("R", "A", "S"), rotation_probability=0, scaling_probability=0)


def test_along_each_axis_half_of_the_windows_are_mirrored_and_r_is_left_and_right() -> None:
    mirrored = np.array([np.diag(draw(MIRRORING, (0, step, 0)).linear) < 0 for step in range(1000)])
    for along in mirrored.T:
        assert binomtest(int(along.sum()), 1000, 0.5).pvalue > 1e-3
    assert np.abs(np.corrcoef(mirrored.T) - np.eye(3)).max() < 4 / np.sqrt(1000)
    as_before = AugmentConfig(flip_left_right=True)
    for other in (AugmentConfig(mirror_axes=("R",)), AugmentConfig(mirror_axes=("R",), flip_left_right=True)):
        for step in range(20):
            assert np.array_equal(draw(other, (0, step, 0)).linear, draw(as_before, (0, step, 0)).linear)
    one = draw(AugmentConfig(mirror_axes=("A", "S"), rotation_probability=0, scaling_probability=0), (0, 0, 0))
    assert one.linear[0, 0] == 1


def test_gammas_and_factors_fill_their_ranges() -> None:
    drawn = [draw(ALL_KINDS, (5, step, 0)) for step in range(500)]
    for exponents in ([each.gamma for each in drawn], [each.inverted_gamma for each in drawn]):
        assert kstest(np.log(exponents) / np.log(1.5), "uniform", args=(-1, 2)).pvalue > 1e-3
    config = ALL_KINDS.model_copy(update={"low_resolution": (1.0, 2.0, 4.0)})
    factors = np.array([draw(config, (5, step, 0)).coarser for step in range(500)])
    assert (factors[:, 0] == 1).all()
    for axis, largest in ((1, 2), (2, 4)):
        assert kstest(np.log(factors[:, axis]) / np.log(largest), "uniform").pvalue > 1e-3
    half = ALL_KINDS.model_copy(update={"low_resolution_probability": 0.5, "gamma_probability": 0.3})
    drawn = [draw(half, (6, step, 0)) for step in range(1000)]
    assert binomtest(sum(each.coarser != (1, 1, 1) for each in drawn), 1000, 0.5).pvalue > 1e-3
    assert binomtest(sum(each.gamma != 1 for each in drawn), 1000, 0.3).pvalue > 1e-3
