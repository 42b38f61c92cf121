"""What `make test` costs the processor: pytest, its workers, and every process that a test starts.

    python -m benchmarks.bench_suite [--quick] [--workers auto]

There is no peer: 8 minutes is what it may take. A suite that fails is not measured, and ends this with pytest's status.

Quick: the tests of `core` alone.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.pairs import Benchmark
from benchmarks.processor_time import cost_of

ROOT = Path(__file__).parents[1]
GOAL_MIN = 8.0
WORKERS = "auto"
# as in the Makefile (a test holds it)
ARGUMENTS = ("--numprocesses", WORKERS, "--dist", "loadfile", "-m", "not slow")
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "", "OMP_NUM_THREADS": "1"}
QUICK = ("tests/core",)
_SUMMARY = re.compile(r"^(?:=+ )?(\d+) passed.* in [\d.]+s", re.MULTILINE)


def suite(workers: str, tests: tuple[str, ...] = ()) -> dict[str, float]:
    """Minutes of the processor and of the clock, and how many tests passed; ends this process where one fails."""
    arguments = [workers if each == WORKERS else each for each in ARGUMENTS]
    command = [str(Path(sys.executable).with_name("pytest")), *arguments, *tests]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        cost = cost_of(command, ROOT, {**os.environ, **ENVIRONMENT}, out)
        out.seek(0)
        said = out.read()
    print(said)
    found = _SUMMARY.search(said)
    if cost.status or found is None:
        sys.exit(cost.status or "pytest did not say how many tests passed")
    return {
        "processor_min": round(cost.processor_s / 60, 2),
        "goal_min": GOAL_MIN,
        "clock_min": round(cost.clock_s / 60, 2),
        "passed": int(found[1]),
    }


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("suite", __doc__, peers=["pytest", "pytest-xdist"], workers=WORKERS)
    benchmark.notes["suite"] = suite(benchmark.options["workers"], QUICK if benchmark.quick else ())
    benchmark.write()


if __name__ == "__main__":
    main()
