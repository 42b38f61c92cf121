"""What an all-reduce between two processes of this machine costs, by its size: latency, and bytes a second.

    python -m benchmarks.bench_links [--quick]

Two processes that `torchrun` starts, gloo, one thread each, as `viscera train` talks between ranks. A call of b bytes
between two takes 2 latencies and b over the bandwidth, as a ring does; the median of sizes up to 4 KiB gives the
former, that of the largest the latter. `docs/scale.md` holds its model against `benchmarks.bench_ranks` by these.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.pairs import Benchmark

SIZES = tuple(4**n for n in range(1, 14))  # bytes, 4 to 64 MiB
SMALL, LARGE = 2**12, 2**20
REPEATS = {False: 200, True: 7}  # whether it is large


def measure(out: Path) -> None:
    """In each of two processes; the first one writes seconds a call, by bytes."""
    from viscera.engine.distributed import joined  # noqa: PLC0415 - after OMP_NUM_THREADS

    found: dict[int, list[float]] = {}
    with joined("cpu") as (ranks, _):
        for size in SIZES:
            numbers = torch.zeros(size // 4)
            ranks.add_up(numbers)
            seconds = []
            for _ in range(REPEATS[size >= LARGE]):
                started = time.perf_counter()
                ranks.add_up(numbers)
                seconds.append(time.perf_counter() - started)
            found[size] = seconds
    if ranks.is_first:
        out.write_text(json.dumps(found))


def main() -> None:
    """Measure and record."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    benchmark = Benchmark.of_command_line("links", __doc__)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*torchrun, "-m", "benchmarks.bench_links", "--measure", out], check=True)
        found = {int(size): seconds for size, seconds in json.loads(out.read_text()).items()}
    medians = {size: statistics.median(seconds) for size, seconds in found.items()}
    latency_s = statistics.median(seconds for size, seconds in medians.items() if size <= SMALL) / 2
    largest = max(medians)
    benchmark.notes |= {
        "latency_s": latency_s,
        "bytes_per_s": largest / (medians[largest] - 2 * latency_s),
        "median_s_by_bytes": medians,
    }
    benchmark.write()


if __name__ == "__main__":
    main()
