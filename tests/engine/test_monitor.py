"""Dice on fixed windows and on validation cases, of networks whose answers are known; what is warned of."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from viscera.core.anatomy import CLASS_NAMES, ClassTable
from viscera.core.config import AugmentConfig, PredictConfig, TrainConfig
from viscera.engine.feed import Feed
from viscera.engine.monitor import Monitor, foreground_mean, warn_of_batch_norm
from viscera.io.runlog import RunFolder
from viscera.metrics.learning import Outcome

TRAIN = TrainConfig(patch=4, batch_size=2, monitor_windows=5)
CPU = torch.device("cpu")


def coded(seed: int, shape: tuple[int, int, int] = (6, 6, 6), organs: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A case whose HU say the label: label times 60."""
    labels = np.random.default_rng(seed).integers(0, organs, shape).astype(np.uint8)
    return (labels * np.int16(60)).astype(np.int16), labels


class Reader(nn.Module):
    """Reads the label off the HU; `wrong` is taken for the background."""

    def __init__(self, wrong: int | None = None, classes: int = 8) -> None:
        super().__init__()
        self.wrong = wrong
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        labels = torch.round((x[:, 0] * 1000 - 500) / 60).clamp(0, self.classes - 1).long()  # x is (HU + 500) / 1000
        if self.wrong is not None:
            labels[labels == self.wrong] = 0
        return nn.functional.one_hot(labels, self.classes).movedim(-1, 1).float() * 50


def made(validation: list[tuple[np.ndarray, np.ndarray]]) -> Monitor:
    feed = Feed([coded(seed) for seed in range(3)], TRAIN.patch, TRAIN.batch_size, seed=5)
    return Monitor.create(feed, validation, TRAIN, PredictConfig(), CPU)


def test_a_perfect_network_has_dice_1_and_one_that_misses_an_organ_0_for_it() -> None:
    monitor = made([coded(9, (5, 7, 9))])
    for measure in (monitor.training_dice, monitor.validation_dice):
        assert measure(Reader()) == dict.fromkeys(CLASS_NAMES, 1.0)
        values = measure(Reader(wrong=3))
        assert values is not None
        assert values["liver"] == 0
        assert values["spleen"] == 1
        assert 0 < (values["background"] or 0) < 1


def test_what_became_of_a_missed_organ_is_measured_with_its_dice() -> None:
    found = made([]).training_outcomes(Reader(wrong=3))
    assert found["liver"] == Outcome(0.0, 0.0, "background")
    assert found["spleen"] == Outcome(1.0, 1.0, "spleen")


def test_an_organ_that_is_nowhere_is_left_out_of_the_mean() -> None:
    monitor = made([coded(1, organs=7), coded(2)])
    values = monitor.validation_dice(Reader(wrong=7))
    assert values is not None
    assert values["pancreas"] == 0  # of the second case alone
    values = made([coded(1, organs=7)]).validation_dice(Reader())
    assert values is not None
    assert values["pancreas"] is None
    assert foreground_mean(values) == 1
    assert foreground_mean({"background": 1.0, "liver": None}) == 0


def test_without_validation_cases_there_is_nothing_to_measure() -> None:
    assert made([]).validation_dice(Reader()) is None


def test_the_windows_are_fixed_and_at_least_as_many_as_asked_for() -> None:
    feed = Feed([coded(seed) for seed in range(3)], 4, 2, seed=5)
    other = Feed(feed.cases, 4, 2, seed=6)
    one, two = (Monitor.create(each, [], TRAIN, PredictConfig(), CPU) for each in (feed, other))
    assert len(one.windows) == 3  # batches of two for five windows
    assert all(torch.equal(a.hu, b.hu) for a, b in zip(one.windows, two.windows, strict=True))


def test_the_windows_are_never_augmented() -> None:
    feed = Feed([coded(seed) for seed in range(3)], 4, 2, seed=5)
    augmented = Feed(feed.cases, 4, 2, 5, AugmentConfig(enabled=True))
    one, two = (Monitor.create(each, [], TRAIN, PredictConfig(), CPU) for each in (feed, augmented))
    assert all(torch.equal(a.hu, b.hu) for a, b in zip(one.windows, two.windows, strict=True))
    assert not any(batch.augmentations for batch in two.windows)


def test_measuring_leaves_the_network_in_training_and_its_statistics_alone() -> None:
    network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.BatchNorm3d(8)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    monitor = made([coded(9)])
    monitor.training_dice(network)
    monitor.validation_dice(network)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


