"""`make demo` beside the same demo of an earlier commit, in one run: seconds and processor seconds, and where they go.

    python -m benchmarks.bench_demo [--quick] [--before COMMIT]

Each runs `scripts/demo.sh` of its own commit as a user would, with an empty cache, so that the probe of precision is in
it; twice in turn. The earlier commit, by default the last before speed was worked on, is checked
out beside this one, and the packages are those of this environment.

- `demo_clock`, `demo_processor`: the goal is 2, half of the time.

Quick: 12 steps and 4 filters of this commit alone; there is no ratio then.
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pairs import Benchmark

ROOT = Path(__file__).parents[1]
BEFORE = "6365444"
REPEATS = 2
QUICK = ("--iterations", "12", "--filters", "4")


def demo(code: Path, folder: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Seconds of the demo of a checkout, and of the training in its six arms."""
    own = {"PYTHONPATH": str(code), "XDG_CACHE_HOME": str(folder / "cache"), "BIN": str(Path(sys.executable).parent)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        ["/bin/bash", str(code / "scripts" / "demo.sh"), str(folder / "demo"), *options],
        cwd=code,
        env={**os.environ, **own, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    clock_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = sum(getattr(after, each) - getattr(before, each) for each in ("ru_utime", "ru_stime"))
    runs = [json.loads(path.read_text()) for path in (folder / "demo" / "study" / "arms").glob("*/*/run.json")]
    table = (folder / "demo" / "study" / "report" / "table1.csv").read_text()
    (foreground,) = re.findall(r"^FOREGROUND,(.*)$", table, flags=re.MULTILINE)
    return {
        "clock_s": clock_s,
        "processor_s": processor_s,
        "training_s": sum(run["wall_seconds"] for run in runs),
        "foreground_dice_of_the_arms": foreground,
    }


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("demo", __doc__, before=BEFORE)
    commit = benchmark.options["before"]
    if benchmark.quick:
        with tempfile.TemporaryDirectory() as name:
            print(demo(ROOT, Path(name), QUICK))
        return
    found: dict[str, list[dict[str, Any]]] = {"now": [], "before": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = folder / "before"
        worktree = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*worktree, "add", "--detach", "--quiet", str(earlier), commit], check=True)
        try:
            for repeat in range(REPEATS):
                for what, code in (("before", earlier), ("now", ROOT)):
                    own = folder / f"{what}_{repeat}"
                    own.mkdir()
                    found[what].append(demo(code, own, ()))
        finally:
            subprocess.run([*worktree, "remove", "--force", str(earlier)], check=True)
    for name, key in (("demo_clock", "clock_s"), ("demo_processor", "processor_s")):
        now, before = (statistics.median(each[key] for each in found[what]) for what in ("now", "before"))
        benchmark.pair(name, now, before, goal=2, unit="s", peer_settings=f"commit {commit}")
    last = found["now"][-1]
    share = last["training_s"] / last["processor_s"]
    benchmark.pairs["demo_clock"]["what_bounds_it"] = (
        f"training: {share:.0%} of the processor time is in the arms' training loops, where convolutions, batch "
        "normalisation and their gradients on 24³ patches with 8 to 16 channels take most of a step; starting Python "
        "and PyTorch, phantoms and the report are the rest"
    )
    benchmark.notes["runs"] = found
    benchmark.write()


if __name__ == "__main__":
    main()
