"""`train.deterministic`: nothing is decided by timing or by what else the machine does, and what cannot be is named."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.same_checkpoints import same_state
from viscera.core.config import Config
from viscera.engine import hardware, precision_probe
from viscera.engine.feed import Batch
from viscera.engine.hardware import the_same_bits
from viscera.engine.monitor import StepResult
from viscera.engine.precision_probe import FEWEST_ITERATIONS, decided
from viscera.engine.trainer import Trainer
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]


def not_deterministic() -> None:
    torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))  # which of them comes last is left open


def test_a_training_computes_so_and_names_what_does_not_once(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    step, enabled = Trainer.training_step, list[bool]()

    def with_more(self: Trainer, batch: Batch, *, diagnose: bool = False) -> StepResult:
        enabled.append(torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark)
        if self.step > 2:
            not_deterministic()
        return step(self, batch, diagnose=diagnose)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", with_more)
        run = train(tiny_store.path, tmp_path / "r", tiny_config(deterministic=True))
    assert all(enabled)
    assert not torch.are_deterministic_algorithms_enabled()
    (named,) = (each for each in caplog.messages if "deterministic" in each)  # and nothing of the training itself
    assert named.startswith("put_ has no deterministic implementation on this device")
    assert same_state(run.last, tiny_run / "last.pt")  # on a CPU it is computed as ever


def warn_of_another() -> None:
    with the_same_bits():
        warnings.warn("another", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("said", "name"),
    [  # by PyTorch 2.11, aten/src/ATen/Context.cpp, on a GPU
        (
            "upsample_trilinear3d_backward_out_cuda does not have a deterministic implementation, but you set …",
            "upsample_trilinear3d_backward_out_cuda",
        ),
        (
            "Deterministic behavior was enabled with …, but this operation is not because it uses CuBLAS …",
            "CuBLAS",
        ),
    ],
)
def test_what_a_gpu_says_is_named_once(said: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with the_same_bits():
        for _ in range(3):
            warnings.warn(said, UserWarning, stacklevel=1)
    assert [each.partition(" has no deterministic implementation")[0] for each in caplog.messages] == [name]


def test_the_gradient_of_pooling_that_does_not_overlap_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    with the_same_bits():
        warnings.warn(
            "max_pool3d_with_indices_backward_cuda does not have a deterministic implementation, but you set …",
            UserWarning,
            stacklevel=1,
        )
    assert caplog.messages == []


def test_nothing_is_chosen_by_timing_where_it_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with the_same_bits():
        assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark


def test_other_warnings_are_shown_and_settings_are_as_before() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.warns(UserWarning, match="another"):
            warn_of_another()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]


def test_nothing_is_timed(tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(_probe: object) -> None:
        raise AssertionError

    monkeypatch.setattr(precision_probe, "_timed", timed)
    monkeypatch.setattr(precision_probe, "computes_bfloat16", lambda _: True)
    train_settings = tiny_config(iterations=FEWEST_ITERATIONS, precision="auto", deterministic=True).train
    found = decided(train_settings, 8, torch.device("cpu"))
    assert (found.precision, found.memory_layout) == ("float32", "channels_last")


def test_as_many_threads_whatever_else_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(hardware, "free_processors", lambda: 1)
    monkeypatch.setattr(hardware, "usable_processors", lambda: {0, 1, 2})
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    hardware.choose_threads(deterministic=True)
    hardware.choose_threads()
    hardware.choose_threads(2, deterministic=True)  # a training that goes on
    assert chosen == [3, 1, 2]
