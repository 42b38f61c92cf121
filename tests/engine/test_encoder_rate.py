"""A rate of its own for the way down: worked by hand on SGD; at 0 its weights stay, and the run goes on to the bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.same_checkpoints import same_state
from viscera.core.config import Config, TrainConfig
from viscera.engine.optimiser import make_optimiser, set_rate
from viscera.engine.trained_model import build_network
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]


class UpAndDown(nn.Module):
    """A network of one number on each way, both 1."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ParameterList([nn.Parameter(torch.ones(()))])
        self.up = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_step_of_the_way_down_is_so_much_shorter(name: str) -> None:
    settings = TrainConfig.model_validate({"optimiser": {"name": name, "encoder_rate": 0.25, "momentum": 0}})
    network = UpAndDown()
    optimizer = make_optimiser(network, settings)
    set_rate(optimizer, 0.5)
    for each in network.parameters():
        each.grad = torch.tensor(0.2)
    optimizer.step()
    # SGD: 0.5 · 0.2 and a quarter of it; the first step of Adam is the rate itself, but for epsilon
    step = 0.1 if name == "sgd" else 0.5
    assert 1 - network.up.item() == pytest.approx(step, rel=1e-4)
    assert 1 - network.down[0].item() == pytest.approx(step / 4, rel=1e-4)


def test_a_way_down_that_stays(tiny_store: Store, tiny_run: Path, tiny_config: Configure, tmp_path: Path) -> None:
    still = {"encoder_rate": 0}
    two, four = (tiny_config(iterations=number, optimiser=still) for number in (2, 4))
    whole = train(tiny_store.path, tmp_path / "whole", four, init_from=tiny_run)
    train(tiny_store.path, tmp_path / "parts", two, init_from=tiny_run)
    parts = train(tiny_store.path, tmp_path / "parts", four, resume=True)
    before, now = load_checkpoint(RunFolder(tiny_run).last), load_checkpoint(whole.last)
    weights = dict(build_network(now.config.train, len(now.classes)).named_parameters())
    moved = {name for name in weights if not torch.equal(before.model[name], now.model[name])}
    assert moved == {name for name in weights if not name.startswith("down.")}
    assert same_state(whole.last, parts.last)
    assert {"gradient_share", "dice"} <= whole.read_curve()[-1].keys()
