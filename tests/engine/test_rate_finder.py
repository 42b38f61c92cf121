"""The range test: its rates, its measure by hand, and where it ends."""

import math
from collections.abc import Callable
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from viscera.core.config import Config, RateRangeConfig
from viscera.core.errors import InterruptedRunError
from viscera.core.progress import Progress
from viscera.engine.feed import Batch, Feed
from viscera.engine.logbook import StepResult
from viscera.engine.rate_finder import range_test, relative_loss
from viscera.engine.trainer import Trainer, TrainingFacts
from viscera.losses.balance import WeightSchedule

Configure = Callable[..., Config]
CPU = torch.device("cpu")


def made(configure: Configure, weights: np.ndarray) -> Trainer:
    facts = TrainingFacts(torch.arange(1, 9), WeightSchedule(weights, weights), ((1.0, 1.0, 1.0),) * 2)
    return Trainer.create(configure(), facts, CPU)


def feed() -> Feed:
    random = np.random.default_rng(0)
    labels = [np.sort(random.integers(0, 8, (8, 8, 8)), axis=0).astype(np.uint8) for _ in range(2)]
    return Feed([((each * np.int16(120) - 400).astype(np.int16), each) for each in labels], 8, 2, seed=0)


class Certain(nn.Module):
    """Says class 1 everywhere, with certainty."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros((len(x), 8, *x.shape[2:]))
        logits[:, 1] = 100
        return logits


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_the_measure_is_the_weighted_mean_dice_of_the_classes_that_are_there(
    scale: float, tiny_config: Configure
) -> None:
    """Two windows of 8 voxels: 4 of class 0, 12 of class 1, answered with 1: Dice 0 and 2·12/(16 + 12) = 6/7.

    Weights 3 and 1: the weighted mean is 6/7 / 4; the other six classes are not there.
    """
    trainer = made(tiny_config, scale * np.array([3.0, 1, 50, 50, 50, 50, 50, 50]))
    trainer.network = Certain()  # type: ignore[assignment]
    hu = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    first, second = torch.ones((2, 1, 2, 2, 2), dtype=torch.uint8)
    first[0, 0] = 0
    assert relative_loss(trainer, [Batch(hu, first), Batch(hu, second)]) == pytest.approx(-6 / 28)


def test_a_window_that_does_not_label_the_answer_counts_it_as_background(tiny_config: Configure) -> None:
    """As above, but the first window does not label class 1: its 8 voxels are background, answered with background.

    Class 0: 2·8/(8 + 8) = 1; class 1, the second window alone: 2·8/(8 + 8) = 1. The weighted mean is 1.
    """
    trainer = made(tiny_config, np.array([3.0, 1, 50, 50, 50, 50, 50, 50]))
    trainer.network = Certain()  # type: ignore[assignment]
    hu = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    background, second = torch.zeros((1, 2, 2, 2), dtype=torch.uint8), torch.ones((1, 2, 2, 2), dtype=torch.uint8)
    labelled = torch.tensor([[True, False, *[True] * 6]])
    windows = [Batch(hu, background, labelled=labelled), Batch(hu, second)]
    assert relative_loss(trainer, windows) == pytest.approx(-1)


def test_the_rates_rise_geometrically_and_are_adams(tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    original = Trainer.training_step

    def noted(self: Trainer, batch: Batch) -> StepResult:
        used.append(self.optimizer.param_groups[0]["lr"])
        return original(self, batch)

    monkeypatch.setattr(Trainer, "training_step", noted)
    trainer, source = made(tiny_config, np.ones(8)), feed()
    config = RateRangeConfig(lowest=1e-4, highest=1e-2, steps=21)
    told: list[Progress] = []
    rates, losses = range_test(trainer, source, [source.batch(1)], config, stop=Event(), progress=told.append)
    assert rates == used == pytest.approx([10 ** (-4 + k / 10) for k in range(21)])
    assert len(losses) == 21
    assert told == [Progress("range test", step, 21) for step in range(1, 22)]
    assert all(-1 <= loss <= 0 for loss in losses)


def test_a_useful_rate_lowers_the_loss_and_one_that_is_too_low_does_not(tiny_config: Configure) -> None:
    trainer, source = made(tiny_config, np.ones(8)), feed()
    config = RateRangeConfig(lowest=1e-7, highest=1e-1, steps=120)
    _, losses = range_test(trainer, source, [source.batch(1)], config, stop=Event())
    assert np.ptp(losses[:40]) < 0.02
    assert min(losses) < losses[0] - 0.1


def test_it_ends_where_a_number_is_not_finite(tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.training_step

    def failing(self: Trainer, batch: Batch) -> StepResult:
        result = original(self, batch)
        return result._replace(loss=math.nan) if self.step == 5 else result

    monkeypatch.setattr(Trainer, "training_step", failing)
    source = feed()
    rates, losses = range_test(
        made(tiny_config, np.ones(8)), source, [source.batch(1)], RateRangeConfig(steps=20), stop=Event()
    )
    assert len(rates) == len(losses) == 5


def test_it_stops_when_asked(tiny_config: Configure) -> None:
    stop, source = Event(), feed()
    with pytest.raises(InterruptedRunError, match="step 3 of a range test"):
        range_test(
            made(tiny_config, np.ones(8)),
            source,
            [source.batch(1)],
            RateRangeConfig(steps=20),
            stop=stop,
            progress=lambda at: stop.set() if at.done == 2 else None,
        )
