"""The ablation of docs/decisions/0035, in resumable pieces, and its page.

    python -m benchmarks.recipes cost WORK
    python -m benchmarks.recipes ablation WORK [--seeds 0]
    python -m benchmarks.recipes page WORK --out docs/results/recipes.md

WORK holds the data, the runs and their scores; what is there is not done again. `cost` is to be run with nothing beside
it; the others may be stopped and run at any time. One thread.
"""

import argparse
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.recipe_arms import (
    BASE,
    BASE_STEPS,
    SEEDS,
    RecipeArm,
    arms,
    effects,
    steps_of,
)
from benchmarks.record import processor_kind, versions
from benchmarks.record_demo import foreground_dice
from viscera.core.config import Config, EvaluateConfig, PrepareConfig
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Feed, facts_of, feed_of
from viscera.engine.hardware import describe_hardware
from viscera.engine.precision_probe import decided
from viscera.engine.trainer import Trainer
from viscera.io.files import write_text
from viscera.io.records import read_json, write_json
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict_store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

log = logging.getLogger("benchmarks.recipes")
CPU = torch.device("cpu")
PAIRS = 21  # of steps, arm beside base; the machine changes its speed within seconds
PHANTOMS = {"a": (0, (48, 36, 36)), "b": (500, (56, 40, 36))}  # of docs/decisions/0035: seed and shape


def store_of(work: Path, name: str) -> Store:
    """The store of a set of phantoms, made where it is not there."""
    seed, shape = PHANTOMS[name]
    path = work / name / "store"
    if not path.exists():
        make_phantoms(work / name / "phantom", 28, seed, shape)
        prepare(
            work / name / "phantom", path, PrepareConfig(downsample=1, test_fraction=0.286, validation_fraction=0.143)
        )
    return Store.open(path)


def config_of(arm: RecipeArm, precision: Mapping[str, Any], steps: int, seed: int) -> Config:
    """The whole configuration of one training of an arm."""
    settings = {**BASE, **precision, **arm.settings, "iterations": steps, "seed": seed}
    return resolve_config("demo", options={f"train.{key}": value for key, value in settings.items()})


def cost(work: Path) -> None:
    """Time a step of each arm beside one of the base, in turn; `cost.json` in the working folder."""
    torch.set_num_threads(1)
    store = store_of(work, "a")
    chosen = decided(resolve_config("demo").train, len(store.classes), CPU)
    precision = {"precision": chosen.precision, "memory_layout": chosen.memory_layout}
    trainers = {}
    for arm in arms():
        config = config_of(arm, precision, 1000, 0)
        trainers[arm.name] = Trainer.create(config, facts_of(store, config), CPU), feed_of(store, config.train)
    ratios: dict[str, list[float]] = defaultdict(list)
    for step in range(1, PAIRS + 1):
        for name, (trainer, feed) in trainers.items():
            base, other = (_seconds(*each, step) for each in (trainers["base"], (trainer, feed)))
            if step > 1:  # the first warms up
                ratios[name].append(round(other / base, 4))
    write_json(
        work / "cost.json",
        {
            "times_base": {name: statistics.median(values) for name, values in ratios.items()},
            "pairs": ratios,
            **precision,
            "hardware": describe_hardware(CPU),
            "processor": processor_kind(),
            "versions": versions(["viscera", "torch", "numpy"]),
        },
    )


def _seconds(trainer: Trainer, feed: Feed, step: int) -> float:
    """Of the processor, for one step."""
    started = time.process_time()
    trainer.training_step(feed.batch(step))
    if trainer.average is not None:
        trainer.average.update(trainer.network, step)
    return time.process_time() - started


def trained_and_scored(store: Store, folder: Path, config: Config) -> float:
    """Mean foreground Dice of one training on the test cases, 0 to 1; what is done already is not done again."""
    run = RunFolder(folder)
    if not run.scores.exists():
        torch.set_num_threads(1)
        started = time.process_time()
        train(store.path, folder, config, resume=True)
        trained = time.process_time()
        predict_store(folder, store, store.names("test"), run.predictions)
        evaluate(run.predictions, store.path, run.scores, EvaluateConfig(metrics=("dice",)), all_or_none=True)
        write_json(folder / "seconds.json", {"train_s": trained - started, "predict_s": time.process_time() - trained})
    return foreground_dice(run.scores)


