"""One training step: channels-last weights against PyTorch's default layout; our loss against MONAI's DiceLoss.

    python -m benchmarks.bench_train

Pairs run interleaved in one process on one thread; the ratio of medians is what counts.
"""

from collections.abc import Callable
from typing import Any

import torch

import viscera
from benchmarks.pairs import interleaved
from benchmarks.record import record


def step_of(patch: int, filters: int, levels: int, *, channels_last: bool) -> Callable[[], None]:
    """A training step of the U-Net on a batch of three."""
    torch.manual_seed(0)
    network = viscera.UNet3D(1, 8, filters, levels)
    if channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    loss = viscera.WeightedDiceLoss([1.0] * 8)
    optimizer = torch.optim.Adam(network.parameters())
    x, labels = torch.rand(3, 1, patch, patch, patch), torch.randint(0, 8, (3, patch, patch, patch))

    def step() -> None:
        optimizer.zero_grad()
        loss(network(x), labels).backward()
        optimizer.step()

    return step


def losses() -> dict[str, Any]:
    """Forward and backward pass of the loss alone, 64³, batch 3."""
    from monai.losses import DiceLoss  # noqa: PLC0415 - 15 s to import

    logits = torch.randn(3, 8, 64, 64, 64, requires_grad=True)
    labels = torch.randint(0, 8, (3, 1, 64, 64, 64))
    ours = viscera.WeightedDiceLoss([1.0] * 8)
    monai_loss = DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0)
    return interleaved(lambda: ours(logits, labels).backward(), lambda: monai_loss(logits, labels).backward())


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    record(
        "train",
        {
            f"step_patch_{patch}_filters_{filters}_channels_last_over_default": interleaved(
                step_of(patch, filters, levels, channels_last=True),
                step_of(patch, filters, levels, channels_last=False),
            )
            for patch, filters, levels in ((24, 8, 3), (32, 32, 4))
        }
        | {"loss_ours_over_monai": losses()},
    )


if __name__ == "__main__":
    main()
