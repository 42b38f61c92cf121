"""All trials, or those that are named: `python -m torture [NAME …] [--minutes 30] [--seed 0]`.

Each is a module `torture.NAME` with `trial(seconds, seed) -> Outcome`; the time is shared in the parts that `SHARES`
says, two trials at a time. Prints a line for each, then the sums; the exit code is 1 where a promise did not hold.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from torture.outcome import run_trial

# name of the module → its part of the time of one processor
SHARES: dict[str, float] = {
    "faults": 6,
    "hostile_files": 8,
    "numerics": 2,
    "kills": 6,
    "two_at_once": 5,
    "privacy": 4,
    "harsh_places": 6,
}
PROCESSES = 2


def main() -> int:
    """Run them, print what they found."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SHARES, []], help="trials; all where none is named")
    parser.add_argument("--minutes", type=float, default=28, help="in all, by the clock (default: 28)")
    parser.add_argument("--seed", type=int, default=0, help="seed of mutations and moments (default: 0)")
    options = parser.parse_args()
    names = options.names or list(SHARES)
    whole = sum(SHARES[name] for name in names)
    side_by_side = min(PROCESSES, len(names))
    seconds = {name: 60 * options.minutes * side_by_side * SHARES[name] / whole for name in names}
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        begun = [pool.submit(run_trial, name, seconds[name], options.seed) for name in names]
        outcomes = []
        for each in begun:
            outcomes.append(each.result())
            print(outcomes[-1].line(), *outcomes[-1].failures, sep="\n  ", flush=True)
    print(
        f"faults={sum(o.faults for o in outcomes)} lost={sum(o.lost for o in outcomes)}"
        f" inputs={sum(o.inputs for o in outcomes)} tracebacks={sum(o.tracebacks for o in outcomes)}"
        f" trials={len(outcomes)} broken={sum(not o.sound for o in outcomes)}"
    )
    return 0 if all(o.sound for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
