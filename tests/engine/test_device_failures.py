"""A device that runs out of memory, or stops answering: less at a time, or one sentence and what was done is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.command_line import refused, run
from tests.same_checkpoints import same_state
from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import LostDeviceError, RunFailedError, case_error
from viscera.core.geometry import Index3
from viscera.engine import forward_pass, sliding_window, trainer
from viscera.engine.monitor import Monitor
from viscera.engine.predictor import Predictor
from viscera.engine.sliding_window import predict_probabilities, probability_planes
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.stages.train import train
from viscera.study import launch

Configure = Callable[..., Config]
CPU = torch.device("cpu")
TRAIN = TrainConfig(patch=16, levels=2, filters=4)
HU = np.random.default_rng(1).integers(-400, 400, (40, 33, 50)).astype(np.int16)
LOST = "CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"


class Small(nn.Module):
    """Logits that depend on the voxel alone, of as many windows and voxels as it has memory for."""

    def __init__(self, most: Callable[[int, int], bool]) -> None:
        super().__init__()
        self.most = most  # of windows, and of their voxels
        self.seen: list[Index3] = []
        self.fails = True

    def forward(self, x: Tensor) -> Tensor:
        if self.fails and not self.most(x.shape[0], x.numel()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append((x.shape[0], x.numel(), len(self.seen)))
        return torch.cat([x * label for label in range(8)], dim=1)


def whole(hu: np.ndarray = HU) -> Tensor:
    return predict_probabilities(Small(lambda _, __: True), hu, TRAIN, PredictConfig(mode="whole_volume"), CPU)


def test_windows_are_computed_fewer_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    network = Small(lambda windows, _: windows < 3)
    found = predict_probabilities(network, HU, TRAIN, PredictConfig(mode="sub_volumes", batch_windows=8), CPU)
    assert {windows for windows, _, _ in network.seen} == {2}
    assert torch.allclose(found, whole(), atol=1e-6)
    assert caplog.messages == [
        "Out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): predicting with 4 sub-volumes at a time.",
        "Out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): predicting with 2 sub-volumes at a time.",
    ]


@pytest.mark.parametrize("most", [16**3, 20_000, 40_000])
def test_large_windows_become_smaller(most: int, caplog: pytest.LogCaptureFixture) -> None:
    network = Small(lambda _, voxels: voxels <= most)
    found = predict_probabilities(network, HU, TRAIN, PredictConfig(), CPU)
    assert torch.allclose(found, whole(), atol=1e-6)
    assert max(voxels for _, voxels, _ in network.seen) <= most
    assert all("predicting in smaller sub-volumes, of " in message for message in caplog.messages)
    assert 1 <= len(caplog.messages) <= 4


def test_in_the_middle_of_a_scan_each_plane_is_given_once() -> None:
    free = iter([True, True, True])  # a cube of air and two windows; then somebody else takes the memory

    def most(_windows: int, voxels: int) -> bool:
        return next(free, False) or voxels <= 16**3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliding_window, "MOST_BYTES", 2 * 2**20)
        planes = list(probability_planes(Small(most), HU, TRAIN, PredictConfig(), CPU))
    assert len(planes) == HU.shape[2]
    assert torch.allclose(torch.stack(planes, dim=-1), whole(), atol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "sub_volumes", "whole_volume"])
def test_where_nothing_fits_the_sentence_says_what_to_do(mode: str) -> None:
    settings = PredictConfig.model_validate({"mode": mode})
    with pytest.raises(torch.OutOfMemoryError):
        predict_probabilities(Small(lambda _, voxels: voxels <= 8**3), HU, TRAIN, settings, CPU)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError("Unable to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.98 GB)"),
    ],
)
def test_any_allocation_that_fails_is_out_of_memory(error: Exception) -> None:
    explained = case_error("case", error)
    assert type(explained) is RunFailedError
    assert "out of memory" in str(explained)


@pytest.fixture
def of_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has a network, in prediction or training, fail after some calls as on a GPU that is lost."""

    def lose(after: int) -> None:
        calls: list[int] = []

        def failing(original: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                calls.append(1)
                if len(calls) > after:
                    raise RuntimeError(LOST)
                return original(*args, **kwargs)

            return call

        monkeypatch.setattr(FoldedUNet3D, "forward", failing(FoldedUNet3D.forward))
        monkeypatch.setattr(trainer, "forward_pass", failing(forward_pass.forward_pass))

    return lose


def test_a_gpu_that_is_lost_ends_the_prediction_and_keeps_what_is_done(
    tiny_run: Path, tiny_raw: Path, tmp_path: Path, of_gpu: Callable[[int], None]
) -> None:
    of_gpu(3)  # a cube of air and one window for each scan
    said = refused(4, "predict", tiny_run, tiny_raw / "imagesTr", tmp_path / "out")
    assert "the GPU failed or is lost (CUDA error: unspecified launch failure)" in said
    assert "run the same command again" in said
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["case_0.nii.gz"]
    assert (tmp_path / "out" / "measurements.csv").exists()
    assert not (tmp_path / "out" / "quarantine.csv").exists()  # no scan is to blame


def test_a_gpu_that_is_lost_in_training_leaves_the_last_checkpoint(
    tiny_store: Store,
    tiny_run: Path,
    tmp_path: Path,
    tiny_config: Configure,
    of_gpu: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_gpu(5)
    said = r"launch failure\)\. The checkpoint of step 4 is kept\. Continue with --resume"
    with pytest.raises(LostDeviceError, match=said):
        train(tiny_store.path, tmp_path / "r", tiny_config())
    folder = RunFolder(tmp_path / "r")
    status = folder.read_status()
    assert load_checkpoint(folder.last).step == 4
    assert status is not None
    assert status.state == "interrupted"  # not failed: a study goes on with it
    monkeypatch.undo()
    train(tiny_store.path, folder.path, tiny_config(), resume=True)
    assert same_state(folder.last, tiny_run / "last.pt")


def test_out_of_memory_while_a_training_is_measured_is_a_sentence(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Monitor, "validation_dice", greedy)
    with pytest.raises(RunFailedError, match=r"out of memory \(CUDA out of memory\.\)"):
        train(tiny_store.path, tmp_path / "r", tiny_config())


def test_out_of_memory_while_a_model_is_loaded_is_a_sentence(
    tiny_run: Path, tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore")

    monkeypatch.setattr(Predictor, "load", greedy)
    said = refused(4, "predict", tiny_run, tiny_raw / "imagesTr", tmp_path / "out")
    assert said.startswith("viscera: predict: out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.)")


def test_a_lost_gpu_ends_a_study_with_the_code_of_failed_runs(
    tiny_store: Store, tmp_path: Path, of_gpu: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start_pool", lambda *_: None)
    of_gpu(9)
    small = ["--patch=8", "--batch-size=2", "--filters=2", "--iterations=6", "--device=cpu"]
    small += ["--set", "train.levels=2", "--set", "train.monitor_windows=2", "--set", "train.checkpoint_every=2"]
    arms = ["--weightings=uniform,square", "--learning-rates=0.001"]
    result = run("study", tiny_store.path, tmp_path / "s", *small, *arms)
    assert result.exit_code == 4
    assert "the GPU failed or is lost" in result.stderr
    assert "Traceback" not in result.stderr