def ablation(work: Path, seeds: Iterable[int]) -> None:
    """Train and score all arms on set A, seed by seed."""
    measured, store = read_json(work / "cost.json"), store_of(work, "a")
    precision = {key: measured[key] for key in ("precision", "memory_layout")}
    for seed in seeds:
        for arm in arms():
            config = config_of(arm, precision, steps_of(measured["times_base"][arm.name], BASE_STEPS), seed)
            value = trained_and_scored(store, work / "a" / "ablation" / arm.name / f"seed_{seed}", config)
            print(f"{arm.name} seed {seed}: {config.train.iterations} steps, {value:.3f}", flush=True)


def dice_of(work: Path) -> dict[str, dict[int, float]]:
    """What there is of the ablation: mean foreground Dice by arm and seed, 0 to 1."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for arm in arms():
        for run in sorted((work / "a" / "ablation" / arm.name).glob("seed_*")):
            if (scores := RunFolder(run).scores).exists():
                found[arm.name][int(run.name.removeprefix("seed_"))] = foreground_dice(scores)
    return dict(found)


def page(work: Path) -> str:
    """The page of what there is."""
    measured, dice = read_json(work / "cost.json"), dice_of(work)
    gains = {effect.ingredient: effect for effect in effects(dice)}
    rows = [_row(arm, measured["times_base"], dice) for arm in arms() if arm.name in dice]
    header = ["arm", "time of a step", "steps", "Dice, by seed", "median", "over base, points"]
    columns = ["ingredient", "alone, over the base", "within all", "enters"]
    rule = [
        [name, f"{gain.alone:+.1f}", f"{gain.within_all:+.1f}", "yes" if gain.enters else "no"]
        for name, gain in gains.items()
    ]
    done = sum(len(seeds) for seeds in dice.values())
    return f"""# Which ingredients make a better recipe: the ablation

What the ingredients of docs/recipes.md give at equal processor time, and what `--preset strong` is made of. Design and
rules, written before it was run: [decision 0035](../decisions/0035-the-strong-recipe.md). **Phantom, not patients.**

## Each alone, all, and all but each: set A

The demo's phantom and network; every arm has as many steps as take the time of {BASE_STEPS} steps of the base. {done}
of {len(arms()) * len(SEEDS)} trainings are in. Dice is the mean over the organs of mean test Dice.

{tabulate(rows, header, tablefmt="pipe", disable_numparse=True)}

## Rule 1: what enters

Points of Dice, medians over the seeds, paired by seed.

{tabulate(rule, columns, tablefmt="pipe", disable_numparse=True)}

{measured["hardware"]}, one thread, {measured["precision"]}; torch {measured["versions"]["torch"]}.
Made by `make study-recipes`.
"""


def _row(arm: RecipeArm, times_base: Mapping[str, float], dice: Mapping[str, Mapping[int, float]]) -> list[str]:
    values, base = dice[arm.name], dice.get("base", {})
    paired = [100 * (values[seed] - base[seed]) for seed in values.keys() & base.keys()]
    return [
        arm.name,
        f"{times_base[arm.name]:.2f}",
        str(steps_of(times_base[arm.name], BASE_STEPS)),
        " ".join(f"{value:.3f}" for _, value in sorted(values.items())),
        f"{statistics.median(values.values()):.3f}",
        f"{statistics.median(paired):+.1f}" if paired else "",
    ]


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=["cost", "ablation", "page"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--out", type=Path, default=Path("docs/results/recipes.md"))
    arguments = parser.parse_args()
    if arguments.piece == "cost":
        cost(arguments.work)
    elif arguments.piece == "ablation":
        ablation(arguments.work, [int(seed) for seed in arguments.seeds.split(",")])
    else:
        write_text(arguments.out, page(arguments.work))


if __name__ == "__main__":
    main()
