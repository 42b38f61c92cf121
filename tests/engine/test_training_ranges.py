"""What a run remembers of its training organs, and how sure a network is of each."""

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.scan import OrganFacts, Volume
from viscera.engine import trust
from viscera.engine.trust import (
    ConfidenceTally,
    OrganRange,
    TrainingRanges,
    load_ranges,
    reasons_not_to_trust,
    save_ranges,
    training_ranges,
)
from viscera.io.store import Store
from viscera.stages.train import train


def test_the_organs_of_the_training_cases(tiny_store: Store) -> None:
    found = training_ranges(tiny_store)
    assert set(found) == {organ.name for organ in tiny_store.classes.organs}
    cases = tiny_store.names("train")
    volumes = []
    for name in cases:
        labels, geometry = tiny_store.labels(name), tiny_store.geometry(name)
        liver = (labels == 3).sum() * geometry.voxel_volume_ml
        touches = any((labels == 3).take(end, axis=axis).any() for axis in range(3) for end in (0, -1))
        if liver and not touches:
            volumes.append(float(liver))
    assert found["liver"].cases == len(cases)
    assert found["liver"].volume_ml == (pytest.approx((min(volumes), max(volumes))) if volumes else None)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The cases that are measured, in order; nothing is remembered of other tests, nor by them of this one."""
    names, volume = list[str](), Store.volume

    def noted(store: Store, name: str) -> Volume:
        names.append(name)
        return volume(store, name)

    monkeypatch.setattr(Store, "volume", noted)
    trust._ranges_of.cache_clear()
    yield names
    trust._ranges_of.cache_clear()


def test_of_many_cases_some_are_measured_spread_evenly(
    tiny_store: Store, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    names = tiny_store.names("train")
    monkeypatch.setattr(trust, "_MOST_CASES", 2)
    assert training_ranges(tiny_store)["liver"].cases == 2
    assert measured == [names[0], names[len(names) // 2]]


def test_all_arms_of_a_study_measure_once_and_again_when_the_store_has_changed(
    tiny_store: Store, tmp_path: Path, measured: list[str]
) -> None:
    store = Store.open(Path(shutil.copytree(tiny_store.path, tmp_path / "store")))
    names = store.names("train")
    first = training_ranges(store)
    assert training_ranges(Store.open(store.path)) == first
    assert measured == names
    store.assign({names[0]: "test"})
    assert training_ranges(store)["liver"].cases == len(names) - 1
    assert measured == names + names[1:]


def test_a_training_writes_them_and_a_reader_reads_them(
    tiny_store: Store, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    folder = train(tiny_store.path, tmp_path / "run", tiny_config())
    known = load_ranges(folder.training_ranges)
    assert known is not None
    assert known.organs == training_ranges(tiny_store)
    assert 0 <= known.sure_from("liver") <= 1


def test_damaged_and_missing(tmp_path: Path) -> None:
    assert load_ranges(tmp_path / "x.json") is None
    (tmp_path / "x.json").write_text('{"organs": 3}')
    with pytest.raises(BadInputError, match="damaged"):
        load_ranges(tmp_path / "x.json")
    ranges = TrainingRanges({"liver": OrganRange(2, 1.0, 0.5, None, (80.0, 90.0), 1)}, 0.7)
    save_ranges(tmp_path / "x.json", ranges)
    assert load_ranges(tmp_path / "x.json") == ranges


def test_organs_of_several_models_are_each_held_against_what_its_own_saw(tmp_path: Path) -> None:
    small, large = (OrganRange(2, 1.0, 0.5, (ml, 2 * ml), None, 1) for ml in (10.0, 1000.0))
    first = TrainingRanges({"liver": small, "spleen": small}, 0.3)
    second = TrainingRanges({"liver": large, "spleen": large}, 0.9)
    known = TrainingRanges.of_organs({"liver": first, "spleen": second, "aorta": None})
    assert known == TrainingRanges({"liver": small, "spleen": large}, {"liver": 0.3, "spleen": 0.9})
    assert (known.sure_from("liver"), known.sure_from("spleen"), known.sure_from("aorta")) == (0.3, 0.9, 0.0)
    save_ranges(tmp_path / "x.json", known)
    assert load_ranges(tmp_path / "x.json") == known
    facts = OrganFacts(15, None, cut_off=False, large_fragments=1, confidence=0.5)
    facts = dataclasses.replace(facts, mean_hu=40.0)
    reasons = reasons_not_to_trust({"liver": facts, "spleen": facts}, known, ["spleen"])
    assert reasons == {
        "liver": (),
        "spleen": (
            "volume 15 mL outside 800 to 2500",
            "low confidence (0.50, below 0.90)",
            "spacing unlike training",
        ),
    }


def test_mean_confidence_by_hand() -> None:
    # two voxels are class 0 with 0.6 and 0.8, one is class 1 with 0.9, none is class 2
    probabilities = torch.tensor([[0.6, 0.8, 0.1], [0.3, 0.1, 0.9], [0.1, 0.1, 0.0]]).reshape(3, 3, 1, 1)
    whole, by_planes = ConfidenceTally(3), ConfidenceTally(3)
    whole.add(probabilities)
    assert whole.means() == [pytest.approx(0.7), pytest.approx(0.9), None]
    for plane in probabilities.unbind(1):
        by_planes.add(plane)
    assert by_planes.means() == whole.means()
    first = ConfidenceTally(3)
    first.add(probabilities, np.array([True, False, False]).reshape(3, 1, 1))  # the others nobody labelled
    assert first.means() == [pytest.approx(0.6), None, None]
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(3)
    assert whole.mean_entropies() == by_planes.mean_entropies() == [None, pytest.approx(entropy), None]
    (organ,) = whole.held_out(["a", "b"], [1.0, 0.5, None])
    assert (organ.organ, organ.dice) == ("a", 0.5)
