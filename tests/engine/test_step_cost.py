"""What a training costs: sums by hand, and a training that takes as long as was said."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from viscera.core.config import Config, TrainConfig
from viscera.core.progress import Progress
from viscera.engine.feed import facts_of
from viscera.engine.step_cost import _START_S, TrainingCost, _Clock, measured_cost
from viscera.io.store import Store
from viscera.stages.train import train

CPU = torch.device("cpu")
Configure = Callable[..., Config]


def test_the_parts_of_a_training_add_up() -> None:
    """200 steps of 1 s; logged each 50 and validated each 80: at 50, 80, 100, 150, 160 and 200, three times validated.

    Saved at the start, each 100 steps, and as the best at each validation. One diagnosis: a hundredth of the steps.
    """
    every = {"log_every": 50, "validate_every": 80, "checkpoint_every": 100}
    train_ = TrainConfig(iterations=200, **every)
    cost = TrainingCost(1.0, 0.1, 10.0, 0.01, 3.0, 5.0, 8)
    assert cost.seconds(train_) == pytest.approx(5 + 200 + 6 * 0.1 + 3 * 10 + (1 + 2 + 3) * 0.01 + 3)
    bare = TrainConfig(iterations=200, diagnose=False, **every)
    assert cost._replace(validation=0.0).seconds(bare) == pytest.approx(5 + 200 + 6 * 0.1 + 3 * 0.01)


@pytest.mark.parametrize("seconds", [4.0, 6.5, 100.0, 12345.6])
def test_the_most_steps_that_fit(seconds: float) -> None:
    cost, train_ = TrainingCost(0.7, 0.3, 2.0, 0.1, 1.0, 5.0, 8), TrainConfig()
    n = cost.iterations_within(seconds, train_)
    if n:
        assert cost.seconds(train_.model_copy(update={"iterations": n})) <= seconds
    assert cost.seconds(train_.model_copy(update={"iterations": n + 1})) > seconds or n == 0


def test_steps_in_which_something_else_was_done_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight: the first begins, and the fifth comes after a line of the curve."""
    seconds = iter([0.0, 50.0, 51, 52, 53, 73, 74, 75, 90])
    monkeypatch.setattr(_Clock, "now_on", staticmethod(lambda _device: next(seconds)))
    clock = _Clock(CPU)
    for step in range(1, 9):
        clock(Progress("train", step, 8))
    assert clock.step(8) == 1


def test_all_parts_are_timed_and_the_store_stays_as_it_is(
    tiny_store: Store, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """What this store does not show says nothing of a plan, which may be for other voxels."""
    before = tiny_store.fingerprint
    lost = {
        n: r.model_copy(update={"voxel_counts_prepared": (9, 0, *r.voxel_counts_prepared[2:])})
        for n, r in tiny_store.manifest.cases.items()
    }
    shown = Store(tiny_store.path, tiny_store.manifest.model_copy(update={"cases": lost}))
    cost = measured_cost(shown, tiny_config(precision="float32"), CPU)
    assert "no training case" not in caplog.text
    facts_of(shown, tiny_config())
    assert "no training case contains artery, though their scans do: it is too small for the store's" in caplog.text
    assert all(seconds > 0 for seconds in cost)
    assert cost.num_classes == 8
    assert Store.open(tiny_store.path).fingerprint == before
    assert measured_cost(tiny_store, tiny_config(precision="float32", diagnose=False), CPU).diagnosis == 0


@pytest.mark.slow
def test_a_training_takes_as_long_as_was_said(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    """Within a factor of two, on a machine that others use too; the start of Python is not in it here."""
    size = {"precision": "float32", "patch": 16, "filters": 8, "levels": 3, "iterations": 150}
    config = tiny_config(**size, log_every=30, validate_every=50, checkpoint_every=50)
    said = measured_cost(tiny_store, config, CPU).seconds(config.train) - _START_S
    started = time.perf_counter()
    train(tiny_store.path, tmp_path / "run", config)
    assert 0.5 < (time.perf_counter() - started) / said < 2
