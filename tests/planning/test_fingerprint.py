"""What a plan knows of a store: counted by hand, and against what a training is given."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.feed import feed_of
from viscera.io.store import Store
from viscera.planning.fingerprint import Fingerprint, OrganFacts, fingerprint, organ_hu, presence
from viscera.stages.prepare import prepare

Configure = Callable[..., Config]
Cut = Callable[[np.ndarray], object]
Facts = Callable[[list[Cut]], tuple[Fingerprint, dict[str, OrganFacts]]]


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


CUBE_ML, SMALL_ML = 12**3 * 0.01, 4**3 * 0.01  # voxels of 2×2×2.5 mm


def whole(_labels: np.ndarray) -> None:
    """All of it is labelled."""


def third_slices(labels: np.ndarray) -> None:
    """Four of the twelve planes of the liver are labelled, and one of the four of the spleen."""
    labels[:, :, np.arange(24) % 3 != 0] = 3


def corner(labels: np.ndarray) -> None:
    """Touches the spleen."""
    labels[20:, 20:, 20:] = 3


def half_of_the_liver(labels: np.ndarray) -> None:
    labels[:8] = 3


@pytest.fixture
def facts_of(tmp_path: Path, make_nnunet: Callable[..., Path]) -> Facts:
    """What is known of cases with a liver of 12³ voxels and a spleen of 4³, a part of which nobody labelled."""

    def of(cuts: list[Cut]) -> tuple[Fingerprint, dict[str, OrganFacts]]:
        cases = {}
        for number, cut in enumerate(cuts):
            labels = np.zeros((24, 24, 24), np.uint8)
            labels[2:14, 2:14, 2:14], labels[16:20, 16:20, 16:20] = 1, 2
            cut(labels)
            hu = np.random.default_rng(number).integers(0, 100, labels.shape).astype(np.int16)
            cases[f"c{number}"] = (hu, labels)
        raw = make_nnunet(tmp_path / "raw", cases, names={"background": 0, "liver": 1, "spleen": 2, "ignore": 3})
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        config = PrepareConfig(downsample=1, test_fraction=0)
        found = fingerprint(prepare(raw, tmp_path / "s", config, partial=True))
        return found, {organ.name: organ for organ in found.organs}

    return of


def test_an_organ_that_may_go_on_where_nobody_labelled_has_no_part_in_its_volume(facts_of: Facts) -> None:
    data, organs = facts_of([whole, corner, half_of_the_liver])
    assert data.partly_labelled == 2
    for name, ml in (("liver", CUBE_ML), ("spleen", SMALL_ML)):
        assert (organs[name].cases, organs[name].basis) == (3, "whole")
        assert organs[name].median_ml == organs[name].least_ml == pytest.approx(ml)


def test_of_slices_apart_volumes_are_estimated_unless_enough_are_whole(facts_of: Facts) -> None:
    data, organs = facts_of([third_slices, third_slices, half_of_the_liver])
    assert organs["liver"].basis == "slices"
    assert organs["liver"].median_ml == pytest.approx(CUBE_ML)  # four planes of twelve, times three
    assert organs["spleen"].median_ml == pytest.approx(SMALL_ML / 4 * 3)  # one plane of four, times three
    assert data.labelled_mm == pytest.approx((48, 48, 2.5))  # of the median case
    _, organs = facts_of([third_slices, whole, whole, whole])
    assert (organs["liver"].basis, organs["spleen"].basis) == ("whole", "whole")
    assert organs["spleen"].median_ml == pytest.approx(SMALL_ML)


def test_what_is_whole_nowhere_has_no_volume(facts_of: Facts) -> None:
    data, organs = facts_of([corner, corner])
    assert (organs["spleen"].basis, organs["spleen"].has_volume, organs["spleen"].cases) == ("unknown", False, 2)
    assert organs["liver"].basis == "whole"
    assert organs["liver"].median_ml == pytest.approx(CUBE_ML)
    assert min(data.labelled_mm) > 30  # a corner leaves long rows


def test_labels_are_as_thick_as_in_most_cases_and_the_thinnest_are_known(facts_of: Facts) -> None:
    data, _ = facts_of([third_slices, whole, whole])
    assert data.labelled_mm == (np.inf,) * 3
    assert data.least_labelled_mm == pytest.approx((48, 48, 2.5))


def test_of_a_case_of_which_nobody_labelled_anything_nothing_is_known(facts_of: Facts) -> None:
    data, organs = facts_of([whole, lambda labels: labels.fill(3)])
    assert (data.cases, data.partly_labelled, data.least_labelled_mm) == (2, 1, (np.inf,) * 3)
    assert organs["liver"].cases == 1
    assert organs["liver"].median_ml == pytest.approx(CUBE_ML)


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
