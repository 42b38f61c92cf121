"""The loss alone, forward and backward: ours beside MONAI's DiceLoss, at logits of 3x8x64³ and 1x8x128³.

    python -m benchmarks.bench_loss [--quick] [--device cuda]

- `loss_time_vs_monai_TYPE_SIZE`: seconds, for float32 and bfloat16 logits. Of MONAI, `DiceLoss` as it comes, and under
  `torch.compile` (not in a quick run: it takes half a minute to compile).
- `loss_memory_vs_monai_TYPE_SIZE`: bytes that forward and backward pass add at their peak beyond logits, labels and the
  gradient of the logits. On a CPU the peak of the resident memory (`VmHWM` of Linux, reset before), each side in a
  process of its own, after a pass over 8³ voxels, so that loading the kernels does not count; on a GPU the peak of
  PyTorch's allocator. Of MONAI the least of the same settings.

The plain names are the worst of their kind. Labels are uint8, of which MONAI is fastest.
"""

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor

import viscera
from benchmarks.pairs import Benchmark

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSES = 8
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {"64": (3, CLASSES, 64, 64, 64), "128": (1, CLASSES, 128, 128, 128)}
PEER = "DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0)"


def ours(device: torch.device) -> Loss:
    """As a training has it: on a GPU it does not wait for a look at the labels."""
    return viscera.WeightedDiceLoss([1.0] * CLASSES, check_labels=device.type == "cpu").to(device)


def monai(_device: torch.device) -> Loss:
    """As it comes."""
    loss: Loss = DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0)
    return loss


def compiled_monai(device: torch.device) -> Loss:
    """Its operations joined by torch.compile."""
    loss: Loss = torch.compile(monai(device))
    return loss


def inputs(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits that want a gradient, and labels with an axis of channels, as MONAI has them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
    labels = torch.randint(0, CLASSES, (shape[0], 1, *shape[2:]), generator=generator, dtype=torch.uint8)
    return logits, labels.to(device)


def passes(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    """Forward and backward."""
    logits.grad = None
    loss(logits, labels).backward()  # type: ignore[no-untyped-call]


def added_bytes(make: Callable[[torch.device], Loss], size: str, kind: str, device: torch.device) -> int:
    """At the peak, beyond logits, labels and gradient."""
    if device.type == "cpu":
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(_added_resident_bytes, (make, size, kind))
    loss, (logits, labels) = make(device), inputs(SHAPES[size], TYPES[kind], device)
    passes(loss, logits, labels)
    logits.grad = None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    passes(loss, logits, labels)
    return max(torch.cuda.max_memory_allocated(device) - before - logits.nbytes, 1)


def _added_resident_bytes(make: Callable[[torch.device], Loss], size: str, kind: str) -> int:
    device = torch.device("cpu")
    shape = SHAPES[size]
    loss = make(device)
    if make is compiled_monai:  # for this shape; what is freed goes back to the system, as these tensors are large
        passes(loss, *inputs(shape, TYPES[kind], device))
    passes(ours(device) if make is ours else monai(device), *inputs((*shape[:2], 8, 8, 8), TYPES[kind], device))
    logits, labels = inputs(shape, TYPES[kind], device)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    passes(loss, logits, labels)
    return max(resident_bytes("VmHWM") - before - logits.nbytes, os.sysconf("SC_PAGE_SIZE"))


def resident_bytes(name: str) -> int:
    """`VmRSS`, the resident memory of this process, or `VmHWM`, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("loss", __doc__, peers=["monai"])
    device, gpu = benchmark.device, benchmark.device.type == "cuda"
    makers = {PEER: monai} if benchmark.quick else {PEER: monai, f"torch.compile({PEER})": compiled_monai}
    kinds = [(kind, size) for kind in TYPES for size in SHAPES]
    for kind, size in kinds:  # before anything computes here: a process that is forked later has half of its threads
        added = {settings: added_bytes(make, size, kind, device) for settings, make in makers.items()}
        best = min(added, key=lambda settings: added[settings])
        mine = added_bytes(ours, size, kind, device)
        name, goal = f"loss_memory_vs_monai_{kind}_{size}", 3 if gpu else 2
        how: dict[str, Any] = {"peer_settings": best, "settings_of_the_peer": added}
        benchmark.pair(name, mine, added[best], goal=goal, unit="bytes", **how)
    for kind, size in kinds:
        tensors = inputs(SHAPES[size], TYPES[kind], device)
        runs = {settings: partial(passes, make(device), *tensors) for settings, make in makers.items()}
        name, goal = f"loss_time_vs_monai_{kind}_{size}", 3 if gpu else 1
        benchmark.time(name, partial(passes, ours(device), *tensors), runs, goal=goal, peer_settings=PEER)
    for name in ("loss_time_vs_monai", "loss_memory_vs_monai"):
        benchmark.worst(name)
    benchmark.write()


if __name__ == "__main__":
    main()
