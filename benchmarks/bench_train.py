"""One optimiser step of the paper's network on the paper's batch: ours beside plain PyTorch with MONAI's loss.

    python -m benchmarks.bench_train [--quick]

Of both sides the network is the same, the paper's 3D U-Net (64³, batch of 3, 32 filters, 4 levels, 8 classes):
MONAI has none like it, and another one would be other work. The peer is what one would write by hand: that network
in PyTorch's default memory layout, `monai.losses.DiceLoss`, `torch.optim.Adam`. It is given its input as float32; ours
is given HU, as `viscera train` is, and takes the precision and layout that `train.precision: auto` chooses.

- `train_vs_monai_default`: against float32, PyTorch's default.
- `train_vs_monai_best`: against the fastest of the settings that a user can switch on (bfloat16 autocast where the
  processor has it, channels-last weights, Adam's fused kernel).

Two threads for both. Quick: 24³, batch of 2, 16 filters.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.losses import DiceLoss

import viscera
from benchmarks.pairs import Benchmark
from viscera.core.config import Config, LossConfig
from viscera.core.resolve import resolve_config
from viscera.engine.distributed import ALONE, Ranks
from viscera.engine.feed import Batch, TrainingFacts
from viscera.engine.hardware import computes_bfloat16
from viscera.engine.precision_probe import decided
from viscera.engine.trainer import Trainer
from viscera.losses.balance import WeightSchedule

CLASSES = 8
BEST: dict[str, dict[str, Any]] = {
    "bfloat16 autocast": {"bfloat16": True},
    "bfloat16 autocast, channels-last weights": {"bfloat16": True, "channels_last": True},
    "bfloat16 autocast, channels-last weights, Adam(fused=True)": {
        "bfloat16": True,
        "channels_last": True,
        "fused": True,
    },
    "float32, channels-last weights": {"channels_last": True},
    "float32, channels-last weights, Adam(fused=True)": {"channels_last": True, "fused": True},
}


def our_step(config: Config, device: torch.device, ranks: Ranks = ALONE) -> Callable[[], object]:
    """The step of `viscera train`, of this rank."""
    train, own = config.train, ranks.own(config.train.batch_size)
    shape = (own.stop - own.start, train.patch, train.patch, train.patch)
    random = np.random.default_rng(0)
    hu = torch.from_numpy(random.integers(-1000, 1000, shape, dtype=np.int16)).to(device)
    labels = torch.from_numpy(random.integers(0, CLASSES, shape, dtype=np.uint8)).to(device)
    counts = np.full(CLASSES, 1000)
    facts = TrainingFacts(torch.from_numpy(counts), WeightSchedule.of(counts, "uniform", LossConfig(), 3), ())
    trainer = Trainer.create(config, facts, device, ranks)
    batch = Batch(hu, labels)
    return lambda: trainer.training_step(batch)


def step_of(  # noqa: PLR0913 - sizes, and what a user can switch on
    patch: int,
    filters: int,
    levels: int,
    *,
    bfloat16: bool = False,
    channels_last: bool = False,
    fused: bool = False,
    batch_size: int = 3,
    device: torch.device | None = None,
) -> Callable[[], object]:
    """The step that one writes with PyTorch and MONAI."""
    device = device or torch.device("cpu")
    torch.manual_seed(0)
    network = viscera.UNet3D(1, CLASSES, filters, levels).to(device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    shape = (batch_size, 1, patch, patch, patch)
    x, labels = torch.rand(shape, device=device), torch.randint(0, CLASSES, shape, device=device)
    loss = DiceLoss(to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True if fused else None)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            value = loss(network(x), labels)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("train", __doc__, peers=["monai"], threads=2)
    sizes = {"patch": 24, "batch_size": 2, "filters": 16} if benchmark.quick else {}
    config = resolve_config(file_values={"train": sizes})
    train = decided(config.train, CLASSES, benchmark.device)
    config = config.model_copy(update={"train": train})
    ours = our_step(config, benchmark.device)
    chosen = {"ours_settings": f"{train.precision}, {train.memory_layout}", "patch": train.patch}
    how: dict[str, Any] = {"batch_size": train.batch_size, "device": benchmark.device}
    plain = step_of(train.patch, train.filters, train.levels, **how)
    settings = {
        name: step_of(train.patch, train.filters, train.levels, **given, **how)
        for name, given in BEST.items()
        if given.get("bfloat16", False) == computes_bfloat16(benchmark.device)
    }
    goal = 1.9 if train.precision == "bfloat16" else 1.1
    repeats = 3
    benchmark.time("train_vs_monai_default", ours, plain, goal=goal, peer_settings="float32", repeats=repeats, **chosen)
    benchmark.time("train_vs_monai_best", ours, settings, goal=1.0, peer_settings="", repeats=repeats, **chosen)
    benchmark.write()


if __name__ == "__main__":
    main()
