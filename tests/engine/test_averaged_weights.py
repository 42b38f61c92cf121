"""The moving average of the weights: TensorFlow's formula, PyTorch's average, and what is done with it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.same_checkpoints import same_state, stopped_and_resumed
from viscera.core.config import Config
from viscera.engine.averaged_weights import AveragedWeights, decay_at
from viscera.engine.feed import cases_of, feed_of
from viscera.engine.monitor import Monitor
from viscera.engine.predictor import Predictor
from viscera.engine.trained_model import build_network
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]
DECAY = 0.6
CPU = torch.device("cpu")


def test_the_decay_is_tensorflows_with_num_updates() -> None:
    # min(decay, (1 + num_updates) / (10 + num_updates)): 2/11, 3/12, and 0.6 from t = 12.5 on
    assert [decay_at(step, DECAY) for step in (1, 2, 13, 1000)] == pytest.approx([2 / 11, 3 / 12, 0.6, 0.6])


def test_by_hand_from_the_first_step_on() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedWeights(network, DECAY)
    found = []
    for step, value in enumerate((1.0, 2.0), start=1):
        nn.init.constant_(network.weight, value)
        average.update(network, step)
        found.append(average.network.weight.item())
    assert found == pytest.approx([9 / 11, 0.25 * 9 / 11 + 0.75 * 2])


def test_with_a_constant_decay_it_is_pytorchs_average() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))  # type: ignore[no-untyped-call]
    theirs.update_parameters(network)  # the first is copied
    ours = AveragedWeights(network, DECAY)
    for step in range(20, 25):
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        ours.update(network, step)
        theirs.update_parameters(network)
    pairs = zip(ours.network.parameters(), theirs.module.parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs)


@pytest.mark.parametrize("batch_norm", ["recomputed", "running"])
def test_a_run_holds_both_and_trains_as_without(
    batch_norm: str, tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average is computed here again, from the weights after each step."""
    original, expected = Trainer.training_step, dict[str, Tensor]()

    def noted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if not expected:
            expected.update({name: each.detach().clone() for name, each in self.network.named_parameters()})
        result = original(self, *args, **kwargs)
        kept = min(DECAY, (2 + self.step) / (11 + self.step))  # of step 1, whose number is 0 before it
        for name, each in self.network.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * each.detach()
        return result

    plain = train(tiny_store.path, tmp_path / "plain", tiny_config(batch_norm=batch_norm))
    monkeypatch.setattr(Trainer, "training_step", noted)
    run = train(tiny_store.path, tmp_path / "r", tiny_config(average=DECAY, batch_norm=batch_norm))
    found, without = load_checkpoint(run.last), load_checkpoint(plain.last)
    assert found.average.keys() == found.model.keys() == without.model.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found.average[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(found.model[name], without.model[name])
    if batch_norm == "running":
        buffers = found.model.keys() - expected.keys()
        assert all(torch.equal(found.average[name], found.model[name]) for name in buffers)
    assert without.average == {}
    assert "average" not in torch.load(plain.last, weights_only=True)


def test_what_is_monitored_and_validated_is_the_average(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = tiny_config(average=0.9, learning_rate=0.05, iterations=12, precision="float32")
    run = train(tiny_store.path, tmp_path / "r", config)
    checkpoint, line = load_checkpoint(run.last), run.read_curve()[-1]
    monitor = Monitor.create(
        feed_of(tiny_store, config.train), cases_of(tiny_store, "validation")[0], config.train, config.predict, CPU
    )
    found = {}
    for name, state in {"average": checkpoint.average, "model": checkpoint.model}.items():
        network = build_network(config.train, len(checkpoint.classes))
        network.load_state_dict(state)
        if name == "model":
            monitor.batch_statistics_dice(network, keep=True)
        found[name] = monitor.training_dice(network), monitor.validation_dice(network)
    assert found["average"] == (line["dice"], line["validation_dice"])
    assert found["model"] != found["average"]


def test_what_is_predicted_with_is_the_average(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(average=DECAY, learning_rate=0.05))
    checkpoint, volume = load_checkpoint(run.last), tiny_store.volume(tiny_store.names("test")[0])
    found = {}
    for name, state in {"as it is": None, "average": checkpoint.average, "model": checkpoint.model}.items():
        copied = RunFolder(Path(shutil.copytree(run.path, tmp_path / name)))
        if state is not None:
            save_checkpoint(copied.last, replace(checkpoint, model=state, average={}))
        (model,) = Predictor.load(copied.path).models.values()
        assert model.checkpoint.average == {}  # which is no longer needed
        change = model.change_for(volume.geometry)
        found[name] = torch.stack(list(model.probabilities(np.asarray(volume.hu), change)))
    assert torch.equal(found["as it is"], found["average"])
    assert not torch.equal(found["as it is"], found["model"])


@pytest.mark.parametrize("batch_norm", ["recomputed", "running"])
def test_stopped_and_trained_on_both_are_the_same_to_the_bit(
    batch_norm: str, tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = tiny_config(average=DECAY, batch_norm=batch_norm, iterations=9)
    whole = train(tiny_store.path, tmp_path / "whole", config)
    run = stopped_and_resumed(tiny_store.path, tmp_path / "r", config, after=5)
    assert same_state(whole.last, run.last)
    assert same_state(whole.best, run.best)
    pair = [[{**line, "seconds": 0} for line in each.read_curve()] for each in (whole, run)]
    assert pair[0] == pair[1]
