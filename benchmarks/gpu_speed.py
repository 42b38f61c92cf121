"""How long a training step takes on a device, what it could take at most, and where the time goes.

The bar is the share of the device's own bfloat16 peak, the rate of a large matrix product measured in the same process,
that a step reaches: its floating-point operations, counted by PyTorch, over its time.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_equality import facts_of, phantom_feed, with_train
from viscera.core.config import Config
from viscera.engine.feed import Feed
from viscera.engine.hardware import fastest_convolutions, peak_memory_mib
from viscera.engine.trainer import Trainer

SHARE_OF_PEAK = 0.35  # aimed at
_WARM_UP, _TIMED, _PROFILED = 5, 20, 3
_MATRIX = {"cuda": 8192}  # edge; elsewhere small
_KERNELS = 12
_LAYOUTS = ("channels_last", "channels_first")


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of one call, on average over several in a row; a GPU is waited for."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    wait()
    return (time.perf_counter() - started) / repeats


def measure_peak(device: torch.device) -> float:
    """TFLOP/s of a product of two large bfloat16 matrices of random numbers."""
    edge = _MATRIX.get(device.type, 512)
    a, b = (torch.randn(edge, edge, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds_of(lambda: a @ b, device, 3)
    return float(2 * edge**3 / seconds_of(lambda: a @ b, device, 10) / 1e12)


def count_flops(config: Config, feed: Feed, device: torch.device) -> int:
    """Floating-point operations of forward and backward pass of a step; Adam's are not counted."""
    trainer = Trainer.create(config, facts_of(feed, config), device)
    with FlopCounterMode(display=False) as counter:
        trainer.forward(trainer.network_input(feed.batch(1))).loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def measure_speed(config: Config, device: torch.device) -> dict[str, Any]:
    """Seconds of a step at full size with the training set on the device: plain and recorded, in both layouts.

    `seconds_per_step` is the one that training takes: recorded on a GPU where that works. With the peak, the share of
    it, the memory of the plain step and of the recorded one, and the kernels that take longest.
    """
    feed = phantom_feed(config).loaded(device)
    flops, peak = count_flops(config, feed, device), measure_peak(device)
    steps: dict[str, dict[str, Any]] = {}
    with fastest_convolutions():
        for layout in _LAYOUTS:
            for capture in ("never", "always"):
                found = _timed(with_train(config, capture=capture, memory_layout=layout), feed, device)
                name = f"{'recorded' if capture == 'always' else 'plain'}, {layout.replace('_', ' ')}"
                steps[name] = found | {"share_of_peak": flops / found["seconds"] / 1e12 / peak}
        kernels = _kernels(config, feed, device)
    own = steps["recorded, channels last" if device.type == "cuda" else "plain, channels last"]
    return {
        "seconds_per_step": own["seconds"],
        "flops_per_step": flops,
        "peak_tflops": peak,
        "share_of_peak": own["share_of_peak"],
        "aim": SHARE_OF_PEAK,
        "steps": steps,
        "kernels": kernels,
    }


def _timed(config: Config, feed: Feed, device: torch.device) -> dict[str, Any]:
    trainer = Trainer.create(config, facts_of(feed, config), device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        trainer.step += 1
        trainer.training_step(feed.batch(trainer.step))

    seconds_of(step, device, _WARM_UP)
    seconds = seconds_of(step, device, _TIMED)
    worked = trainer.captured is not None and not trainer.captured.failed
    return {"seconds": seconds, "recorded": worked, "peak_memory_mib": peak_memory_mib(device)}


def _kernels(config: Config, feed: Feed, device: torch.device) -> list[dict[str, Any]]:
    """The kernels (on a CPU the operations) of a plain step that take most of its time, with their share."""
    trainer = Trainer.create(with_train(config, capture="never"), facts_of(feed, config), device)
    trainer.training_step(feed.batch(1))
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU], acc_events=True) as profiler:
        seconds_of(lambda: trainer.training_step(feed.batch(2)), device, _PROFILED)
    rows = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in profiler.key_averages()
    ]
    total = sum(row[0] for row in rows) or 1
    longest = sorted(rows, reverse=True)[:_KERNELS]
    return [{"share": round(t / total, 4), "per_step": n // _PROFILED, "kernel": key[:120]} for t, n, key in longest]
