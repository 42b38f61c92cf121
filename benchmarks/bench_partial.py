"""What it costs that some sub-volumes do not label every class: the masked loss against the plain one, and a step.

    python -m benchmarks.bench_partial [--quick]

Pairs run interleaved in one process on one thread; the ratio of medians is what counts.

Quick: the loss of windows of 32³, two repeats.
"""

from collections.abc import Callable

import torch

import viscera
from benchmarks.pairs import interleaved
from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record

_BATCH, _CLASSES = 3, 8


def loss_of(labelled: torch.Tensor | None, edge: int) -> Callable[[], None]:
    """Forward and backward pass of the loss alone, edge³, batch 3."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_BATCH, _CLASSES, edge, edge, edge, generator=generator, requires_grad=True)
    labels = torch.randint(0, _CLASSES, (_BATCH, edge, edge, edge), generator=generator)
    loss = viscera.WeightedDiceLoss([1.0] * _CLASSES)
    return lambda: loss(logits, labels, labelled).backward()


def step_of(labelled: torch.Tensor | None) -> Callable[[], None]:
    """A training step of the demo's U-Net: 24³, 8 filters, batch 3."""
    torch.manual_seed(0)
    network = viscera.UNet3D(1, _CLASSES, 8, 3).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    loss = viscera.WeightedDiceLoss([1.0] * _CLASSES)
    optimizer = torch.optim.Adam(network.parameters())
    x, labels = torch.rand(_BATCH, 1, 24, 24, 24), torch.randint(0, _CLASSES, (_BATCH, 24, 24, 24))

    def step() -> None:
        optimizer.zero_grad()
        loss(network(x), labels, labelled).backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure and record."""
    quick = is_quick(__doc__)
    torch.set_num_threads(1)
    edge, repeats = (32, 2) if quick else (64, 7)
    labelled = torch.ones(_BATCH, _CLASSES, dtype=torch.bool)
    labelled[0, 3] = False
    record(
        "partial",
        {
            "loss_partly_over_fully_labelled": interleaved(loss_of(labelled, edge), loss_of(None, edge), repeats),
            "step_partly_over_fully_labelled": interleaved(step_of(labelled), step_of(None), repeats),
        },
        folder=None if quick else RESULTS,
    )


if __name__ == "__main__":
    main()
