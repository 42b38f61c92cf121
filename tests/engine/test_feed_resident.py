"""The training set in the device's memory, and losses that are read late: the same training, here on the CPU."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from viscera.core.config import AugmentConfig, Config
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.progress import Progress
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.feed import Feed, TrainingFacts, on_device
from viscera.engine.monitor import LossWatch, Monitor
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.losses import dice
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import weighted_dice_loss
from viscera.stages.train import train

Configure = Callable[..., Config]
CPU = torch.device("cpu")
FACTS = TrainingFacts(torch.arange(1, 9), WeightSchedule(np.ones(8), np.ones(8)), ((1.0, 1.0, 1.0),) * 4)


def case(seed: int, shape: tuple[int, int, int]) -> tuple[HuArray, LabelArray]:
    random = np.random.default_rng(seed)
    return random.integers(-1024, 3000, shape).astype(np.int16), random.integers(0, 8, shape).astype(np.uint8)


CASES = [case(0, (10, 9, 8)), case(1, (8, 14, 9)), case(2, (5, 8, 20)), case(3, (3, 3, 3))]  # two smaller than a window


# ------------------------------------------------------------------------------------------ the windows


@pytest.mark.parametrize("augment", [None, AugmentConfig(enabled=True, rotation_probability=1)])
def test_its_batches_are_those_of_the_feed_bit_by_bit(augment: AugmentConfig | None) -> None:
    feed = Feed(CASES, 8, 3, seed=4, augment=augment)
    there = feed.loaded(CPU)
    for step in range(40):
        ours, expected = there.batch(step), feed.batch(step)
        assert ours.hu.dtype == torch.int16
        assert ours.labels.dtype == torch.uint8
        assert torch.equal(ours.hu, expected.hu)
        assert torch.equal(ours.labels, expected.labels)
        assert repr(ours.augmentations) == repr(expected.augmentations)


def test_it_says_what_is_labelled_as_the_feed_does() -> None:
    labelled = np.ones((4, 8), dtype=np.bool_)
    labelled[1, 3] = False
    feed = Feed(CASES, 8, 3, seed=4, labelled=labelled)
    there = feed.loaded(CPU)
    for step in range(20):
        ours, expected = there.batch(step).labelled, feed.batch(step).labelled
        assert (ours is None) == (expected is None)
        assert ours is None or (expected is not None and torch.equal(ours, expected))


def test_it_holds_a_copy_of_three_bytes_a_voxel() -> None:
    feed = Feed(CASES, 8, 3, seed=4)
    there = feed.loaded(CPU)
    held = sum(t.element_size() * t.numel() for case in there.resident for t in case)
    assert held == 3 * (720 + 1008 + 800 + 27)
    before = int(there.resident[0][0][0, 0, 0])
    there.resident[0][0][0, 0, 0] += 1
    assert CASES[0][0][0, 0, 0] == before


def test_auto_leaves_the_set_outside_a_cpu_and_always_does_not() -> None:
    feed = Feed(CASES, 8, 3, seed=4)
    assert on_device(feed, CPU, "auto") is feed
    assert on_device(feed, CPU, "never") is feed
    assert on_device(feed, CPU, "always").resident


@pytest.mark.parametrize(("free", "full", "fits"), [(20000, False, True), (19000, False, False), (20000, True, False)])
def test_auto_asks_a_gpu_for_its_room_and_cuts_into_pinned_memory_where_there_is_none(
    free: int, full: bool, fits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """7665 bytes are at most 0.4 of 20000, but not of 19000."""
    feed = Feed(CASES, 8, 3, seed=4)
    inside = feed.loaded(CPU)

    def loaded(_feed: Feed, _device: torch.device) -> Feed:
        if full:
            raise torch.OutOfMemoryError
        return inside

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10**6))
    monkeypatch.setattr(Feed, "loaded", loaded)
    there = on_device(feed, torch.device("cuda"), "auto")
    assert (there is inside) is fits
    assert there.pinned is not fits
    assert ("stays outside the GPU" in caplog.text) is not fits
    assert on_device(feed, torch.device("cuda"), "never").pinned


def test_windows_in_pinned_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    original, asked = torch.empty, []

    def empty(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        asked.append(pin_memory)
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", empty)
    feed = Feed(CASES, 8, 3, seed=4)
    expected, ours = feed.batch(1), dataclasses.replace(feed, pinned=True).batch(1)
    assert asked == [False, False, True, True]
    assert torch.equal(ours.hu, expected.hu)
    assert torch.equal(ours.labels, expected.labels)


def test_a_label_beyond_the_classes_is_refused_before_training() -> None:
    hu, labels = case(0, (9, 9, 9))
    labels[3, 3, 3] = 8
    with pytest.raises(BadInputError, match="training case 0: label 8; 0 to 7"):
        Feed([(hu, labels)], 8, 1, seed=0).loaded(CPU)


def test_a_run_is_the_same_to_the_bit_and_goes_on_either_way(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(resident="always", iterations=3))
    train(tiny_store.path, run.path, tiny_config(resident="never"), resume=True)
    ours, expected = load_checkpoint(run.last).model, load_checkpoint(tiny_run / "last.pt").model
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


# ------------------------------------------------------------------------------------------ losses that are read late


def test_a_watch_reads_all_at_once_and_names_the_first_that_is_not_finite() -> None:
    watch = LossWatch(step=10)
    assert watch.read() is None
    for loss in (1.0, torch.tensor(2.0, dtype=torch.float64), 3.0):
        watch.add(loss)
    assert math.isnan(watch.newest)
    assert watch.read() is None
    assert watch.newest == 3
    for loss in (4.0, math.inf, math.nan):
        watch.add(loss)
    assert watch.read() == (15, math.inf)
    watch.add(5.0)
    assert watch.read() is None
    assert (watch.step, watch.newest) == (17, 5)


def trained(folder: Path, config: Config, *, deferred: bool) -> list[Progress]:
    trainer = Trainer.create(config, FACTS, CPU)
    trainer.deferred = deferred
    feed = Feed(CASES, 8, 2, seed=0)
    monitor = Monitor.create(feed, [], config.train, config.predict, CPU)
    told: list[Progress] = []
    trainer.run(feed.loaded(CPU), monitor, RunFolder(folder), Event(), told.append)
    return told


def test_reading_late_changes_no_number(tmp_path: Path, tiny_config: Configure) -> None:
    config = tiny_config(iterations=9, log_every=4, checkpoint_every=6, validate_every=20, diagnose=True)
    for name, deferred in (("late", True), ("once", False)):
        (tmp_path / name).mkdir()
        told = trained(tmp_path / name, config, deferred=deferred)
        assert [at.done for at in told] == list(range(1, 10))
    late, once = (RunFolder(tmp_path / name) for name in ("late", "once"))
    assert [{**line, "seconds": 0} for line in late.read_curve()] == [
        {**line, "seconds": 0} for line in once.read_curve()
    ]
    ours, expected = load_checkpoint(late.last).model, load_checkpoint(once.last).model
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("bad", "kept"), [(5, 0), (6, 0), (7, 6), (9, 6)])
def test_a_loss_that_is_not_finite_is_found_late_but_named_with_its_step_and_nothing_of_it_is_kept(
    bad: int, kept: int, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at steps 1, 4, 6, 8 and 9; checkpoints of 0 and 6."""
    calls = []

    def failing(*args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return weighted_dice_loss(*args) * (math.inf if len(calls) == bad else 1)

    monkeypatch.setattr(dice, "weighted_dice_loss", failing)
    config = tiny_config(iterations=9, log_every=4, checkpoint_every=6, validate_every=20)
    expected = rf"the loss is -inf at step {bad} .*The checkpoint of step {kept} is kept"
    with pytest.raises(RunFailedError, match=expected):
        trained(tmp_path, config, deferred=True)
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    assert checkpoint.step == kept
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.model.values())
