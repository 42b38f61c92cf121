"""A training step of the paper's presets beside that of an earlier commit: is anything slower where nothing is new?

    python -m benchmarks.bench_before [--quick] [--before COMMIT|CHECKOUT]

Both commits train on one store of phantoms, each in a process of its own, which take turns step by step; which of them
is first changes from pair to pair. After a third of the pairs both processes are begun anew, as where their
memory lies has a part in how fast they are. Seconds of the processor, one thread, with the windows that a step takes;
the precision and the layout that this commit chooses for itself, for both.

- `step_demo_vs_before`: preset `demo`, ten steps a turn.
- `step_paper_vs_before`: the paper's network and batch with windows of 24³, one step a turn.

The ratio of a pair is the earlier commit's seconds over those of this one; noted are the median of these ratios, in
which what slows a machine for seconds cancels, and its 95 % confidence interval (`scipy.stats.quantile_test`, exact by
the order of the ratios). The goal is 0.98: at most 2 % slower. By default the earlier commit is the last before the
ingredients of recipes came (docs/recipes.md). Quick: two pairs, nothing is written.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from scipy.stats import quantile_test

from benchmarks.pairs import Benchmark
from viscera.core.resolve import resolve_config
from viscera.engine.precision_probe import decided

Pair = tuple[float, float]  # seconds of this commit, and of the earlier one
ROOT = Path(__file__).parents[1]
BEFORE = "74a58c7"  # check in several processes, …: the last before schedules of the rate
STEPS = {"demo": 10, "paper": 1}  # a turn
SIZES: dict[str, dict[str, Any]] = {"demo": {}, "paper": {"train.patch": 24}}
PAIRS, BEGINNINGS = 30, 3
_STORE = """
import sys
from pathlib import Path
from viscera.core.config import PrepareConfig
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
out = Path(sys.argv[1])
make_phantoms(out / "data", 6, shape=(48, 36, 36))
prepare(out / "data", out / "store", PrepareConfig(downsample=1, test_fraction=0))
"""


class Steps:
    """A process that does training steps of one checkout."""

    def __init__(self, code: Path, store: Path, trainings: dict[str, Any]) -> None:
        command = [sys.executable, "-P", str(ROOT / "benchmarks" / "steps_of_checkout.py")]
        self.process = subprocess.Popen(
            [*command, str(store), json.dumps(trainings)],
            env=environment(code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        package = Path(self._said().strip())
        if package.parent.resolve() != code.resolve():
            raise RuntimeError(f"{code}: its process imports viscera from {package}")
        self.done = 0

    def seconds(self, name: str, count: int) -> float:
        """Of the processor, for so many more steps."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        print(name, self.done + 1, count, file=self.process.stdin, flush=True)
        self.done += count
        return float(self._said())

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _said(self) -> str:
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of steps ended ({self.process.wait()})")
        return line


def environment(code: Path) -> dict[str, str]:
    """That of a process which imports a checkout."""
    return {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}


@contextlib.contextmanager
def checkout(before: str, folder: Path) -> Iterator[Path]:
    """That of a commit, made and removed; a folder is taken as it is."""
    if Path(before).is_dir():
        yield Path(before).resolve()
        return
    worktree = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*worktree, "add", "--detach", "--quiet", str(folder), before], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*worktree, "remove", "--force", str(folder)], check=True)


def median_and_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median of ratios, and its 95 % confidence interval, which says nothing (NaN) of fewer than six."""
    low, high = cast("tuple[float, float]", quantile_test(ratios, q=1, p=0.5).confidence_interval(0.95))
    return statistics.median(ratios), float(low), float(high)


def trainings() -> dict[str, Any]:
    """Presets and settings, with what this commit chooses for itself."""
    found = {}
    for name, options in SIZES.items():
        train = decided(resolve_config(name, options=options).train, 8, torch.device("cpu"))
        chosen = {f"train.{key}": getattr(train, key) for key in ("precision", "memory_layout")}
        found[name] = {"preset": name, "options": options | chosen | {"train.capture": "never"}}
    return found


def turns(now: Path, before: Path, store: Path, what: dict[str, Any], pairs: int) -> dict[str, list[Pair]]:
    """Seconds a step of both, by training: (now, before) of each pair, after a turn of both that does not count."""
    both = [Steps(code, store, what) for code in (now, before)]
    found: dict[str, list[Pair]] = {name: [] for name in what}
    for number in range(pairs + 1):
        for name, steps in STEPS.items():
            order = (0, 1) if number % 2 else (1, 0)
            seconds = {which: both[which].seconds(name, steps) / steps for which in order}
            if number:
                found[name].append((seconds[0], seconds[1]))
    for each in both:
        each.end()
    return found


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("before", __doc__, before=BEFORE)
    commit, what = benchmark.options["before"], trainings()
    pairs, beginnings = (2, 1) if benchmark.quick else (PAIRS // BEGINNINGS, BEGINNINGS)
    found: dict[str, list[Pair]] = {name: [] for name in what}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with checkout(commit, folder / "before") as before:
            # by the earlier one: this one reads its stores, and not the other way round
            subprocess.run([sys.executable, "-P", "-c", _STORE, name], env=environment(before), check=True)
            for _ in range(beginnings):
                for training, seconds in turns(ROOT, before, folder / "store", what, pairs).items():
                    found[training] += seconds
            said = ["git", "-C", str(before), "rev-parse", "--short", "HEAD"]
            commit = subprocess.run(said, check=True, capture_output=True, text=True).stdout.strip()
    for training, seconds in found.items():
        ratios = [round(earlier / now, 4) for now, earlier in seconds]
        median, low, high = median_and_interval(ratios)
        benchmark.pair(
            f"step_{training}_vs_before",
            *(statistics.median(each) for each in zip(*seconds, strict=True)),
            goal=0.98,
            unit="s",
            peer_settings=f"commit {commit}",
            settings=what[training],
            ratios=ratios,
            ratio=median,
            interval=[round(low, 4), round(high, 4)],
            of_pairs=f"median of {len(ratios)} ratios {median:.3f}, 95 % interval {low:.3f} to {high:.3f}",
        )
    benchmark.write()


if __name__ == "__main__":
    main()
