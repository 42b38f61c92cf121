"""Dice after training in bfloat16 beside float32: the same phantoms, steps and seeds, the number format alone differs.

    python -m benchmarks.bench_precision [FOLDER]
    python -m benchmarks.bench_precision --quick

28 phantoms, the settings of `--preset demo` at rate 0.01 and uniform weights, three seeds: six short
trainings, scored on the eight test cases. In FOLDER (default: precision) what is done already is not done again. What a
phantom shows is no clinical result.

The figures are mean Dice of the organs over the test cases. `seed_sd` is the standard deviation over the seeds of
float32, `difference` the mean of bfloat16 minus float32 over the seeds, with its standard error: within seed noise
where it is smaller than `seed_sd`.

Quick: 8 phantoms, two of them test cases, 10 steps, two seeds, in a folder that does not stay: Dice says nothing then.
"""

import argparse
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.quick import parser_of
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
RATE = 0.01


class Size(NamedTuple):
    """How much is trained."""

    phantoms: int
    seeds: tuple[int, ...]
    train: dict[str, int]  # settings that differ from the demo's


FULL = Size(28, (0, 1, 2), {})
QUICK = Size(8, (0, 1), {"iterations": 10})


def parser_of_folder(purpose: str | None) -> argparse.ArgumentParser:
    """Takes `--quick` and FOLDER."""
    parser = parser_of(purpose)
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="by default precision")
    return parser


@contextmanager
def work_folder(given: Path | None, *, quick: bool) -> Iterator[Path]:
    """FOLDER; of a quick run one that does not stay."""
    if quick:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        yield given or Path("precision")


def trained(folder: Path, size: Size) -> StudyPlan:
    """All models (six in full), trained and scored in a study whose variants are the formats."""
    make_phantoms(folder / "phantom", size.phantoms, shape=(48, 36, 36))
    split = PrepareConfig(downsample=1, test_fraction=0.286, validation_fraction=0.143)
    prepare(folder / "phantom", folder / "store", split)
    grid = {"weightings": WEIGHTINGS, "learning_rates": (RATE,), "seeds": size.seeds, "jobs": 2}
    unmeasured = {"diagnose": False, "log_every": 300, "validate_every": 300}  # what is watched on the way
    variants = {each: {"train.precision": each} for each in FORMATS}
    by_windows_of_training = {"mode": "sub_volumes"}
    values = {
        "train": unmeasured | size.train,
        "predict": by_windows_of_training,
        "study": {**grid, "variants": variants},
    }
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


def measured(plan: StudyPlan, size: Size, tests: int) -> dict[str, Any]:
    """Dice and seconds of the models."""
    steps = "".join(f", {name} {value}" for name, value in size.train.items())
    figures: dict[str, Any] = {
        "data": f"{size.phantoms} phantoms of 48×36×36 voxels (seed 0), {tests} of them tests; no patient",
        "training": f"--preset demo, rate {RATE:g}{steps}; mean Dice of the organs on the test cases",
        "seeds": list(size.seeds),
    }
    seconds = dict.fromkeys(FORMATS, 0.0)
    for weighting in WEIGHTINGS:
        arms = {each: Arm(weighting, RATE, each) for each in FORMATS}
        dice = {each: [mean_dice(plan, arm, seed) for seed in size.seeds] for each, arm in arms.items()}
        figures[weighting] = compared(dice)
        for each, arm in arms.items():
            statuses = [plan.folder.run(arm, seed).read_status() for seed in size.seeds]
            seconds[each] += sum(status.wall_seconds for status in statuses if status)
    figures["seconds_of_training"] = {each: round(value, 1) for each, value in seconds.items()}
    return figures


def main() -> None:
    """Train, compare and record."""
    parser = parser_of_folder(__doc__)
    given = parser.parse_args()
    if given.quick and given.folder:
        parser.error("a quick run keeps nothing: leave FOLDER or --quick away")
    with work_folder(given.folder, quick=given.quick) as folder:
        size = QUICK if given.quick else FULL
        figures = measured(trained(folder, size), size, len(Store.open(folder / "store").names("test")))
    record("precision", figures, folder=None if given.quick else RESULTS / processor_kind())


if __name__ == "__main__":
    main()
