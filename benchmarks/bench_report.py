"""Seconds of `viscera report`: a study of six arms and 37 test cases, and one of more than 10,000 score rows.

    python -m benchmarks.bench_report [--quick]

The study is made by what writes a real one (phantoms, `prepare`, forecast, curves, scores and label maps of the case
that is shown), without its trainings: scores and curves are random numbers. The command runs in a process of its own,
its start included. There is no peer: `peer` is what it may take, in seconds.

- `report_37_cases`: the paper's size, one seed, both grids: 3,552 rows; 60 s.
- `report_10000_rows`: three seeds of it, 10,656 rows; 30 s.

Quick: scans of 48 × 36 × 36 voxels instead of 192 × 192 × 96, and each report once.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_patients import linked_scans, viscera
from benchmarks.pairs import Benchmark
from viscera.core.arms import arms_of
from viscera.core.config import Config
from viscera.core.resolve import resolve_config, with_settings
from viscera.core.scan import LabelMap
from viscera.doctor.forecast import save_forecasts
from viscera.doctor.untrained import forecast_arms
from viscera.io.nifti import write_nifti
from viscera.io.records import write_yaml
from viscera.io.runlog import RunFolder, RunStatus, StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.metrics.learning import DICE_BATCH_STATISTICS
from viscera.stages.phantom import make_phantoms
from viscera.study.report.report_stage import read_study
from viscera.study.results import median_case

CASES, TEST_CASES, SHAPE, QUICK_SHAPE = 41, 37, (192, 192, 96), (48, 36, 36)
LIMITS = {"report_37_cases": ((0,), 60.0), "report_10000_rows": ((0, 1, 2), 30.0)}  # seeds, seconds


def made_store(folder: Path, shape: tuple[int, int, int]) -> Store:
    """A few phantoms under many names."""
    make_phantoms(folder / "phantoms", 10, shape=shape, jobs=2)
    scans = linked_scans(folder / "phantoms", folder / "scans", CASES)
    share = TEST_CASES / CASES
    viscera("prepare", scans, folder / "store", "--downsample", 1, "--test-fraction", share, "--jobs", 2)
    return Store.open(folder / "store")


def made_study(store: Store, config: Config, path: Path) -> int:
    """A finished study, and how many rows of scores it has."""
    seeds = config.study.seeds
    folder, random, rows = StudyFolder(path), np.random.default_rng(0), 0
    folder.write_record(
        StudyRecord(
            version="0.1.0",
            store=str(store.path.resolve()),
            dataset=store.manifest.dataset,
            config=config,
            training_voxel_counts=tuple(store.voxel_counts().tolist()),
        )
    )
    arms = arms_of(config.study)
    for arm in arms:
        for seed in seeds:
            rows += made_run(store, folder.run(arm, seed), config, random)
    case = median_case(read_study(path), store.names("test"))
    truth = store.original_labels(str(case))
    for shift, arm in enumerate(arms):
        labels = np.asfortranarray(np.roll(truth.labels, shift, axis=0))
        write_nifti(folder.run(arm, seeds[0]).predictions / f"{case}.nii.gz", LabelMap(labels, truth.geometry))
    return rows


def made_run(store: Store, run: RunFolder, config: Config, random: np.random.Generator) -> int:
    """One finished run, and how many rows of scores it has."""
    train, names = config.train, store.classes.names
    write_yaml(run.config_path, config.model_dump(mode="json"))
    run.write_status(RunStatus(state="finished", step=train.iterations, iterations=train.iterations, wall_seconds=60))
    for step in range(train.log_every or 30, train.iterations + 1, train.log_every or 30):
        run.append_curve(curve_line(step, names, random))
    rows = [
        ScoreRow(case, organ, grid, "dice", float(random.random()))
        for case in store.names("test")
        for grid in ("original", "prepared")
        for organ in names
    ]
    write_scores(run.scores, rows)
    return len(rows)


def curve_line(step: int, names: tuple[str, ...], random: np.random.Generator) -> dict[str, Any]:
    """What a training logs at a step, of random numbers."""
    kinds = ("soft_dice", "dice", DICE_BATCH_STATISTICS, "validation_dice", "gradient_share")
    by_organ = {kind: dict(zip(names, random.random(len(names)).tolist(), strict=True)) for kind in kinds}
    numbers = {"loss": -float(random.random()), "learning_rate": 0.001, "seconds": step / 10, "gradient_norm": 1.0}
    return {"step": step, **numbers, **by_organ}


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("report", __doc__, peers=["matplotlib", "pandas"])
    with tempfile.TemporaryDirectory() as name:
        store = made_store(Path(name), QUICK_SHAPE if benchmark.quick else SHAPE)
        config = resolve_config("demo", options={"evaluate.grid": "both", "train.iterations": 3000})
        config = config.model_copy(update={"prepare": store.manifest.prepare})
        forecasts = forecast_arms(store, config, arms_of(config.study))
        for pair, (seeds, limit_s) in LIMITS.items():
            study = Path(name) / pair
            rows = made_study(store, with_settings(config, {"study.seeds": seeds}, pair), study)
            save_forecasts(StudyFolder(study).forecast_path, config.train.iterations, forecasts)
            before = os.times()
            seconds = [viscera("report", study).seconds for _ in range(1 if benchmark.quick else 3)]
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            about: dict[str, Any] = {"rows": rows, "repeats": [round(each, 2) for each in seconds]}
            about["processor_s"] = round(used / len(seconds), 2)
            ours = statistics.median(seconds)
            benchmark.pair(pair, ours, limit_s, goal=1, unit="s", peer_settings="what it may take", **about)
    benchmark.write()


if __name__ == "__main__":
    main()
