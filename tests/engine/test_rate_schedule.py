"""The rate of each step: PyTorch's schedulers, nnU-Net's formula, and runs that are trained on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from tests.same_checkpoints import same_state, stopped_and_resumed
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config
from viscera.engine.optimiser import learning_rate_at, mean_learning_rate
from viscera.engine.precision_probe import as_before, decided
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]
STEPS, WARM_UP, RATE = 40, 7, 0.02
SGD = torch.optim.SGD


def settings(**schedule: Any) -> TrainConfig:
    return resolve_config(
        file_values={"train": {"iterations": STEPS, "learning_rate": RATE, "rate_schedule": schedule}}
    ).train


def rates(config: TrainConfig, steps: int = STEPS) -> list[float]:
    return [learning_rate_at(step, config) for step in range(1, steps + 1)]


def of_pytorch(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> Iterator[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(optimizer)
    for _ in range(STEPS):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


def test_by_default_it_is_the_learning_rate_to_the_bit() -> None:
    assert rates(TrainConfig(learning_rate=0.1 + 0.2), 5) == [0.1 + 0.2] * 5


def test_polynomial_is_pytorchs_and_nnunets() -> None:
    found = rates(settings(shape="polynomial"))
    assert found == pytest.approx(list(of_pytorch(lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=0.9))))
    # nnunetv2/training/lr_scheduler/polylr.py: initial_lr * (1 - current_step / max_steps) ** exponent, from 0 on
    assert found == pytest.approx([RATE * (1 - step / STEPS) ** 0.9 for step in range(STEPS)], rel=1e-12)


def test_cosine_is_pytorchs() -> None:
    for lowest in (0.0, 0.1):
        found = rates(settings(shape="cosine", lowest=lowest))
        theirs = of_pytorch(lambda o, lowest=lowest: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=lowest * RATE))  # type: ignore[misc]
        assert found == pytest.approx(list(theirs), rel=1e-9)


def test_a_warm_up_rises_linearly_before_the_schedule_as_pytorchs_in_sequence() -> None:
    def theirs(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rising = lr_scheduler.LinearLR(optimizer, 1 / (WARM_UP + 1), total_iters=WARM_UP)
        falling = lr_scheduler.CosineAnnealingLR(optimizer, STEPS - WARM_UP)
        return lr_scheduler.SequentialLR(optimizer, [rising, falling], [WARM_UP])

    found = rates(settings(shape="cosine", warm_up=WARM_UP))
    assert found == pytest.approx(list(of_pytorch(theirs)), rel=1e-9)
    assert found[WARM_UP] == max(found) == RATE
    assert rates(settings(warm_up=3), 5) == pytest.approx([RATE / 4, RATE / 2, RATE * 3 / 4, RATE, RATE])


def test_worked_by_hand() -> None:
    # half of 4 steps after a warm-up of 2: power 2 leaves (1/2)² of the way from 1 to 0.2: 0.2 + 0.8/4 = 0.4
    config = settings(shape="polynomial", warm_up=2, power=2, lowest=0.2, steps=6)
    assert learning_rate_at(5, config) == pytest.approx(0.4 * RATE)
    assert rates(config, 9)[6:] == pytest.approx([0.2 * RATE] * 3)  # beyond the span
    assert mean_learning_rate(config) == pytest.approx(np.mean(rates(config)))


@pytest.mark.parametrize(
    "schedule", [{"warm_up": STEPS}, {"shape": "cosine", "warm_up": 9, "steps": 9}, {"warm_up": 50, "steps": 10}]
)
def test_a_span_that_ends_within_the_warm_up_is_refused(schedule: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=r"rate_schedule.warm_up is \d+ steps of a span of \d+ \(train"):
        settings(**schedule)


def test_the_span_is_decided_as_a_training_begins() -> None:
    cpu = torch.device("cpu")
    began = decided(settings(shape="cosine", warm_up=2), 8, cpu)
    assert began.rate_schedule.steps == STEPS
    longer = settings(shape="cosine", warm_up=2).model_copy(update={"iterations": 100})
    assert as_before(longer, began).rate_schedule.steps == STEPS
    given = settings(shape="cosine", warm_up=2, steps=30)
    assert decided(given, 8, cpu).rate_schedule == as_before(given, began).rate_schedule == given.rate_schedule
    assert decided(settings(warm_up=2), 8, cpu).rate_schedule.steps is None  # a constant rate has no end


def test_a_run_that_is_stopped_and_trained_on_has_its_rates_to_the_bit(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = {"shape": "polynomial", "warm_up": 2}
    config = tiny_config(iterations=6, log_every=1, rate_schedule=schedule)
    whole = train(tiny_store.path, tmp_path / "whole", config)
    run = stopped_and_resumed(tiny_store.path, tmp_path / "r", config, after=3)
    assert same_state(whole.last, run.last)
    logged = [line["learning_rate"] for line in run.read_curve()]
    assert logged == rates(config.train, 6)
    assert "falls to 0" not in caplog.text
    longer = tiny_config(iterations=8, log_every=1, rate_schedule=schedule)
    train(tiny_store.path, run.path, longer, resume=True)
    assert read_config(run.config_path).train.rate_schedule.steps == 6
    assert [line["learning_rate"] for line in run.read_curve()] == [*logged, 0.0, 0.0]
    assert "falls to 0 at step 6" in caplog.text
    with pytest.raises(BadInputError, match=r"trained with rate_schedule\.shape polynomial"):
        train(tiny_store.path, run.path, tiny_config(iterations=8), resume=True)


def test_a_longer_run_of_the_same_span_is_the_extended_one(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    schedule = {"shape": "cosine", "lowest": 0.1}
    train(tiny_store.path, tmp_path / "r", tiny_config(iterations=4, rate_schedule=schedule))
    run = train(tiny_store.path, tmp_path / "r", tiny_config(iterations=6, rate_schedule=schedule), resume=True)
    at_once = tiny_config(iterations=6, rate_schedule={**schedule, "steps": 4})
    assert same_state(train(tiny_store.path, tmp_path / "whole", at_once).last, run.last)


def test_it_changes_the_training(tiny_store: Store, tmp_path: Path, tiny_config: Configure, tiny_run: Path) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(rate_schedule={"shape": "cosine"}))
    assert not same_state(run.last, RunFolder(tiny_run).last)
