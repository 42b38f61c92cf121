"""The training loop: one step against plain PyTorch, and what a checkpoint restores."""

import copy
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from viscera.core.config import AugmentConfig, Config
from viscera.core.progress import Progress, unseen
from viscera.engine.feed import Batch, Feed, TrainingFacts
from viscera.engine.monitor import Monitor
from viscera.engine.trainer import Trainer
from viscera.imaging.augment import augment
from viscera.io.runlog import RunFolder
from viscera.losses.balance import WeightSchedule

Configure = Callable[..., Config]
CPU = torch.device("cpu")
WEIGHTS = np.linspace(0.5, 2, 8)
FACTS = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS, WEIGHTS), ((1.0, 1.0, 1.0),) * 3)


def feed(patch: int = 8) -> Feed:
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-500, 500, (9, 10, 8)).astype(np.int16), random.integers(0, 8, (9, 10, 8)).astype(np.uint8))
        for _ in range(3)
    ]
    return Feed(cases, patch, 2, seed=0)


def test_a_step_is_adam_on_the_weighted_dice_loss(tiny_config: Configure) -> None:
    """Eq. 2 and 6 written out, and torch's own Adam, on a copy of the network."""
    config = tiny_config()
    config = config.model_copy(
        update={
            "train": config.train.model_copy(
                update={"adam": config.train.adam.model_copy(update={"epsilon_place": "pytorch"})}
            )
        }
    )
    trainer, twin = (Trainer.create(config, FACTS, CPU) for _ in range(2))
    batch = feed().batch(1)
    value, soft_dice_L, *_ = trainer.training_step(batch)

    x = ((batch.hu.float() + 500) / 1000).clamp(0, 1)[:, None]
    p = torch.softmax(twin.network(x), dim=1)
    r = torch.nn.functional.one_hot(batch.labels.long(), 8).movedim(-1, 1)
    dice_L = 2 * (p * r).sum(dim=(0, 2, 3, 4)) / (p.sum(dim=(0, 2, 3, 4)) + r.sum(dim=(0, 2, 3, 4)))
    loss = -(torch.from_numpy(WEIGHTS).float() * dice_L).mean()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(soft_dice_L, dice_L.detach(), atol=1e-5)
    adam = torch.optim.Adam(twin.network.parameters(), lr=config.train.learning_rate, eps=1e-8)
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()
    for mine, theirs in zip(trainer.network.parameters(), twin.network.parameters(), strict=True):
        assert theirs.grad is not None
        steered = theirs.grad.abs() > 1e-5  # Adam turns the rounding of a gradient that is 0 into a whole step
        assert torch.allclose(mine[steered], theirs[steered], rtol=0, atol=1e-5)
    assert not torch.equal(trainer.network.head.weight, Trainer.create(config, FACTS, CPU).network.head.weight)


def test_a_step_with_augmentation_is_a_step_on_the_augmented_windows(tiny_config: Configure) -> None:
    trainer, twin, other = (Trainer.create(tiny_config(), FACTS, CPU) for _ in range(3))
    plain = feed()
    batch = Feed(plain.cases, 8, 2, 0, AugmentConfig(enabled=True, rotation_probability=1)).batch(1)
    hu, labels = augment(batch.hu, batch.labels, batch.augmentations, 8)
    loss = trainer.training_step(batch).loss
    assert loss == twin.training_step(Batch(hu, labels))[0]
    assert torch.equal(trainer.network.head.weight, twin.network.head.weight)
    assert loss != other.training_step(plain.batch(1))[0]


def test_the_initial_weights_depend_on_the_seed_alone_and_leave_torchs_generator(tiny_config: Configure) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = Trainer.create(tiny_config(), FACTS, CPU).network.state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = Trainer.create(tiny_config(weighting="square"), FACTS, CPU).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = Trainer.create(tiny_config(seed=1), FACTS, CPU).network.state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_checkpoint_restores_everything_that_the_next_step_needs(tiny_config: Configure) -> None:
    trainer = Trainer.create(tiny_config(), FACTS, CPU)
    for step in (1, 2):
        trainer.training_step(feed().batch(step))
        trainer.step = step
    fresh = Trainer.create(tiny_config(seed=8), FACTS, CPU)
    fresh.restore(copy.deepcopy(trainer.checkpoint()))
    assert fresh.step == 2
    assert trainer.training_step(feed().batch(3))[0] == fresh.training_step(feed().batch(3))[0]
    for mine, theirs in zip(trainer.network.parameters(), fresh.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_tells_how_far_it_is_and_lowers_the_loss(tmp_path: Path, tiny_config: Configure) -> None:
    config = tiny_config(iterations=60, learning_rate=0.02, log_every=20, checkpoint_every=30)
    trainer = Trainer.create(config, FACTS, CPU)
    random = np.random.default_rng(0)
    labels = [np.sort(random.integers(0, 8, (8, 8, 8)), axis=0).astype(np.uint8) for _ in range(2)]
    easy = Feed([((each * np.int16(120) - 400).astype(np.int16), each) for each in labels], 8, 2, seed=0)
    monitor = Monitor.create(easy, [], config.train, config.predict, CPU)
    told: list[Progress] = []
    trainer.run(easy, monitor, RunFolder(tmp_path), Event(), told.append)
    assert [(at.done, at.total) for at in told] == [(step, 60) for step in range(1, 61)]
    losses = [float(at.detail.split()[1]) for at in told]  # loss -0.5  20 steps/s
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1


@pytest.mark.parametrize("batch_norm", ["recomputed", "running"])
def test_a_logged_step_passes_the_fixed_windows_twice(tiny_config: Configure, tmp_path: Path, batch_norm: str) -> None:
    """Once by the statistics of each batch, which gives those that are kept as well, and once by the kept ones."""
    config = tiny_config(iterations=1, log_every=1, batch_norm=batch_norm, diagnose=False)
    trainer = Trainer.create(config, FACTS, CPU)
    monitor = Monitor.create(feed(), [], config.train, config.predict, CPU)
    passes: list[bool] = []
    trainer.network.register_forward_hook(lambda network, *_: passes.append(network.training))
    trainer.run(feed(), monitor, RunFolder(tmp_path), Event(), unseen)
    batches = len(monitor.windows)
    assert passes == [True] + [True] * batches + [False] * batches
