"""A training step and a prediction with large pages of memory, and without: each in a process of its own, in turn.

    python -m benchmarks.bench_pages [--quick]

PyTorch asks for large pages where `THP_MEM_ALLOC_ENABLE` is 1, which the command `viscera` sets; where the system gives
none, both are alike. The step is of a window of 64³ and 16 filters, the prediction of 128×128×96 voxels, in bfloat16
where the processor has it. Two threads. Quick: 32³.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.bench_train import our_step
from benchmarks.pairs import Benchmark
from viscera.core.config import Config, TrainConfig
from viscera.engine.hardware import Precision, computes_bfloat16, number_format
from viscera.engine.trained_model import build_network
from viscera.networks.folded_unet3d import FoldedUNet3D

WHAT = ("step", "prediction")
PAGES = {"with": "1", "without": "0"}
CPU = torch.device("cpu")


def seconds_here(what: str, patch: int) -> float:
    """Median of three, after one warm-up."""
    torch.set_num_threads(2)
    precision: Precision = "bfloat16" if computes_bfloat16(CPU) else "float32"
    train = TrainConfig(patch=patch, batch_size=1, filters=16).model_copy(
        update={"precision": precision, "memory_layout": "channels_last"}
    )
    if what == "step":
        run = our_step(Config(train=train), CPU)
    else:
        network = FoldedUNet3D(build_network(train).eval(), number_format(CPU, precision))
        scan = torch.rand(1, 1, 2 * patch, 2 * patch, 3 * patch // 2)

        def run() -> object:
            with torch.no_grad():
                return network(scan)

    run()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def seconds_in_a_process(what: str, patch: int, pages: str) -> float:
    """The same in a new process, with large pages ("1") or without ("0")."""
    command = [sys.executable, "-m", "benchmarks.bench_pages", "--seconds-of", what, "--patch", str(patch)]
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": pages}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and record; or, as the child of such a run, print one figure."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seconds-of", choices=WHAT)
    parser.add_argument("--patch", type=int)
    given, _ = parser.parse_known_args()
    if given.seconds_of:
        print(seconds_here(given.seconds_of, given.patch))
        return
    benchmark = Benchmark.of_command_line("pages", __doc__, threads=2)
    patch, repeats = (32, 1) if benchmark.quick else (64, 4)
    for what in WHAT:
        found: dict[str, list[float]] = {name: [] for name in PAGES}
        for _ in range(repeats):
            for name, pages in PAGES.items():
                found[name].append(seconds_in_a_process(what, patch, pages))
        medians = [statistics.median(found[name]) for name in PAGES]
        settings = "THP_MEM_ALLOC_ENABLE=0, PyTorch's default"
        benchmark.pair(f"large_pages_{what}", *medians, goal=1, unit="s", peer_settings=settings, repeats=found)
    benchmark.write()


if __name__ == "__main__":
    main()
