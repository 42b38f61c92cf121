"""Networks that differ from the paper's, trained, watched, kept, timed and applied."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.network_designs import DESIGNS
from tests.noise_feed import feed
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.network_config import NetworkConfig
from viscera.core.progress import unseen
from viscera.engine.feed import TrainingFacts
from viscera.engine.monitor import Monitor
from viscera.engine.precision_probe import _Probe
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trained_model import Model, build_network
from viscera.engine.trainer import Trainer
from viscera.imaging.windows import network_input
from viscera.io.runlog import RunFolder
from viscera.losses.balance import WeightSchedule
from viscera.networks.dropout import kept_channels
from viscera.networks.folded_unet3d import FoldedUNet3D

Configure = Callable[..., Config]
CPU = torch.device("cpu")
WEIGHTS = np.linspace(0.5, 2, 8)
FACTS = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS, WEIGHTS), ((1.0, 1.0, 1.0),) * 3)
PAPERS_KEY = "patch 8, batch_size 2, filters 2, levels 3, num_classes 8, device cpu"
NOT_BATCH = ("instance", "group", "residual instance")


def trained(config: Config, folder: Path) -> Trainer:
    """To the end, in a folder."""
    trainer = Trainer.create(config, FACTS, CPU)
    monitor = Monitor.create(feed(), [], config.train, config.predict, CPU)
    trainer.run(feed(), monitor, RunFolder(folder), Event(), unseen)
    return trainer


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(2).integers(-600, 600, shape).astype(np.int16)


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_a_run_goes_on_to_the_bit_and_is_loaded_as_the_network_that_was_trained(
    design: Mapping[str, Any], tiny_config: Configure, tmp_path: Path
) -> None:
    config = tiny_config(levels=3, iterations=5, log_every=2, checkpoint_every=3, network=design)
    whole = trained(config, tmp_path)
    short = trained(config.model_copy(update={"train": config.train.model_copy(update={"iterations": 3})}), tmp_path)
    again = Trainer.create(config, FACTS, CPU)
    again.restore(replace(short.checkpoint(), config=config))
    monitor = Monitor.create(feed(), [], config.train, config.predict, CPU)
    again.run(feed(), monitor, RunFolder(tmp_path), Event(), unseen)
    ends, starts = again.network.state_dict(), short.network.state_dict()
    assert all(torch.equal(value, ends[name]) for name, value in whole.network.state_dict().items())
    assert not torch.equal(ends["head.weight"], starts["head.weight"])
    loaded = Model.load(RunFolder(tmp_path).last).network
    x = torch.rand(2, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.allclose(loaded(x), whole.network.eval()(x), atol=1e-4)


@pytest.mark.parametrize("name", NOT_BATCH)
def test_without_batch_normalisation_scans_are_seen_in_windows_as_in_training(
    name: str, tiny_config: Configure, tmp_path: Path
) -> None:
    """Of one window's size: the softmax of the network in training; beyond it, what sub_volumes gives."""
    config = tiny_config(iterations=1, network=DESIGNS[name])
    network = trained(config, tmp_path).network
    model = Model.load(RunFolder(tmp_path).last)

    def found(shape: tuple[int, int, int], mode: Any) -> torch.Tensor:
        return predict_probabilities(model.network, noise(shape), config.train, PredictConfig(mode=mode), CPU)

    x = network_input(torch.from_numpy(noise((8, 8, 8)))[None], config.train.intensity)
    with torch.no_grad():
        expected = torch.softmax(network.train()(x)[0], dim=0)
    assert torch.allclose(found((8, 8, 8), "auto"), expected, atol=1e-6)
    assert torch.equal(found((11, 9, 17), "auto"), found((11, 9, 17), "sub_volumes"))
    assert not torch.allclose(found((11, 9, 17), "auto"), found((11, 9, 17), "whole_volume"), atol=1e-3)


def test_whole_volumes_without_batch_normalisation_are_warned_of(
    tiny_config: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tiny_config(iterations=1, network=DESIGNS["instance"]), tmp_path)
    Model.load(RunFolder(tmp_path).last, PredictConfig(mode="auto"))
    assert "sub_volumes predicts in sub-volumes of that size" not in caplog.text
    Model.load(RunFolder(tmp_path).last, PredictConfig(mode="whole_volume"))
    assert "instance normalisation sees the whole volume, and saw patches of 8 voxels" in caplog.text


