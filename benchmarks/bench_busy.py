"""A training beside another busy process: threads chosen by what is free, asleep while they wait, or all, spinning.

    python -m benchmarks.bench_busy [--quick]

Both as `viscera train` in a process of its own, in turn; seconds of the clock and of all processors together.

Quick: 5 steps instead of 20, once.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from viscera.core.config import PrepareConfig
from viscera.io.runlog import RunFolder
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare

REPEATS, STEPS, QUICK_STEPS = 2, 20, 5
PROCESSORS = len(os.sched_getaffinity(0))
SETTINGS = {  # KMP_BLOCKTIME says nothing to GNU's OpenMP, but keeps the command from choosing how threads wait
    "all_spinning": {"OMP_NUM_THREADS": str(PROCESSORS), "KMP_BLOCKTIME": "200"},
    "chosen_asleep": {},
}


def training(store: Path, run: Path, settings: dict[str, str], options: tuple[str, ...]) -> tuple[float, float, int]:
    """Seconds of the clock, of the processors, and the threads that it had."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "viscera.cli", "train", str(store), str(run), *options]
    subprocess.run(command, env=clean | settings, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    status = RunFolder(run).read_status()
    return round(wall, 2), round(cpu, 2), status.threads if status else 0


def main() -> None:
    """Measure and write `results/busy.json`."""
    quick = is_quick(__doc__)
    steps = str(QUICK_STEPS if quick else STEPS)
    options = ("--preset", "demo", "--iterations", steps, "--device", "cpu", "--quiet")
    found: dict[str, dict[str, list[float]]] = {name: {"wall_s": [], "cpu_s": [], "threads": []} for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        raw, store = Path(folder) / "raw", Path(folder) / "store"
        make_phantoms(raw, 4, shape=(48, 36, 36))
        prepare(raw, store, PrepareConfig(downsample=1, test_fraction=0))
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                for repeat in range(1 if quick else REPEATS):
                    for name, settings in SETTINGS.items():
                        measured = training(store, Path(folder) / f"{name}{repeat}", settings, options)
                        for key, value in zip(found[name], measured, strict=True):
                            found[name][key].append(value)
            finally:
                busy.kill()
    ratios = {
        f"{key}_all_over_chosen": round(
            statistics.median(found["all_spinning"][key]) / statistics.median(found["chosen_asleep"][key]), 2
        )
        for key in ("wall_s", "cpu_s")
    }
    figures = {"processors": PROCESSORS, "training": " ".join(options), **found, **ratios}
    record("busy", figures, folder=None if quick else RESULTS)


if __name__ == "__main__":
    main()
