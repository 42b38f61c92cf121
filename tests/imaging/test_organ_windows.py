"""Windows centred on organs: organs and voxels evenly, a pure function of (seed, step, slot), the others as ever."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import binomtest, chisquare

from viscera.core.config import AugmentConfig, Config
from viscera.core.geometry import Index3
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.distributed import Ranks
from viscera.engine.feed import Feed, feed_of
from viscera.engine.monitor import Monitor
from viscera.imaging.organ_windows import OrganWindows
from viscera.imaging.windows import random_cases, random_origin
from viscera.io.store import Store
from viscera.stages.train import train

SHAPE, LENGTH = (12, 10, 9), 4
VOXELS = {1: [(0, 0, 0)], 2: [(3, 4, 5), (3, 5, 5), (8, 4, 5)], 3: [(11, 9, 8), (6, 5, 4)]}


def case(number: int) -> tuple[HuArray, LabelArray]:
    """HU that tell where a voxel lies; a few voxels of three organs."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label, places in VOXELS.items():
        for place in places:
            labels[place] = label
    return (np.arange(labels.size).reshape(SHAPE) + number).astype(np.int16), labels


CASES = [case(number) for number in range(3)]


def counts(cases: list[tuple[HuArray, LabelArray]]) -> npt.NDArray[np.int64]:
    return np.array([np.bincount(labels.ravel(), minlength=LENGTH) for _, labels in cases])


def feed(share: float = 1.0, **more: Any) -> Feed:
    return replace(Feed(CASES, 4, 3, 1), organ_windows=OrganWindows(share, counts(CASES)), **more)


def origin(batch_hu: torch.Tensor, number: int) -> tuple[int, ...]:
    """Where a window begins, by the HU of its first voxel."""
    return tuple(int(at) for at in np.unravel_index(int(batch_hu[0, 0, 0]) - number, SHAPE))


def within(voxel: tuple[int, int, int]) -> Index3:
    """First voxel of a window of 4 about a voxel, which stays in the scan: from 0 to n - 4."""
    i, j, k = (min(max(at - 2, 0), n - 4) for at, n in zip(voxel, SHAPE, strict=True))
    return i, j, k


CENTRED = {within(voxel): label for label, places in VOXELS.items() for voxel in places}


def test_by_hand() -> None:
    assert {origin for origin, label in CENTRED.items() if label == 3} == {(8, 6, 5), (4, 3, 2)}
    one = OrganWindows(1.0, np.array([[0, 1]]))
    labels = np.zeros((9, 9, 2), dtype=np.uint8)
    labels[4, 8, 1] = 1
    assert one.origin((0, 1, 0), 0, labels, 4) == (2, 5, 0)  # 4 - 2; at the face 9 - 4; shorter than the window: 0


def test_organs_are_drawn_evenly_and_their_voxels_too() -> None:
    windows = OrganWindows(1.0, counts(CASES))
    drawn = Counter(windows.origin((3, step, 0), 0, CASES[0][1], 4) for step in range(3000))
    assert set(drawn) == set(CENTRED)
    by_organ = Counter[int]()
    for place, number in drawn.items():
        assert place is not None
        by_organ[CENTRED[place]] += number
    assert chisquare(list(by_organ.values())).pvalue > 1e-3
    for label, places in VOXELS.items():
        assert chisquare([drawn[within(voxel)] for voxel in places]).pvalue > 1e-3 or label == 1


@pytest.mark.parametrize("share", [0.33, 0.8])
def test_a_share_of_the_windows_is_centred_and_the_others_lie_where_they_did(share: float) -> None:
    centred, others = 0, feed(share)
    for step in range(300):
        batch, numbers = others.batch(step), random_cases(1, step, 3, 3)
        for slot, number in enumerate(numbers):
            found = origin(batch.hu[slot], int(number))
            moved = others.organ_windows is not None and others.organ_windows.origin(
                (1, step, slot), int(number), CASES[number][1], 4
            )
            centred += bool(moved)
            assert found == (moved or random_origin(1, step, slot, SHAPE, 4))
    assert binomtest(centred, 900, share).pvalue > 1e-3


def test_it_is_a_pure_function_whoever_asks_in_whichever_order() -> None:
    first, second = feed(0.5), feed(0.5)
    for step in (5, 1, 3):
        second.batch(step)
    assert torch.equal(first.batch(7).hu, second.batch(7).hu)
    parts = [feed(0.5, ranks=Ranks(rank, 2)).batch(7).hu for rank in range(2)]
    assert torch.equal(torch.cat(parts), first.batch(7).hu)
    assert torch.equal(first.loaded(torch.device("cpu")).batch(7).labels, first.batch(7).labels)


def test_augmented_windows_reach_beyond_the_same_places() -> None:
    turned = feed(0.5, augment=AugmentConfig(enabled=True, rotation_probability=1, rotation_degrees=180))
    plain = feed(0.5)
    for step in range(20):
        batch, (_, i, j, k) = turned.batch(step), turned.batch(step).hu.shape
        inner = tuple(slice((n - 4) // 2, (n - 4) // 2 + 4) for n in (i, j, k))
        assert torch.equal(batch.hu[(slice(None), *inner)], plain.batch(step).hu)


def test_without_an_organ_a_window_lies_anywhere() -> None:
    empty = [(hu, np.zeros_like(labels)) for hu, labels in CASES]
    there = replace(Feed(empty, 4, 3, 1), organ_windows=OrganWindows(1.0, counts(empty)))
    assert torch.equal(there.batch(3).hu, Feed(empty, 4, 3, 1).batch(3).hu)


def test_the_labels_of_a_case_are_read_once_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    original, counted = np.bincount, []

    def bincount(values: npt.NDArray[np.uint8], minlength: int = 0) -> npt.NDArray[np.int64]:
        counted.append(values.size)
        return original(values, minlength=minlength)

    windows = OrganWindows(1.0, counts(CASES))
    monkeypatch.setattr(np, "bincount", bincount)
    for step in range(9):
        windows.origin((0, step, 0), 1, CASES[1][1], 4)
    assert counted == [10 * 9] * 12


def test_the_setting_makes_the_feed_and_leaves_the_fixed_windows_alone(
    tiny_store: Store, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    plain, centred = (tiny_config(organ_windows=share) for share in (0.0, 1.0))
    feeds = [feed_of(tiny_store, config.train) for config in (plain, centred)]
    assert feeds[0].organ_windows is None
    assert feeds[1].organ_windows is not None
    names = tiny_store.names("train")
    expected = [np.bincount(tiny_store.labels(name).ravel(), minlength=8).tolist() for name in names]
    assert feeds[1].organ_windows.voxel_counts.tolist() == expected
    fixed = [Monitor.create(each, [], plain.train, plain.predict, torch.device("cpu")).windows for each in feeds]
    for mine, theirs in zip(*fixed, strict=True):
        assert torch.equal(mine.hu, theirs.hu)
    assert all((window > 0).any() for step in range(1, 6) for window in feeds[1].batch(step).labels)
    run = train(tiny_store.path, tmp_path / "r", tiny_config(organ_windows=0.5, iterations=2))
    assert run.last.exists()
