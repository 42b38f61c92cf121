"""The feed: a pure function of (seed, step, slot), uniform, one patient a slot."""

import numpy as np
import pytest
from scipy.stats import chisquare

from viscera.core.errors import BadInputError
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.feed import Feed
from viscera.imaging.intensity import AIR_HU
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


def test_more_windows_than_patients_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="only 2 training cases"):
        Feed(CASES[:2], patch=4, batch_size=3, seed=0)