@pytest.mark.parametrize("name", NOT_BATCH)
def test_without_batch_normalisation_there_are_no_statistics_to_recompute_and_none_to_warn_of(
    name: str, tiny_config: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passes: list[int] = []
    config = tiny_config(iterations=1, log_every=1, diagnose=False, network=DESIGNS[name])
    monitor = Monitor.create(feed(), [], config.train, config.predict, CPU)
    trainer = Trainer.create(config, FACTS, CPU)
    trainer.network.register_forward_hook(lambda *_: passes.append(1))
    trainer.run(feed(), monitor, RunFolder(tmp_path), Event(), unseen)
    (line,) = RunFolder(tmp_path).read_curve()
    assert line["dice_batch_statistics"] == {}
    assert len(passes) == 1 + len(monitor.windows)  # the step, and Dice of the network as it is applied
    assert not caplog.records


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_the_probe_times_and_remembers_the_network_that_is_trained(
    design: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TrainConfig.model_validate({"patch": 8, "batch_size": 2, "filters": 2, "levels": 3, "network": design})
    built: list[nn.Module] = []
    create = Trainer.create

    def watched(config: Config, *rest: Any) -> Trainer:
        built.append(build_network(config.train))
        return create(config, *rest)

    monkeypatch.setattr(Trainer, "create", watched)
    probe = _Probe(8, 2, 2, 3, 8, "cpu", train.network)
    probe.step("float32", "channels_last")()
    expected = {name: value.shape for name, value in build_network(train).state_dict().items()}
    assert {name: value.shape for name, value in built[0].state_dict().items()} == expected
    assert probe.key().startswith(PAPERS_KEY)
    assert all(f", {name} " in probe.key() for name in design)


def test_each_network_is_timed_for_itself_and_the_papers_as_it_was_remembered() -> None:
    sizes = 8, 2, 2, 3, 8, "cpu"
    keys = {name: _Probe(*sizes, NetworkConfig(**design)).key() for name, design in DESIGNS.items()}
    assert len(set(keys.values())) == len(DESIGNS)
    assert keys["paper"] == _Probe(*sizes).key() == PAPERS_KEY


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_in_bfloat16_a_step_is_that_of_float32_but_for_rounding(
    design: Mapping[str, Any], tiny_config: Configure
) -> None:
    how = {"levels": 3, "network": design}
    losses = {
        precision: float(Trainer.create(tiny_config(precision=precision, **how), FACTS, CPU).training_step(batch).loss)
        for precision in ("float32", "bfloat16")
        for batch in [feed().batch(1)]
    }
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)
    assert losses["bfloat16"] != losses["float32"]


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_in_bfloat16_probabilities_are_those_of_float32_but_for_rounding(
    design: Mapping[str, Any], tiny_config: Configure
) -> None:
    """As `Model.load` arranges it; the processor need not have instructions for it."""
    config = tiny_config(levels=3, network=design)
    trained_network = Trainer.create(config, FACTS, CPU).network.eval()
    found = {}
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        folded = config.train.network.normalises_batches
        network = FoldedUNet3D(trained_network, dtype).eval() if folded else trained_network
        train = config.train.model_copy(update={"precision": precision})
        found[precision] = predict_probabilities(network, noise((13, 9, 22)), train, PredictConfig(), CPU)
    assert 0 < float((found["bfloat16"] - found["float32"]).abs().mean()) < 0.02


def test_batch_normalisation_is_folded_and_others_are_applied_as_they_are(
    tiny_config: Configure, tmp_path: Path
) -> None:
    for name, folded in (("paper", True), ("instance", False), ("group", False), ("residual", True)):
        trained(tiny_config(iterations=1, network=DESIGNS[name]), tmp_path / name)
        assert isinstance(Model.load(RunFolder(tmp_path / name).last).network, FoldedUNet3D) == folded


def test_deep_supervision_is_the_weighted_mean_of_eq_6_over_the_levels(tiny_config: Configure) -> None:
    """Four levels: 4/7 of Eq. 6 at 8³ voxels, 2/7 at 4³, 1/7 at 2³, written out on a copy of the network."""
    config = tiny_config(levels=4, batch_size=2, network={"deep_supervision": True})
    trainer, twin = (Trainer.create(config, FACTS, CPU) for _ in range(2))
    batch = feed().batch(1)
    found = trainer.training_step(batch, diagnose=True)
    x = network_input(batch.hu, config.train.intensity)
    expected, finest = torch.zeros(()), None
    for level, (logits, share) in enumerate(zip(twin.network.logits_of_levels(x), (4 / 7, 2 / 7, 1 / 7), strict=True)):
        p = torch.softmax(logits, dim=1)
        every, first = 2**level, 2**level // 2  # the second of two voxels, the third of four
        labels = batch.labels[:, first::every, first::every, first::every].long()
        r = torch.nn.functional.one_hot(labels, 8).movedim(-1, 1)
        axes = (0, 2, 3, 4)
        dice_L = 2 * (p * r).sum(dim=axes) / (p.sum(dim=axes) + r.sum(dim=axes)) * (r.sum(dim=axes) > 0)
        expected = expected - share * (torch.from_numpy(WEIGHTS).float() * dice_L).mean()
        finest = dice_L if level == 0 else finest
    assert found.loss == pytest.approx(expected.item(), rel=1e-5)
    assert finest is not None
    assert torch.allclose(found.soft_dice, finest.detach(), atol=1e-5)  # that of the finest level is logged
    assert all(parameter.grad is not None for parameter in trainer.network.parameters())


def test_dropout_is_that_of_the_step_and_none_is_left_where_the_network_is_watched(tiny_config: Configure) -> None:
    config = tiny_config(network={"dropout": 0.5})
    batch, x = feed().batch(1), network_input(feed().batch(1).hu, config.train.intensity)

    def loss_of(step: int, **more: Any) -> float:
        trainer = Trainer.create(tiny_config(**more), FACTS, CPU)
        trainer.step = step
        return float(trainer.training_step(batch).loss)

    dropped = {"network": {"dropout": 0.5}}
    assert loss_of(1, **dropped) == loss_of(1, **dropped)
    assert len({loss_of(0), loss_of(1, **dropped), loss_of(2, **dropped)}) == 3
    twin = Trainer.create(config, FACTS, CPU)
    logits = twin.network(x, kept_channels(0.5, 8, (config.train.seed, 2), slice(0, 2)))
    assert loss_of(1, **dropped) == pytest.approx(twin.loss(logits, batch.labels).item(), rel=1e-6)
    monitor = Monitor.create(feed(), [], config.train, config.predict, CPU)
    plain = Trainer.create(tiny_config(), FACTS, CPU)
    for each in (twin, plain):
        each.network.load_state_dict(plain.network.state_dict())
    state = torch.get_rng_state()
    dice = [monitor.batch_statistics_dice(each.network, keep=False) for each in (twin, plain)]
    assert dice[0] == dice[1]
    twin.training_step(batch, diagnose=True)
    assert torch.equal(torch.get_rng_state(), state)  # which a loop of one's own draws from
