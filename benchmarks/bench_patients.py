"""Many patients: training on 10 and on 1,000 of them, and preparing 1,000 in one process and in two.

    python -m benchmarks.bench_patients [--quick]

The patients are 10 phantoms of 48³ voxels under 1,000 names (hard links), so that the disk holds few; every command
runs as a user would run it, in a process of its own. There is no peer: `peer` is the smaller set, or the one process.

- `patients_step`, `patients_memory`: seconds a step and peak memory of `viscera train` (patches of 16³, a tiny network,
  so that the feed is much of a step) on 1,000 patients beside 10; 1 is best, the bar 0.9. Memory is what belongs to the
  process alone (`RssAnon`); pages of mapped files, which the system takes back when it needs them, are noted beside it.
- `prepare_jobs`: `viscera prepare` with `--jobs 2` beside `--jobs 1`; 2 is best.

Quick: 100 patients instead of 1,000.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pairs import Benchmark
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.phantom import make_phantoms

PHANTOMS, EDGE, FEW = 10, 48, 10
TINY = "--iterations 300 --patch 16 --batch-size 3 --filters 2 --device cpu --set train.levels=2"
TINY += " --set train.monitor_windows=3 --set train.log_every=100 --set train.diagnose=false"
TINY += " --set train.precision=float32"


class Cost(NamedTuple):
    """Of one command, the start of Python included."""

    seconds: float
    peak_mib: dict[str, float]  # resident: VmHWM; RssAnon, of the process alone, and RssFile, of mapped files, of it


def viscera(*arguments: object) -> Cost:
    """Run a command, and look at its memory fifty times a second."""
    command = [sys.executable, "-m", "viscera.cli", *map(str, arguments), "--quiet"]
    started, peak = time.perf_counter(), {"VmHWM": 0.0, "RssAnon": 0.0, "RssFile": 0.0}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        for name, value in (line.split(":", 1) for line in status):
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) / 1024)
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(time.perf_counter() - started, peak)


def linked_scans(phantoms: Path, folder: Path, cases: int) -> Path:
    """A data set of so many names of the phantoms' files."""
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (folder / part).mkdir(parents=True)
        for number in range(cases):
            target = folder / part / f"case_{number:05d}{ending}"
            os.link(phantoms / part / f"phantom_{number % PHANTOMS:03d}{ending}", target)
    content = json.loads((phantoms / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": cases}))
    return folder


def linked_store(store: Path, folder: Path, cases: int) -> Path:
    """The first cases of a store as one of their own."""
    manifest = json.loads((store / "manifest.json").read_text())
    names = sorted(manifest["cases"])[:cases]
    for name in names:
        (folder / "cases" / name).mkdir(parents=True)
        for file in (store / "cases" / name).iterdir():
            os.link(file, folder / "cases" / name / file.name)
    manifest["cases"] = {name: manifest["cases"][name] for name in names}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def training(store: Path, run: Path) -> dict[str, float]:
    """Of one command: seconds a step, seconds before and after the steps, and peak memory."""
    cost = viscera("train", store, run, *TINY.split())
    folder = RunFolder(run)
    status, curve = folder.read_status(), folder.read_curve()
    if status is None:
        raise FileNotFoundError(run)
    first, last = curve[0], curve[-1]
    return {
        "step_s": (last["seconds"] - first["seconds"]) / (last["step"] - first["step"]),
        "outside_steps_s": cost.seconds - status.wall_seconds,
        "peak_mib": cost.peak_mib["RssAnon"],
        "mapped_mib": cost.peak_mib["RssFile"],
    }


def compare_trainings(benchmark: Benchmark, many: Path, few: Path, folder: Path, patients: int) -> None:
    """Train on both, twice in turn (quick: once); the lower figures count, as what else a machine does only adds."""
    repeats = range(1 if benchmark.quick else 2)
    runs = [(training(many, folder / f"many_{n}"), training(few, folder / f"few_{n}")) for n in repeats]
    on_many, on_few = ({key: min(each[key] for each in pair) for key in pair[0]} for pair in zip(*runs, strict=True))
    notes: dict[str, Any] = {"patients": [patients, FEW], "goal": 0.9, "peer_settings": f"{FEW} patients"}
    benchmark.pair("patients_step", on_many["step_s"], on_few["step_s"], unit="s", **notes)
    benchmark.pair("patients_memory", on_many["peak_mib"], on_few["peak_mib"], unit="MiB", **notes)
    outside = {f"of_{patients}": on_many["outside_steps_s"], f"of_{FEW}": on_few["outside_steps_s"]}
    benchmark.notes["seconds_of_train_outside_its_steps"] = outside
    mapped = {f"of_{patients}": on_many["mapped_mib"], f"of_{FEW}": on_few["mapped_mib"]}
    benchmark.notes["mib_of_mapped_files_beside_that"] = mapped
    print(f"outside the steps: {outside}")


def what_bounds(one_s: float, two_s: float, few_one_s: float, few_two_s: float) -> str:
    """What `prepare` takes whatever the number of cases, and how the rest goes with the processes."""
    rest = (one_s - few_one_s) / (two_s - few_two_s)
    return (
        f"starting Python and the processes: with {FEW} cases alone one process takes {few_one_s:.1f} s and two "
        f"{few_two_s:.1f} s; what comes with the cases is {rest:.2f} times as fast in two"
    )


def store_facts(path: Path) -> dict[str, float]:
    """What a store of so many cases takes on the disk, and the time to open and to check it."""
    started = time.perf_counter()
    store = Store.open(path)
    open_s = time.perf_counter() - started
    names = store.names()
    started = time.perf_counter()
    store.verify(names)
    verify_s = time.perf_counter() - started
    sizes = {
        file: sum((path / "cases" / name / file).stat().st_size for name in names)
        for file in store.manifest.cases[names[0]].sha256
    }
    records = store.manifest.cases.values()
    original = sum(math.prod(record.original.shape) for record in records)
    arrays = sizes["image.npy"] + sizes["labels.npy"]
    return {
        "cases": len(names),
        "open_s": open_s,
        "verify_s_per_gib": verify_s / (sum(sizes.values()) / 2**30),
        "manifest_bytes_per_case": (path / "manifest.json").stat().st_size / len(names),
        "bytes_per_prepared_voxel": arrays / sum(math.prod(record.prepared.shape) for record in records),
        "label_bytes_per_original_voxel": sizes["labels_original.nii.gz"] / original,
    }


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("patients", __doc__)
    patients = 100 if benchmark.quick else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_phantoms(folder / "phantoms", PHANTOMS, shape=(EDGE, EDGE, EDGE), jobs=2)
        scans = linked_scans(folder / "phantoms", folder / "scans", patients)
        how = ("--downsample", 1, "--test-fraction", 0, "--jobs")
        one, two = (viscera("prepare", scans, folder / f"store_{jobs}", *how, jobs).seconds for jobs in (1, 2))
        few_scans = linked_scans(folder / "phantoms", folder / "few_scans", FEW)
        least = [viscera("prepare", few_scans, folder / f"least_{jobs}", *how, jobs).seconds for jobs in (1, 2)]
        notes = {"patients": patients, "what_bounds_it": what_bounds(one, two, *least)}
        benchmark.pair("prepare_jobs", two, one, goal=1.6, unit="s", peer_settings="--jobs 1", **notes)
        many = folder / "store_2"
        benchmark.notes["store"] = store_facts(many)
        few = linked_store(many, folder / "few", FEW)
        compare_trainings(benchmark, many, few, folder, patients)
    benchmark.write()


if __name__ == "__main__":
    main()
