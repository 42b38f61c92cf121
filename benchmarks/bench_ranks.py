"""One model in two processes of one thread each beside one process of two threads: the paper's training step.

    python -m benchmarks.bench_ranks [--quick]

The step of `viscera train` (64³, 32 filters, 4 levels, 8 classes; precision and layout as `auto` chooses them for one
process), started as `torchrun` starts it, the two ways in turn. A batch of four windows is shared evenly; of the
paper's three one process has two, so that 1.5 windows for each processor become 2: there 0.75 is best.

- `ranks_step_even`, `ranks_step_paper`: seconds a step of one process over those of two; the goal is 1.
- `allreduce`: what the two say to each other a step: calls, bytes, and seconds of the same calls alone, when neither
  has anything else to do, as a share of the step (the goal is 0.02). Waiting for a slower process is not in it.

Quick: 24³, 16 filters.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from benchmarks.bench_train import our_step
from benchmarks.pairs import Benchmark
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine.precision_probe import decided

BATCHES = {"even": 4, "paper": 3}
STEPS, ROUNDS = 3, 3  # after one that is not counted


def steps(config: Config, out: Path) -> None:
    """In a process of its own: seconds a step, and what the all-reduces say, into a file of the first rank."""
    from viscera.engine.distributed import joined  # noqa: PLC0415 - after OMP_NUM_THREADS

    sizes: list[int] = []
    with joined("cpu") as (ranks, _):
        said = dist.all_reduce

        def noted(numbers: torch.Tensor, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as PyTorch's
            sizes.append(numbers.numel() * numbers.element_size())
            return said(numbers, *rest, **more)

        step = our_step(config, torch.device("cpu"), ranks)
        step()
        seconds = []
        with mock.patch.object(dist, "all_reduce", noted):
            for _ in range(STEPS):
                started = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - started)
        one_step = sizes[: len(sizes) // STEPS]
        alone = [torch.zeros(max(1, size // 4)) for size in one_step]
        talking = []
        for _ in range(STEPS + 1):
            ranks.gathered(None)
            started = time.perf_counter()
            for numbers in alone:
                ranks.add_up(numbers)
            talking.append(time.perf_counter() - started)
    if ranks.is_first:
        found = {"step_s": seconds, "talking_s": talking[1:], "calls": len(one_step), "bytes": sum(one_step)}
        out.write_text(json.dumps(found))


def run(processes: int, config: Config, folder: Path) -> dict[str, Any]:
    """Start so many processes with the two processors between them, and wait for them."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    given, out = folder / "config.json", folder / "out.json"
    given.write_text(config.model_dump_json())
    started = []
    for rank in range(processes):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        variables["OMP_NUM_THREADS"] = 2 // processes
        environment = (
            os.environ | {name: str(value) for name, value in variables.items()} | {"MASTER_ADDR": "127.0.0.1"}
        )
        command = [sys.executable, "-m", "benchmarks.bench_ranks", "--steps", str(given), str(out)]
        started.append(subprocess.Popen(command, env=environment))
    if any(list(map(subprocess.Popen.wait, started))):
        raise RuntimeError("a process of the benchmark failed")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def main() -> None:
    """Measure and record."""
    if sys.argv[1:2] == ["--steps"]:
        steps(Config.model_validate_json(Path(sys.argv[2]).read_text()), Path(sys.argv[3]))
        return
    benchmark = Benchmark.of_command_line("ranks", __doc__, threads=2)
    sizes = {"patch": 24, "filters": 16} if benchmark.quick else {}
    train = decided(resolve_config(file_values={"train": sizes}).train, 8, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        for name, windows in BATCHES.items():
            config = Config(train=train.model_copy(update={"batch_size": windows}))
            both: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
            for _ in range(1 if benchmark.quick else ROUNDS):
                for processes, runs in both.items():
                    runs.append(run(processes, config, Path(folder)))
            one, two = (statistics.median(chain.from_iterable(each["step_s"] for each in both[n])) for n in (1, 2))
            notes = {"windows": windows, "precision": train.precision, "patch": train.patch}
            benchmark.pair(
                f"ranks_step_{name}", two, one, goal=1, unit="s", peer_settings="one process of two threads", **notes
            )
            said = both[2][-1]
            talking_s = statistics.median(said["talking_s"])
            figures = {"calls": said["calls"], "bytes": said["bytes"], "seconds": talking_s, "share": talking_s / two}
            benchmark.notes[f"allreduce_{name}"] = {"goal": 0.02, **figures}
            print(f"allreduce {name}: {figures}")
    benchmark.write()


if __name__ == "__main__":
    main()
