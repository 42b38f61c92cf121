"""The seventh round of docs/decisions/0035: candidates for `--preset strong` learn single real scans by heart.

As `make memorise-strong` does (scripts/memorise_real.sh): the same grid, network, settings and steps, half the time of
the paper's preset. A bar is missed or it is not; it says nothing about other patients.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.recipe_arms import BASE, ON_REAL_SCANS, SEEDS, RecipeArm, arms
from benchmarks.record_memorised import TARGETS
from benchmarks.stores import single_scan_store
from viscera.core.config import Config, EvaluateConfig
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import computes_bfloat16
from viscera.io.records import read_yaml
from viscera.io.runlog import RunFolder
from viscera.io.scores import read_scores
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict
from viscera.stages.train import train

SETTINGS = Path(__file__).parents[1] / "studies" / "memorise.yaml"
Memorised = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]  # Dice by arm, scan, seed and organ


class RealScan(NamedTuple):
    """What `make memorise-strong` does with a scan."""

    steps: int
    organs: tuple[str, ...]  # that it has


SCANS = {
    "ts_example": RealScan(480, tuple(TARGETS)),
    "lidc0001": RealScan(288, tuple(name for name in TARGETS if name != "gallbladder")),
}


def missed(dice: Mapping[str, float], scan: str) -> dict[str, float]:
    """The organs of a scan whose Dice, 0 to 1, lies below its bar."""
    return {name: dice.get(name, 0.0) for name in SCANS[scan].organs if dice.get(name, 0.0) < TARGETS[name]}


def fails(found: Memorised, arm: str) -> bool:
    """Whether an arm misses a bar, on any scan with any seed."""
    return any(missed(dice, scan) for scan, seeds in found.get(arm, {}).items() for dice in seeds.values())


def stays(found: Memorised, arm: str, seeds: Iterable[int]) -> bool:
    """Whether an arm reaches all bars of both scans with all seeds."""
    of = found.get(arm, {})
    return not fails(found, arm) and all(str(seed) in of.get(scan, {}) for scan in SCANS for seed in seeds)


def who_stays(found: Memorised, seeds: Iterable[int] = SEEDS) -> list[str]:
    """The candidates that reach all bars of both scans with all seeds."""
    return [name for name in ON_REAL_SCANS if stays(found, name, seeds)]


def learn(work: Path, data: Path, seeds: Iterable[int], known: Memorised) -> None:
    """Train each candidate on each scan, seed by seed, and score it on the same; one that has failed goes no further.

    `data` is in nnU-Net's raw layout. What is there, or was taken up, is not done again.
    """
    for seed in seeds:
        for arm in (each for each in arms() if each.name in ON_REAL_SCANS):
            for scan in SCANS:
                found = merged(known, scores_of(work))
                if fails(found, arm.name) or str(seed) in found.get(arm.name, {}).get(scan, {}):
                    continue
                _learn(work, data, arm, scan, seed)
                of = scores_of(work)[arm.name][scan][str(seed)]
                print(f"{scan} {arm.name} seed {seed}: {missed(of, scan) or 'all bars reached'}", flush=True)


def config_of(arm: RecipeArm, scan: str, seed: int) -> Config:
    """The whole configuration of one training: that of `--preset strong`, but for the recipe."""
    precision = "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"
    settings = {"learning_rate": BASE["learning_rate"], "precision": precision, **arm.settings}
    settings |= {"iterations": SCANS[scan].steps, "seed": seed}
    return resolve_config(
        "paper", file_values=read_yaml(SETTINGS), options={f"train.{key}": value for key, value in settings.items()}
    )


def _learn(work: Path, data: Path, arm: RecipeArm, scan: str, seed: int) -> None:
    torch.set_num_threads(1)
    run, config = RunFolder(work / "real" / arm.name / scan / f"seed_{seed}"), config_of(arm, scan, seed)
    grid = config.prepare.model_copy(update={"downsample": 2})
    store = single_scan_store(work / "real" / scan, data, scan, SCANS[scan].organs, grid)
    train(store.path, run.path, config, resume=True)
    predict(run.path, data / "imagesTr" / f"{scan}_0000.nii.gz", run.predictions, device="cpu", overwrite=True)
    evaluate(run.predictions, data, run.scores, EvaluateConfig(metrics=("dice",)))


def scores_of(work: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """What has been trained and scored."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(work.glob("real/*/*/seed_*/scores.csv")):
        arm, scan, seed = path.parts[-4:-1]
        found[arm][scan][seed.removeprefix("seed_")] = {
            row.organ: round(row.value, 4)
            for row in read_scores(path)
            if row.metric == "dice" and row.organ in SCANS[scan].organs and row.value is not None
        }
    return {arm: dict(scans) for arm, scans in found.items()}


def merged(known: Memorised, more: Memorised) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Both; of a training that is in both, the latter."""
    return {
        arm: {
            scan: {seed: dict(dice) for of in (known, more) for seed, dice in of.get(arm, {}).get(scan, {}).items()}
            for scan in dict.fromkeys([*known.get(arm, {}), *more.get(arm, {})])
        }
        for arm in dict.fromkeys([*known, *more])
    }
