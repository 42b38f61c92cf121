"""The check of a device finds what is more than rounding, and only that."""

import dataclasses

import pytest
import torch

from benchmarks import gpu_equality
from benchmarks.gpu_equality import Trace, check_equality, check_loss, compare
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine import captured_step
from viscera.engine.feed import Batch, NetworkInput
from viscera.engine.hardware import fastest_convolutions
from viscera.engine.monitor import StepResult
from viscera.engine.trainer import Trainer
from viscera.losses.dice import WeightedDiceLoss

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Config:
    return resolve_config(file_values={"train": {"patch": 8, "batch_size": 2, "filters": 2, "levels": 2}})


def test_the_cpu_equals_the_cpu(tiny: Config) -> None:
    result = check_equality(tiny, CPU, steps=2)
    assert result["passed"]
    for part in ("losses", "gradient", "change"):
        for how in ("", ", recorded step"):
            found = result[part + how]
            assert 0 < found["relative_error"] == found["relative_error_of_cpu_float32"] < 0.1
    assert 0 < result["bfloat16"]["relative_error_of_loss"] < 0.02
    assert result["bfloat16"]["gradient_cosine"] > 0.9


@pytest.mark.parametrize("what", ["input", "update", "loss"])
def test_a_device_that_computes_something_else_is_found(
    what: str, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_input, original_step = Trainer.network_input, Trainer.training_step

    def network_input(self: Trainer, batch: Batch) -> NetworkInput:
        inputs = original_input(self, batch)
        return inputs._replace(x=inputs.x + (0.02 if self.device.index == 0 else 0))

    def training_step(self: Trainer, batch: Batch, *, diagnose: bool = False) -> StepResult:
        result = original_step(self, batch, diagnose=diagnose)
        if self.device.index != 0:
            return result
        if what == "update":
            with torch.no_grad():
                self.network.head.weight.mul_(1.2)
        return result._replace(loss=result.loss * 1.001) if what == "loss" else result

    if what == "input":
        monkeypatch.setattr(Trainer, "network_input", network_input)
    monkeypatch.setattr(Trainer, "training_step", training_step)
    result = check_equality(tiny, torch.device("cpu:0"), steps=2)
    assert not result["passed"]


def test_an_error_is_measured_against_the_cpus_own() -> None:
    """Reference 100: the CPU is off by 1e-6 of it; five times that is rounding, eleven times is not."""
    one = torch.tensor([100.0], dtype=torch.float64)
    reference, cpu = Trace(one, one, one), Trace(one + 1e-4, one + 1e-4, one + 1e-4)
    ours = dataclasses.replace(cpu, gradient=one + 5e-4, change=one - 11e-4)
    result = compare(ours, cpu, reference)
    assert [result[name]["passed"] for name in ("losses", "gradient", "change")] == [True, True, False]
    assert result["gradient"]["relative_error"] == pytest.approx(5e-6)
    assert compare(Trace(one + 9e-5, one, one), reference, reference)["losses"]["passed"]  # below the floor of 1e-6


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_loss_that_is_another_one_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(part["passed"] for part in check_loss(CPU, 8).values())
    original = WeightedDiceLoss.forward

    def forward(self: WeightedDiceLoss, logits: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        loss = original(self, logits, *more)
        return loss * 1.0001 if what == "value" else loss + 1e-2 * (logits[0, 0].sum() - logits[0, 0].detach().sum())

    monkeypatch.setattr(WeightedDiceLoss, "forward", forward)
    assert not any(part["passed"] for part in check_loss(CPU, 8).values())


def test_a_recorded_step_that_is_not_replayed_is_no_success(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(captured_step, "recorded", refused)
    result = check_equality(tiny, CPU, steps=2)
    assert not result["passed"]
    assert result["losses"]["passed"]
    assert not result["losses, recorded step"]["recording_worked"]


def test_the_settings_of_the_libraries_are_given_back() -> None:
    with fastest_convolutions(), gpu_equality.plain_float32():
        during = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    assert during == (True, False)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (False, True)
