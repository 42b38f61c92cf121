"""Dice after training in bfloat16 beside float32: the same phantoms, steps and seeds, the number format alone differs.

    python -m benchmarks.bench_precision [FOLDER]

28 phantoms, the settings of `--preset demo` at rate 0.01 and uniform weights, three seeds: six short
trainings, scored on the eight test cases. In FOLDER (default: precision) what is done already is not done again. What a
phantom shows is no clinical result.

The figures are mean Dice of the organs over the test cases. `seed_sd` is the standard deviation over the seeds of
float32, `difference` the mean of bfloat16 minus float32 over the seeds, with its standard error: within seed noise
where it is smaller than `seed_sd`.
"""

import statistics
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, processor_kind, record
from viscera.core.arms import Arm
from viscera.core.config import PrepareConfig
from viscera.core.progress import unseen
from viscera.core.resolve import resolve_config
from viscera.io.runlog import StudyFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
from viscera.study.launch import launch
from viscera.study.plan import StudyPlan, make_plan

FORMATS = ("float32", "bfloat16")
WEIGHTINGS = ("uniform",)
SEEDS = (0, 1, 2)
RATE = 0.01


def trained(folder: Path) -> StudyPlan:
    """All six models, trained and scored in a study whose variants are the formats."""
    make_phantoms(folder / "phantom", 28, shape=(48, 36, 36))
    split = PrepareConfig(downsample=1, test_fraction=0.286, validation_fraction=0.143)
    prepare(folder / "phantom", folder / "store", split)
    grid = {"weightings": WEIGHTINGS, "learning_rates": (RATE,), "seeds": SEEDS, "jobs": 2}
    unmeasured = {"diagnose": False, "log_every": 300, "validate_every": 300}  # what is watched on the way
    variants = {each: {"train.precision": each} for each in FORMATS}
    by_windows_of_training = {"mode": "sub_volumes"}
    values = {"train": unmeasured, "predict": by_windows_of_training, "study": {**grid, "variants": variants}}
    config = resolve_config("demo", file_values=values)
    store = Store.open(folder / "store")
    plan = make_plan(StudyFolder(folder / "study"), store, config)
    plan.write()
    for failure in launch(plan, threading.Event(), unseen):
        raise failure
    return plan


def mean_dice(plan: StudyPlan, arm: Arm, seed: int) -> float:
    """Of the organs over the test cases, on the scans' own grids."""
    rows = read_scores(plan.folder.run(arm, seed).scores)
    values = [row.value for row in rows if row.metric == "dice" and row.organ != "background" and row.value is not None]
    return statistics.fmean(values)


def compared(by_format: dict[str, list[float]]) -> dict[str, Any]:
    """Dice by format and seed; what the format changes, beside what the seed does."""
    differences = [ours - theirs for theirs, ours in zip(*(by_format[each] for each in FORMATS), strict=True)]
    noise, change = statistics.stdev(by_format["float32"]), statistics.fmean(differences)
    return {
        "dice": {each: [round(value, 4) for value in values] for each, values in by_format.items()},
        "mean": {each: round(statistics.fmean(values), 4) for each, values in by_format.items()},
        "seed_sd": round(noise, 4),
        "difference": round(change, 4),
        "standard_error": round(statistics.stdev(differences) / len(differences) ** 0.5, 4),
        "within_seed_noise": abs(change) <= noise,
    }


def main() -> None:
    """Train, compare and record."""
    plan = trained(Path(sys.argv[1] if len(sys.argv) > 1 else "precision"))
    figures: dict[str, Any] = {
        "data": "28 phantoms of 48×36×36 voxels (seed 0), 8 of them tests; no patient",
        "training": f"--preset demo, rate {RATE:g}; mean Dice of the organs on the test cases",
        "seeds": list(SEEDS),
    }
    seconds = dict.fromkeys(FORMATS, 0.0)
    for weighting in WEIGHTINGS:
        arms = {each: Arm(weighting, RATE, each) for each in FORMATS}
        figures[weighting] = compared({e: [mean_dice(plan, arm, seed) for seed in SEEDS] for e, arm in arms.items()})
        for each, arm in arms.items():
            statuses = [plan.folder.run(arm, seed).read_status() for seed in SEEDS]
            seconds[each] += sum(status.wall_seconds for status in statuses if status)
    figures["seconds_of_training"] = {each: round(value, 1) for each, value in seconds.items()}
    record("precision", figures, folder=RESULTS / processor_kind())


if __name__ == "__main__":
    main()
