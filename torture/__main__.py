"""All trials, or those that are named: `python -m torture [NAME …] [--minutes 30] [--seed 0]`.

Each is a module `torture.NAME` with `trial(seconds, seed) -> Outcome`; the time is shared in the parts that `SHARES`
says, two trials at a time, each in a process of its own. Prints a line for each, then the sums; the exit code is 1
where a promise did not hold.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from torture.outcome import Outcome, run_trial

# name of the module → its part of the time of one processor
SHARES: dict[str, float] = {  # in this order two processors end at the same time
    "kills": 9,
    "hostile_files": 8,
    "harsh_places": 6,
    "resume": 4,
    "soak": 5,
    "faults": 6,
    "privacy": 4,
    "two_at_once": 5,
    "numerics": 2,
}
PROCESSES = 2


def main() -> int:
    """Run them, print what they found."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SHARES, []], help="trials; all where none is named")
    parser.add_argument("--minutes", type=float, default=28, help="in all, by the clock (default: 28)")
    parser.add_argument("--seed", type=int, default=0, help="seed of mutations and moments (default: 0)")
    parser.add_argument("--here", action="store_true", help="one trial, in this process")
    options = parser.parse_args()
    names = options.names or list(SHARES)
    if options.here:
        return 0 if run_trial(names[0], 60 * options.minutes, options.seed).sound else 1
    whole = sum(SHARES[name] for name in names)
    side_by_side = min(PROCESSES, len(names))
    minutes = {name: options.minutes * side_by_side * SHARES[name] / whole for name in names}
    outcomes = []
    with ThreadPoolExecutor(PROCESSES) as pool:
        for each in pool.map(lambda name: _in_process(name, minutes[name], options.seed), names):
            outcomes.append(each)
            print(each.line(), *each.failures, sep="\n  ", flush=True)
    print(
        f"faults={sum(o.faults for o in outcomes)} lost={sum(o.lost for o in outcomes)}"
        f" inputs={sum(o.inputs for o in outcomes)} tracebacks={sum(o.tracebacks for o in outcomes)}"
        f" trials={len(outcomes)} broken={sum(not o.sound for o in outcomes)}"
    )
    return 0 if all(o.sound for o in outcomes) else 1


def _in_process(name: str, minutes: float, seed: int) -> Outcome:
    """One trial in a new Python, as they limit, fork and end processes; one that ends early is a failure of its own."""
    command = [sys.executable, "-m", "torture", name, "--here", "--minutes", str(minutes), "--seed", str(seed)]
    Outcome.path(name).unlink(missing_ok=True)
    code = subprocess.run(command, check=False).returncode
    if not Outcome.path(name).exists():
        Outcome(name, failures=[f"the trial ended with exit code {code}"]).write()
    return Outcome.read(name)


if __name__ == "__main__":
    sys.exit(main())
