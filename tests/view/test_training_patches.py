"""Where training patches fall: held against the windows that a training is really given."""

from collections.abc import Callable

import numpy as np
import pytest

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.engine.feed import feed_of
from viscera.io.store import Store
from viscera.view.training_patches import TrainingPatches, heat


@pytest.fixture
def patches(tiny_store: Store, tiny_config: Callable[..., Config]) -> TrainingPatches:
    return TrainingPatches(tiny_store, tiny_config(seed=3).train)


def test_the_boxes_hold_what_the_training_sees(
    patches: TrainingPatches, tiny_store: Store, tiny_config: Callable[..., Config]
) -> None:
    batch = feed_of(tiny_store, tiny_config(seed=3).train).batch(5)
    told = patches.of_step(5)
    assert told["batch_size"] == len(told["patches"]) == 2
    for number, each in enumerate(told["patches"]):
        box = tuple(slice(a, b) for a, b in zip(each["first"], each["past"], strict=True))
        np.testing.assert_array_equal(tiny_store.image(each["case"])[box], batch.hu[number].numpy())


def test_coverage_counts_the_boxes(patches: TrainingPatches, tiny_store: Store) -> None:
    case = tiny_store.names("train")[0]
    counted = np.zeros(tiny_store.image(case).shape, int)
    for step in range(1, 7):
        for each in patches.of_step(step)["patches"]:
            if each["case"] == case:
                counted[tuple(slice(a, b) for a, b in zip(each["first"], each["past"], strict=True))] += 1
    found = patches.coverage(case, 6)
    np.testing.assert_array_equal(found, counted)
    scaled, most = heat(found)
    assert (int(scaled.max()), most) == (255, counted.max())


def test_steps_and_cases_that_are_not_trained_on_are_refused(patches: TrainingPatches, tiny_store: Store) -> None:
    for step in (0, 7):
        with pytest.raises(BadInputError, match=f"step {step}: 1 to 6 were expected"):
            patches.of_step(step)
    with pytest.raises(BadInputError, match="not a training case"):
        patches.coverage(tiny_store.names("test")[0], 3)