class Normalised(nn.Module):
    """`Reader` of what batch normalisation of the HU leaves: right where its statistics are mean 0.5, variance 1."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(1, eps=1e-12, affine=False)
        self.reader = Reader()

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.norm(x - 0.5) + 0.5)  # type: ignore[no-any-return]


def test_kept_batch_statistics_are_the_means_over_the_windows() -> None:
    network = nn.Sequential(nn.BatchNorm3d(1), nn.Conv3d(1, 8, 1)).train()
    monitor = made([])
    monitor.batch_statistics_dice(network, keep=True)
    inputs = [(batch.hu.float() + 500) / 1000 for batch in monitor.windows]
    state = network.state_dict()
    assert float(state["0.running_mean"]) == pytest.approx(np.mean([float(x.mean()) for x in inputs]), rel=1e-5)
    assert float(state["0.running_var"]) == pytest.approx(np.mean([float(x.var()) for x in inputs]), rel=1e-4)
    assert network.training


def test_dice_by_batch_statistics_leaves_the_network_as_it_was() -> None:
    """With mean 0 and variance 1 kept, the network reads labels rightly; a batch's own statistics spread them apart."""
    network, monitor = Normalised().train(), made([])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert monitor.training_dice(network) == dict.fromkeys(CLASS_NAMES, 1.0)
    spread = monitor.batch_statistics_dice(network, keep=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training
    assert not network._forward_hooks
    assert (spread["liver"] or 0) < 0.5  # HU of 180 become about (180 - 210) / 137 s.d.
    assert monitor.batch_statistics_dice(network, keep=True) == spread
    assert (monitor.training_dice(network)["liver"] or 0) < 0.5


def test_a_batch_of_padding_alone_leaves_finite_statistics() -> None:
    """A thin scan's windows are mostly air: a variance of 0 is no reason for NaN."""
    air = (np.full((6, 6, 1), -1000, dtype=np.int16), np.zeros((6, 6, 1), dtype=np.uint8))
    monitor = Monitor.create(Feed([air, air], 4, 2, seed=0), [], TRAIN, PredictConfig(), CPU)
    network = nn.Sequential(nn.BatchNorm3d(1), nn.Conv3d(1, 8, 1)).train()
    assert monitor.batch_statistics_dice(network, keep=True).keys() == set(CLASS_NAMES)
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_classes_are_those_of_the_feed() -> None:
    table = ClassTable.of_names(["background", "liver", "kidney"])
    feed = Feed([coded(seed, organs=3) for seed in range(3)], 4, 2, seed=5, classes=table)
    monitor = Monitor.create(feed, [coded(9, organs=3)], TRAIN, PredictConfig(), CPU)
    for measure in (monitor.training_dice, monitor.validation_dice):
        assert measure(Reader(classes=3)) == {"background": 1.0, "liver": 1.0, "kidney": 1.0}


def test_an_organ_is_measured_where_it_is_labelled() -> None:
    """Of three cases one labels the liver; the network is right there, and finds livers in the others, too."""
    cases = [coded(seed) for seed in range(3)]
    labelled = np.ones((3, 8), dtype=np.bool_)
    labelled[:2, 3] = False
    partial = [(hu, np.where(labels == 3, 0, labels).astype(np.uint8)) for hu, labels in cases[:2]]
    feed = Feed([*partial, cases[2]], TRAIN.patch, TRAIN.batch_size, seed=5, labelled=labelled)
    monitor = Monitor.create(feed, partial[:1], TRAIN, PredictConfig(), CPU, labelled[:1])
    assert monitor.training_dice(Reader()) == dict.fromkeys(CLASS_NAMES, 1.0)
    validation = monitor.validation_dice(Reader())
    assert validation == {**dict.fromkeys(CLASS_NAMES, 1.0), "liver": None}
    whole = Monitor.create(feed, partial[:1], TRAIN, PredictConfig(), CPU).validation_dice(Reader())
    assert whole is not None
    assert whole["liver"] == 0  # as it would be if nobody said that it is not labelled


@pytest.mark.parametrize(
    ("setting", "remedy"), [("running", "--set train.batch_norm=recomputed"), ("recomputed", "train.monitor_windows")]
)
def test_statistics_that_hide_what_was_learnt_are_warned_of_once_in_the_second_half(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, remedy: str
) -> None:
    folder, train = RunFolder(tmp_path), TrainConfig.model_validate({"iterations": 100, "batch_norm": setting})
    said_at = []
    for step, dice in ((25, 0.1), (50, 0.6), (75, 0.1), (100, 0.1)):
        line = {"step": step, "dice": {"liver": dice}, "dice_batch_statistics": {"liver": 0.65}}
        folder.append_curve(line)
        with caplog.at_level(logging.WARNING):
            warn_of_batch_norm(folder, train, line)
        said_at += [step] * len(caplog.messages)
        assert all(remedy in message and "0.10" in message and "0.65" in message for message in caplog.messages)
        caplog.clear()
    assert said_at == [75]
