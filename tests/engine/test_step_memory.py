"""Memory of a training: predicted against measured, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.engine import step_memory as step_memory_module
from viscera.engine.precision_probe import decided
from viscera.engine.step_memory import refuse_too_large, step_memory

ROOT, CPU = Path(__file__).parents[2], torch.device("cpu")
FACTOR = 1.3  # either way, as docs/howto/planning.md says
PLAIN = TrainConfig(patch=48, batch_size=2, filters=8, levels=3, precision="float32")
MEASURE = """
import sys
import torch
from viscera.core.config import TrainConfig
from viscera.core.machine_limits import peak_memory
from viscera.engine.noise_training import trainer_on_noise

torch.set_num_threads(1)
trainer, batch = trainer_on_noise(TrainConfig.model_validate_json(sys.argv[1]), 8, torch.device("cpu"))
for _ in range(2):
    trainer.training_step(batch)
print(peak_memory())
"""


def test_it_grows_with_voxels_windows_and_what_is_kept_for_each_weight() -> None:
    found = step_memory(PLAIN, 8, CPU)
    fixed = found.of_the_process + found.of_the_weights
    twice = found.of(PLAIN.model_copy(update={"batch_size": 4})) - fixed
    assert twice == pytest.approx(2 * (found.of(PLAIN) - fixed))
    halved = found.of(PLAIN.model_copy(update={"patch": 24})) - fixed
    assert halved == pytest.approx((found.of(PLAIN) - fixed) / 8)
    assert found.windows_within(found.of(PLAIN) + 1, 48) == 2
    assert found.windows_within(fixed, 48) == 0
    # weights, gradient and two moments; with an average one more, with SGD's momentum alone one less
    averaged = step_memory(PLAIN.model_copy(update={"average": 0.9}), 8, CPU).of_the_weights
    momentum = PLAIN.optimiser.model_copy(update={"name": "sgd"})
    sgd = step_memory(PLAIN.model_copy(update={"optimiser": momentum}), 8, CPU).of_the_weights
    assert averaged / found.of_the_weights == pytest.approx(5 / 4)
    assert sgd / found.of_the_weights == pytest.approx(3 / 4)


def test_what_is_kept_is_what_the_layers_hand_on() -> None:
    """Two levels of 2 filters by hand, in numbers of a voxel of the top level; a lower voxel is an eighth of one.

    Inputs of the convolutions, with each rectified map once: 1 + 2 + 4 at the top, (4 + 4 + 8) / 8 below; on the way up
    8 / 8 before the up-convolution, 8 + 4 side by side, 4 and 4 of the two convolutions. Batch normalisation keeps what
    it is given: 2 + 4, (4 + 8) / 8, 4 + 4. The loss keeps 8 logits. Max-pooling keeps places of 4 / 8, 64 bits each.
    """
    train = PLAIN.model_copy(update={"filters": 2, "levels": 2})
    kept = (1 + 2 + 4) + (4 + 4 + 8) / 8 + (8 + 4) + 4 + 4 + (2 + 4) + (4 + 8) / 8 + (4 + 4) + 8
    found = step_memory(train, 8, CPU).of_a_voxel / 1.35
    assert found == pytest.approx(4 * kept + 8 * 4 / 8 + 1, rel=0.05)  # labels are bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bfloat16", "filters": 16},
        {"network": {"normalisation": "instance", "encoder": "residual", "deep_supervision": True}},
        {"network": {"strides": [[2, 2, 1], [2, 2, 2]], "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3]]}},
        {"loss": {"cross_entropy": 1.0}, "average": 0.99},
    ],
)
def test_a_training_takes_what_was_predicted(settings: dict[str, Any]) -> None:
    train = TrainConfig.model_validate(PLAIN.model_dump(exclude_defaults=True) | settings)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, train.model_dump_json()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    ratio = step_memory(train, 8, CPU).of(train) / float(done.stdout)
    assert 1 / FACTOR < ratio < FACTOR


def test_what_the_machine_cannot_hold_is_refused_before_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_memory_module, "machine_memory", lambda: 2.0 * 2**30)
    with pytest.raises(
        BadInputError, match=r"takes about [\d.]+ GiB of memory, and this machine has 2 GiB. Lower --patch \(200\)"
    ):
        decided(PLAIN.model_copy(update={"patch": 200, "iterations": 10_000}), 8, CPU)


def test_what_is_not_free_now_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(step_memory_module, "machine_memory", lambda: 64.0 * 2**30)
    monkeypatch.setattr(step_memory_module, "free_memory", lambda _: 1.0 * 2**30)
    refuse_too_large(PLAIN.model_copy(update={"patch": 288}), 8, CPU)
    assert "GiB of memory, of which 1 GiB are free now. Lower --patch (288)" in caplog.text
    caplog.clear()
    refuse_too_large(PLAIN, 8, CPU)  # small: not even counted
    monkeypatch.setenv("WORLD_SIZE", "4")
    refuse_too_large(PLAIN.model_copy(update={"patch": 288}), 8, CPU)
    assert not caplog.text
