"""The time of a step: what is counted, and that all ways to compute it are timed as training does it."""

import pytest
import torch

from benchmarks.gpu_equality import phantom_feed
from benchmarks.gpu_speed import count_flops, measure_peak, measure_speed
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Batch
from viscera.engine.monitor import StepResult
from viscera.engine.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Config:
    return resolve_config(file_values={"train": {"patch": 8, "batch_size": 2, "filters": 2, "levels": 2}})


def test_operations_are_those_of_the_convolutions_forward_and_backward(tiny: Config) -> None:
    """Two windows of 8³ voxels, half of that at the lower level; a multiplication and an addition count as two.

    Channels 1-2-4 above, 4-4-8 below, 8 up by 2³ kernels with stride 2, 12-4-4 above, 8 classes. The backward pass
    costs twice the forward pass, but for the first layer, whose input has no gradient.
    """
    above, below, up, merge, head = 2 + 2 * 4, 4 * 4 + 4 * 8, 8 * 8, 12 * 4 + 4 * 4, 4 * 8
    fine, coarse = 2 * 8**3, 2 * 4**3
    forward = 2 * (27 * fine * (above + merge) + 27 * coarse * below + 8 * coarse * up + fine * head)
    first = 2 * 27 * fine * 2
    assert count_flops(tiny, phantom_feed(tiny), CPU) == 3 * forward - first


def test_a_step_is_timed_plainly_and_recorded_in_both_layouts_with_the_fastest_convolutions(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = Trainer.training_step

    def counted(self: Trainer, batch: Batch) -> StepResult:
        contiguous = self.network.down[0][3].weight.is_contiguous()  # type: ignore[index]
        calls.append((batch.hu.shape, torch.backends.cudnn.benchmark, self.captured is not None, contiguous))
        return original(self, batch)

    monkeypatch.setattr(Trainer, "training_step", counted)
    found = measure_speed(tiny, CPU)
    ways = [(capture, first) for first in (False, True) for capture in (False, True)]
    assert calls[:100] == [((2, 8, 8, 8), True, *way) for way in ways for _ in range(25)]
    assert [step["recorded"] for step in found["steps"].values()] == [False, True, False, True]
    assert found["seconds_per_step"] == found["steps"]["plain, channels last"]["seconds"]
    share = found["flops_per_step"] / found["seconds_per_step"] / 1e12 / found["peak_tflops"]
    assert found["share_of_peak"] == pytest.approx(share)
    assert 0.5 < sum(kernel["share"] for kernel in found["kernels"]) <= 1


def test_the_peak_is_a_rate() -> None:
    assert 1e-4 < measure_peak(CPU) < 100
