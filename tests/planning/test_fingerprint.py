"""What a plan knows of a store: counted by hand, and against what a training is given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.feed import feed_of
from viscera.io.store import Store
from viscera.planning.fingerprint import fingerprint, organ_hu, presence
from viscera.stages.prepare import prepare

Configure = Callable[..., Config]


def test_grids_volumes_and_cases_are_those_of_the_training_cases(tiny_store: Store) -> None:
    found = fingerprint(tiny_store)
    assert (found.cases, found.validation_cases) == (4, 1)
    assert found.spacing_mm == pytest.approx((2, 2, 2.5))
    assert found.shape == (14.0, 12.0, 10.0)
    assert found.shape_at((4, 4, 5)) == (7.0, 6.0, 5.0)
    names = tiny_store.names("train")
    for label, organ in enumerate(found.organs, start=1):
        ml = [np.count_nonzero(tiny_store.labels(name) == label) * 0.01 for name in names]  # 2×2×2.5 mm
        assert (organ.labelled_by, organ.cases) == (4, 4)
        assert organ.median_ml == pytest.approx(np.median(ml))
        assert organ.least_ml == pytest.approx(min(ml))
        assert organ.voxels_at((1, 1, 1)) == pytest.approx(1000 * np.median(ml))


def test_cases_that_do_not_label_an_organ_say_nothing_of_it(tiny_store: Store) -> None:
    first = tiny_store.names("train")[0]
    record = tiny_store.manifest.cases[first]
    names = zip(tiny_store.classes.names, record.voxel_counts_original, strict=True)
    counts = tuple(0 if name == "liver" else number for name, number in names)
    partly = record.model_copy(update={"unlabelled": ("liver",), "voxel_counts_original": counts})
    manifest = tiny_store.manifest.model_copy(update={"cases": {**tiny_store.manifest.cases, first: partly}})
    before, now = (fingerprint(store).organs for store in (tiny_store, Store(tiny_store.path, manifest)))
    for organ, other in zip(before, now, strict=True):
        assert (other.labelled_by, other.cases) == ((3, 3) if organ.name == "liver" else (4, 4))
        assert other.median_ml == pytest.approx(organ.median_ml, rel=0.4)


def test_hu_of_organs_weigh_each_case_alike() -> None:
    """A case of 100 voxels at 0 to 99 HU and one of a single voxel at 1,000 HU, which is half of all."""
    many, one = np.arange(100, dtype=np.int16).reshape(100, 1, 1), np.full((1, 1, 1), 1000, np.int16)
    labels = np.ones((100, 1, 1), np.uint8)
    found = organ_hu([(many, labels), (one, labels[:1]), (one, labels[:1] * 0)], 2)
    assert found is not None
    assert (found.low, found.high) == (0, 1000)
    assert found.mean == pytest.approx((49.5 + 1000) / 2)
    assert found.sd == pytest.approx(np.sqrt((np.mean(np.arange(100.0) ** 2) + 1e6) / 2 - found.mean**2))
    assert organ_hu([(one, labels[:1] * 255)], 2) is None  # what nobody labelled is no organ


def test_organs_are_in_as_many_windows_as_a_training_cuts(tiny_store: Store, tiny_config: Configure) -> None:
    found = presence(tiny_store, (8, 8, 8))
    for share, expected in ((0.0, found.anywhere), (1.0, found.centred)):
        feed = feed_of(tiny_store, tiny_config(organ_windows=share).train)
        windows = [window for step in range(150) for window in feed.batch(step + 1).labels.numpy()]
        seen = [np.mean([np.any(window == label) for window in windows]) for label in range(1, 8)]
        assert expected == pytest.approx(seen, abs=0.12)


def test_validation_cases_are_not_looked_at(
    tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    """Of two folds, one with HU that are 3,000 higher."""
    raw = make_nnunet(tmp_path / "raw", {f"c{n}": make_case(n) for n in range(4)})
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0, folds=2))
    for name in store.of_fold(0).names("validation"):
        path = store.path / "cases" / name / "image.npy"
        np.save(path, np.load(path) + 3000)
    held_out, all_of_them = (fingerprint(Store.open(store.path).of_fold(fold)) for fold in (0, "all"))
    assert held_out.hu is not None
    assert all_of_them.hu is not None
    assert held_out.hu.high < 1000
    assert all_of_them.hu.high > 3000
    assert (held_out.cases, held_out.validation_cases) == (2, 2)


def test_a_store_without_training_cases_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no training case in this store"):
        fingerprint(Store.create(tmp_path / "s", PrepareConfig(), ""))
