"""The feed: a pure function of (seed, step, slot), uniform, one patient a slot."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from tests.imaging.test_augment import ALL_KINDS
from viscera.core.config import AugmentConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import AIR_HU, HuArray, LabelArray
from viscera.engine.distributed import Ranks
from viscera.engine.feed import Feed
from viscera.imaging.augment import augment, draw, margin
from viscera.imaging.windows import random_cases, random_origin


def numbered(case: int, shape: tuple[int, int, int]) -> tuple[HuArray, LabelArray]:
    """A case whose HU are case * 1000 + I index, and whose labels are the J index."""
    i, j, _ = np.indices(shape)
    return (case * 1000 + i).astype(np.int16), j.astype(np.uint8)


CASES = [numbered(case, (10, 9, 8)) for case in range(5)]


def test_same_arguments_same_windows_whatever_was_asked_before() -> None:
    first = Feed(CASES, patch=4, batch_size=3, seed=1)
    second = Feed(CASES, patch=4, batch_size=3, seed=1)
    for step in (5, 1, 3):
        second.batch(step)
    assert (first.batch(7).hu == second.batch(7).hu).all()
    assert (first.batch(7).labels == second.batch(7).labels).all()


def test_another_seed_or_step_gives_other_windows() -> None:
    feed = Feed(CASES, patch=4, batch_size=3, seed=1)
    assert (feed.batch(1).hu != feed.batch(2).hu).any()
    assert (feed.batch(1).hu != Feed(CASES, patch=4, batch_size=3, seed=2).batch(1).hu).any()


def test_a_window_is_the_voxels_at_its_origin() -> None:
    batch = Feed(CASES, patch=4, batch_size=3, seed=1).batch(9)
    for slot, case in enumerate(random_cases(1, 9, 5, 3)):
        i, j, _ = random_origin(1, 9, slot, (10, 9, 8), 4)
        assert batch.hu[slot, 2, 0, 0] == case * 1000 + i + 2
        assert batch.labels[slot, 0, 3, 0] == j + 3


def test_each_window_says_what_its_case_labels() -> None:
    labelled = np.ones((5, 8), dtype=np.bool_)
    labelled[2, 3], labelled[4, 6] = False, False
    feed = Feed(CASES, patch=4, batch_size=3, seed=1, labelled=labelled)
    for step in range(20):
        numbers, found = random_cases(1, step, 5, 3), feed.batch(step).labelled
        if {2, 4} & set(numbers.tolist()):
            assert found is not None
            assert (found.numpy() == labelled[numbers]).all()
        else:
            assert found is None  # the path of a data set that labels everything


def test_the_windows_of_a_batch_come_from_different_patients() -> None:
    for step in range(200):
        assert len(set(random_cases(0, step, 5, 3).tolist())) == 3


def test_patients_are_equally_likely() -> None:
    drawn = np.concatenate([random_cases(3, step, 5, 3) for step in range(2000)])
    assert chisquare(np.bincount(drawn, minlength=5)).pvalue > 1e-3


def test_origins_are_uniform_over_all_that_fit() -> None:
    # 10 - 4 + 1 = 7 places along I, 6 along J, 5 along K: 210 cells
    origins = np.array([random_origin(3, step, slot, (10, 9, 8), 4) for step in range(3500) for slot in range(3)])
    assert origins.max(axis=0).tolist() == [6, 5, 4]
    cells = np.ravel_multi_index(tuple(origins.T), (7, 6, 5))
    assert chisquare(np.bincount(cells, minlength=210)).pvalue > 1e-3


def test_a_scan_smaller_than_the_window_is_padded_with_air_and_background() -> None:
    batch = Feed([numbered(0, (2, 9, 8))], patch=4, batch_size=1, seed=0).batch(1)
    assert (batch.hu[0, 2:] == AIR_HU).all()
    assert (batch.labels[0, 2:] == 0).all()
    assert (batch.hu[0, :2, 0, 0].numpy() == [0, 1]).all()


def test_without_augmentation_nothing_about_the_windows_changes() -> None:
    plain = Feed(CASES, patch=4, batch_size=3, seed=1)
    for off in (None, AugmentConfig()):
        batch = Feed(CASES, 4, 3, 1, off, [(1, 2, 3)] * 5).batch(7)
        assert batch.augmentations == ()
        assert (batch.hu == plain.batch(7).hu).all()
        assert (batch.labels == plain.batch(7).labels).all()


TURNING = AugmentConfig(enabled=True, rotation_probability=1, rotation_degrees=180)
SPACINGS = [(1.0, 1.0, 1.0 + case) for case in range(5)]


def test_with_augmentation_the_same_windows_are_cut_with_all_that_lies_about_them() -> None:
    feed = Feed(CASES, 4, 3, 1, TURNING, SPACINGS)
    for step in range(20):
        batch = feed.batch(step)
        beyond = margin(batch.augmentations, 4)
        assert max(beyond) > 0
        assert batch.hu.shape == batch.labels.shape == (3, *(4 + 2 * n for n in beyond))
        for slot, case in enumerate(random_cases(1, step, 5, 3)):
            origin = random_origin(1, step, slot, (10, 9, 8), 4)
            padded_hu = np.pad(CASES[case][0], 40, constant_values=AIR_HU)
            padded_labels = np.pad(CASES[case][1], 40)
            window = tuple(slice(40 + at - n, 44 + at + n) for at, n in zip(origin, beyond, strict=True))
            assert (batch.hu[slot].numpy() == padded_hu[window]).all()
            assert (batch.labels[slot].numpy() == padded_labels[window]).all()


def test_each_window_is_turned_with_the_spacing_of_its_case_and_a_pure_function_of_seed_and_step() -> None:
    batch, again = (Feed(CASES, 4, 3, 1, TURNING, SPACINGS).batch(6) for _ in range(2))
    for slot, case in enumerate(random_cases(1, 6, 5, 3)):
        expected = draw(TURNING, (1, 6, slot), SPACINGS[case])
        for each in (batch.augmentations[slot], again.augmentations[slot]):
            assert each.key == (1, 6, slot)
            assert np.array_equal(each.linear, expected.linear)


def test_ranks_that_share_a_batch_change_its_windows_as_one_does() -> None:
    def changed(feed: Feed, step: int) -> tuple[Tensor, Tensor]:
        batch = feed.batch(step)
        return augment(batch.hu, batch.labels, batch.augmentations, 4, (-500, 500))

    alone = Feed(CASES, 4, 3, 1, ALL_KINDS, SPACINGS)
    for step in range(3):
        parts = [changed(replace(alone, ranks=Ranks(rank, 2)), step) for rank in range(2)]
        for whole, of_ranks in zip(changed(alone, step), zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(of_ranks))


def test_rotated_windows_have_corners() -> None:
    ones = (np.full((40, 40, 40), 50, dtype=np.int16), np.ones((40, 40, 40), dtype=np.uint8))
    feed = Feed([ones] * 2, 4, 2, 0, TURNING)
    inside = 0
    for step in range(40):
        batch = feed.batch(step)
        _, labels = augment(batch.hu, batch.labels, batch.augmentations, 4)
        if (batch.labels == 1).all():  # else the window lies at the rim of the scan, and air is right
            inside += 1
            assert (labels == 1).all()
    assert inside > 10


def test_more_windows_than_patients_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="only 2 training cases"):
        Feed(CASES[:2], patch=4, batch_size=3, seed=0)
