"""Ray beside the processes of one machine: a study of 24 tiny arms, and 10,000 scans that wait for a worker.

    python -m benchmarks.bench_ray [--quick]

Commands run as a user would run them, the start of Python included, on a cluster of three nodes on this machine
(`ray.cluster_utils.Cluster`): that of the driver, which has no processor for tasks, and two of one each. Beside it
stand two processes (`--jobs 2`). Scans are phantoms of 24³ voxels under 10,000 names (hard links).

- `ray_study`: `viscera study --launcher ray --address …` beside `--launcher local` and 15 s more, which is the goal for
  what Ray may cost all arms together; `ray_study_own` without `--address`: a cluster is started and ended in that time.
- `ray_driver_memory`: the largest resident memory of `viscera prepare --launcher ray` with 10,000 scans; the goal is
  500 MB.
- `queue`: how many of these scans are done a second, beside `--jobs 2`; and how many by `for_each_on_ray` alone, with
  the same items and next to no work in each.

Quick: one arm, no cluster that a study starts itself, 100 scans, and how fast they are done is not compared.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_patients import PHANTOMS, TINY, Cost, linked_scans, viscera
from benchmarks.pairs import Benchmark
from viscera.core.anatomy import ABDOMEN
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.manifest import CaseRecord
from viscera.stages.phantom import make_phantoms

ALLOWED_S, ALLOWED_MIB = 15.0, 500e6 / 2**20
SCANS, FEW, EDGE = 10_000, 1_000, 24
WEIGHTINGS, RATES, SEEDS = ("uniform", "simple", "square"), (0.001, 0.01), range(4)
SHORT = TINY.replace("--iterations 300", "--iterations 20").split()
_GIB = 2**30  # of the object store of a node, which is shared memory
Item = tuple[Any, CaseRecord | None]


def started_cluster() -> Any:  # noqa: ANN401 - Ray's
    """Three nodes on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": _GIB})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=_GIB)
    made.wait_for_nodes()
    return made


def name_of(item: Item) -> str:
    """Next to no work."""
    return str(item[0].name)


def queue(address: str, scans: Path) -> None:
    """In a process of its own, the driver: all cases of a data set by `name_of`; prints what it took."""
    from viscera.engine.on_ray import connected, for_each_on_ray  # noqa: PLC0415

    items: list[Item] = [(case, None) for case in find_cases(scans, "nnunet", table=ABDOMEN)]
    with connected(address):
        for _ in for_each_on_ray(name_of, items[:20], address=address):
            pass  # both workers have started
        started = time.perf_counter()
        done = sum(1 for _ in for_each_on_ray(name_of, items, address=address))
        seconds = time.perf_counter() - started
    print(json.dumps({"items_per_s": done / seconds}))


def queued(address: str, scans: Path) -> dict[str, float]:
    """What `queue` measures."""
    command = [sys.executable, "-m", "benchmarks.bench_ray", "--queue", address, str(scans)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def studies(benchmark: Benchmark, address: str, folder: Path) -> None:
    """The same arms by both launchers, twice in turn; on a cluster of its own once."""
    make_phantoms(folder / "few", 4, shape=(48, 48, 36), jobs=2)
    viscera("prepare", folder / "few", folder / "store", "--downsample", 2, "--test-fraction", 0.25)
    weightings, seeds = (WEIGHTINGS[:1], SEEDS[:1]) if benchmark.quick else (WEIGHTINGS, SEEDS)
    rates = RATES[:1] if benchmark.quick else RATES
    grid = {"--weightings": weightings, "--learning-rates": rates, "--seeds": seeds}
    how = [*SHORT, *(word for option, values in grid.items() for word in (option, ",".join(map(str, values))))]
    launchers = {"local": ("--jobs", 2), "ray": ("--launcher", "ray", "--address", address)}
    rounds: list[dict[str, Cost]] = []
    for number in range(1 if benchmark.quick else 2):
        ways = launchers if number or benchmark.quick else launchers | {"own": ("--launcher", "ray")}
        rounds.append(
            {
                name: viscera("study", folder / "store", folder / f"{name}_{number}", *how, *more)
                for name, more in ways.items()
            }
        )
    medians = {name: statistics.median(each[name].seconds for each in rounds if name in each) for name in rounds[0]}
    arms = len(weightings) * len(rates) * len(seeds)
    for name, pair in {"ray": "ray_study", "own": "ray_study_own"}.items():
        if name in medians:
            over = medians[name] - medians["local"]
            notes = {"arms": arms, "seconds_over_local": over, "peak_mib": rounds[0][name].peak_mib}
            peer = "--launcher local --jobs 2, and 15 s"
            benchmark.pair(
                pair, medians[name], medians["local"] + ALLOWED_S, goal=1, unit="s", peer_settings=peer, **notes
            )
            print(f"{pair}: {over:.1f} s over local ({medians['local']:.1f} s)")


def preparations(benchmark: Benchmark, address: str, folder: Path) -> None:
    """10,000 scans, and as many items without work, on the cluster; 1,000 there and in two processes."""
    make_phantoms(folder / "phantoms", PHANTOMS, shape=(EDGE, EDGE, EDGE), jobs=2)
    all_scans = 100 if benchmark.quick else SCANS
    many = linked_scans(folder / "phantoms", folder / "many", all_scans)
    how = ("--downsample", 1, "--test-fraction", 0)
    on_ray = ("--launcher", "ray", "--address", address)
    cost = viscera("prepare", many, folder / "store_of_all", *how, *on_ray)
    more: dict[str, Any] = {"peer_settings": "the bound, 500 MB", "scans": all_scans, "of": cost.peak_mib}
    benchmark.pair("ray_driver_memory", cost.peak_mib["VmHWM"], ALLOWED_MIB, goal=1, unit="MiB", **more)
    found = queued(address, many)
    if benchmark.quick:
        print(f"{found['items_per_s']:.0f} items without work a second")
        return
    few = linked_scans(folder / "phantoms", folder / "few_scans", FEW)
    local, ray = (viscera("prepare", few, folder / way[0], *how, *way).seconds for way in (("--jobs", 2), on_ray))
    per_s = (all_scans - FEW) / (cost.seconds - ray)
    benchmark.notes["queue"] = {
        "items_without_work_per_s": found["items_per_s"],
        "scans_prepared_per_s": per_s,
        f"prepare_{FEW}_s": {"two_processes": local, "ray": ray},
        f"prepare_{all_scans}_s": cost.seconds,
    }
    benchmark.notes["of_the_queue"] = (
        f"{found['items_per_s']:.0f} items without work a second, {1000 / found['items_per_s']:.1f} ms each of two "
        f"processors that driver, nodes and workers share; {per_s:.0f} scans of {EDGE}³ voxels are prepared a second. "
        f"`prepare` of {FEW:,} takes {ray:.1f} s on Ray, {local:.1f} s in two processes."
    )
    print(benchmark.notes["of_the_queue"])


def main() -> None:
    """Measure and record."""
    if sys.argv[1:2] == ["--queue"]:
        queue(sys.argv[2], Path(sys.argv[3]))
        return
    benchmark = Benchmark.of_command_line("ray", __doc__, peers=["ray"])
    cluster = started_cluster()
    try:
        with tempfile.TemporaryDirectory() as name:
            studies(benchmark, cluster.address, Path(name))
            preparations(benchmark, cluster.address, Path(name))
    finally:
        cluster.shutdown()
    benchmark.write()


if __name__ == "__main__":
    main()
