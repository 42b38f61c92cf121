"""The ablation of docs/decisions/0035, in resumable pieces.

    python -m benchmarks.recipes sets WORK [--shapes FOLDER]
    python -m benchmarks.recipes cost WORK
    python -m benchmarks.recipes ablation WORK [--seeds 0]
    python -m benchmarks.recipes shapes WORK --shapes FOLDER [--seeds 0]
    python -m benchmarks.recipes real WORK --data FOLDER [--seeds 0]
    python -m benchmarks.recipes confirm WORK [--shapes FOLDER] [--seeds 3] [--budgets 300]
    python -m benchmarks.recipes collect WORK
    python -m benchmarks.recipes_page
    python -m benchmarks.recipes take-up WORK

WORK holds the data, the runs and their scores; what is there is not done again. `cost` is to be run with nothing beside
it; `ablation`, `shapes` (the fifth round), `real` (the seventh) and `confirm` may be stopped and run at any time,
several of other seeds at once. One thread each. `collect` writes what there is to `benchmarks/results/`, of which the
page is made; `take-up`, in a WORK that is empty, goes on from what was collected there, also on another kind of
processor: each arm keeps the steps that `cost` gave it on the first. FOLDER of `--shapes` holds the real organ shapes
with simulated HU, that of `--data` the scans ts_example and lidc0001, both in nnU-Net's raw layout.
"""

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from benchmarks.list_options import list_of
from benchmarks.recipe_arms import (
    BASE,
    BASE_STEPS,
    BUDGETS,
    CONFIRMING_SEEDS,
    ON_SHAPES,
    SEEDS,
    SHAPES_BUDGETS,
    WEIGHTINGS,
    RecipeArm,
    arms,
    confirmed_on,
    name_of_strong,
    steps_of,
)
from benchmarks.recipes_on_real_scans import learn, merged, scores_of
from benchmarks.record import RESULTS, processor_kind, versions
from benchmarks.record_demo import foreground_dice
from benchmarks.stores import phantom_store, shapes_store
from viscera.core.config import Config, EvaluateConfig
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Feed, facts_of, feed_of, with_training_set
from viscera.engine.hardware import describe_hardware
from viscera.engine.precision_probe import decided
from viscera.engine.trainer import Trainer
from viscera.io.records import read_json, write_json
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.stages.train import train

_PIECES = ("sets", "cost", "ablation", "shapes", "real", "confirm", "collect", "take-up")
CPU = torch.device("cpu")
NAME = "recipes.json"  # in benchmarks/results
PAIRS = 21  # of steps, arm beside base; the machine changes its speed within seconds
PHANTOMS = {"a": (0, (48, 36, 36)), "b": (500, (56, 40, 36))}  # of docs/decisions/0035: seed and shape


def store_of(work: Path, name: str) -> Store:
    """The store of a set of phantoms, made where it is not there."""
    seed, shape = PHANTOMS[name]
    return phantom_store(work / name, 28, seed, shape, test=0.286, validation=0.143)


def config_of(arm: RecipeArm, precision: Mapping[str, Any], steps: int, seed: int) -> Config:
    """The whole configuration of one training of an arm."""
    settings = {**BASE, **precision, **arm.settings, "iterations": steps, "seed": seed}
    return resolve_config("demo", options={f"train.{key}": value for key, value in settings.items()})


def cost(work: Path) -> None:
    """Time a step of each arm beside one of the base, in turn; `cost.json` keeps those that were timed before."""
    torch.set_num_threads(1)
    store, path = store_of(work, "a"), work / "cost.json"
    found = read_json(path) if path.exists() else {"times_base": {}, "pairs": {}}
    chosen = decided(resolve_config("demo").train, len(store.classes), CPU)
    precision = {key: found.get(key, getattr(chosen, key)) for key in ("precision", "memory_layout")}
    trainers = {}
    for arm in [RecipeArm("base", {}), *arms()]:
        if arm.name == "base" or arm.name not in found["times_base"]:
            config = with_training_set(config_of(arm, precision, 1000, 0), store)
            trainers[arm.name] = Trainer.create(config, facts_of(store, config), CPU), feed_of(store, config.train)
    ratios: dict[str, list[float]] = defaultdict(list)
    for step in range(1, PAIRS + 1):
        for name, (trainer, feed) in trainers.items():
            base, other = (_seconds(*each, step) for each in (trainers["base"], (trainer, feed)))
            if step > 1:  # the first warms up
                ratios[name].append(round(other / base, 4))
    times = {name: statistics.median(values) for name, values in ratios.items()}
    write_json(
        path,
        {
            "times_base": {**times, **found["times_base"]},
            "pairs": {**ratios, **found["pairs"]},
            **precision,
            "hardware": _with(describe_hardware(CPU), found.get("hardware")),
            "processor": _with(processor_kind(), found.get("processor")),
            "versions": versions(["viscera", "torch", "numpy"]),
        },
    )


def _with(here: str, before: str | None) -> str:
    """Where steps were timed, each place once; ratios to the base's are of one place each."""
    return "; ".join(sorted({here, *(before.split("; ") if before else ())}))


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


class Round(NamedTuple):
    """Arms on one set, each in the time of so many steps of the base."""

    prefix: str  # of what is said of a training
    store: Store
    folder: Path  # of the arms
    arms: Sequence[RecipeArm]
    base_steps: int
    known: Mapping[str, Mapping[str, float]]  # scores that were taken up, by arm and seed
    steps: Mapping[str, int] = MappingProxyType({})  # that arms were taken up with


def run_rounds(work: Path, rounds: Sequence[Round], seeds: Iterable[int]) -> None:
    """Train and score all arms of all rounds, seed by seed; what is there, or was taken up, is not done again."""
    measured = read_json(work / "cost.json")
    precision = {key: measured[key] for key in ("precision", "memory_layout")}
    for seed, each in itertools.product(seeds, rounds):
        for arm in each.arms:
            if str(seed) in each.known.get(arm.name, {}):
                continue
            folder = each.folder / arm.name
            steps = each.steps.get(arm.name) or steps_taken(folder)
            timed = name_of_strong() if arm.name.startswith("strong") else arm.name  # all its weightings take as long
            steps = steps or steps_of(measured["times_base"][timed], each.base_steps)
            value = trained_and_scored(each.store, folder / f"seed_{seed}", config_of(arm, precision, steps, seed))
            print(f"{each.prefix}{arm.name} seed {seed}: {steps} steps, {value:.3f}", flush=True)


def ablation(work: Path) -> list[Round]:
    """All arms on set A."""
    known, store = taken_up(work), store_of(work, "a")
    return [Round("", store, work / "a" / "ablation", arms(), BASE_STEPS, known["ablation"], known["steps"])]


def on_shapes(work: Path, shapes: Path) -> list[Round]:
    """The fifth round: the base and the candidates on set C."""
    known, store = taken_up(work)["shapes"], shapes_store(work / "c", shapes, 0.3)
    candidates = [arm for arm in arms() if arm.name in ("base", *ON_SHAPES)]
    return [
        Round(f"c {steps} ", store, work / "c" / f"ablation_{steps}", candidates, steps, known.get(str(steps), {}))
        for steps in SHAPES_BUDGETS
    ]


def confirmation(work: Path, shapes: Path | None, budgets: Iterable[int]) -> list[Round]:
    """Rules 3 to 5: the base, and `--preset strong` with each weighting, on all sets and budgets."""
    known, stores = taken_up(work)["confirmation"], all_sets(work, shapes)
    found = []
    for steps, (name, store) in itertools.product(budgets, stores.items()):
        folder, of_set = work / name / f"confirm_{steps}", known.get(name, {})
        found.append(
            Round(f"{name} {steps} ", store, folder, confirmed_on(name, steps), steps, of_set.get(str(steps), {}))
        )
    return found


def steps_taken(arm: Path) -> int | None:
    """Steps of the first training of an arm, which those of other seeds have too; None where there is none."""
    runs = sorted(arm.glob("seed_*/config.yaml"))
    return read_config(runs[0]).train.iterations if runs else None


def all_sets(work: Path, shapes: Path | None) -> dict[str, Store]:
    """The stores of sets A and B, and of C where there is a folder of it; made where they are not there."""
    stores = {name: store_of(work, name) for name in PHANTOMS}
    return stores if shapes is None else {**stores, "c": shapes_store(work / "c", shapes, 0.3)}


def collect(work: Path) -> None:
    """Write what there is, and what was taken up, to `benchmarks/results/recipes.json`."""
    content = taken_up(work)
    content["cost"] = read_json(work / "cost.json")
    if any(work.glob("*/*/*/seed_*")):
        content["trained_on"] = sorted({*content["trained_on"], describe_hardware(CPU)})
    _add(content["ablation"], _scores(work / "a" / "ablation"))
    for arm in content["ablation"]:
        content["steps"].setdefault(arm, steps_taken(work / "a" / "ablation" / arm))
    for folder in sorted((work / "c").glob("ablation_*")):
        _add(content["shapes"].setdefault(folder.name.removeprefix("ablation_"), {}), _scores(folder))
    content |= {"mean_weights": _mean_weights(work)} if (work / "a" / "store").exists() else {}
    memorised = merged(content.get("memorised", {}), scores_of(work))
    content |= {"memorised": memorised} if memorised else {}
    for folder in sorted(work.glob("?/confirm_*")):
        of_set = content["confirmation"].setdefault(folder.parent.name, {})
        _add(of_set.setdefault(folder.name.removeprefix("confirm_"), {}), _scores(folder))
    write_json(RESULTS / NAME, content)


def _mean_weights(work: Path) -> dict[str, dict[str, float]]:
    """Of the classes in the Dice loss, as in the paper, by set and weighting."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, weighting in itertools.product(PHANTOMS, WEIGHTINGS):
        config = resolve_config("demo", options={"train.weighting": weighting})
        weights = facts_of(store_of(work, name), config).class_weights.at(0)
        found[name][weighting] = float(f"{weights.mean().item():.3g}")
    return dict(found)


def take_up(work: Path) -> None:
    """Let the other pieces go on from what was collected, with the steps that the processor of `cost` gave each arm."""
    content = read_json(RESULTS / NAME)
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / "cost.json", content["cost"])
    write_json(work / "taken_up.json", content)


def taken_up(work: Path) -> dict[str, Any]:
    """What the folder went on from: scores of the ablation and of the confirmation, and the steps of each arm."""
    path = work / "taken_up.json"
    return (
        read_json(path)
        if path.exists()
        else {"ablation": {}, "steps": {}, "shapes": {}, "confirmation": {}, "trained_on": []}
    )


def _add(to: dict[str, dict[str, float]], scores: Mapping[str, Mapping[str, float]]) -> None:
    for arm, of in scores.items():
        to.setdefault(arm, {}).update(of)


def _scores(folder: Path) -> dict[str, dict[str, float]]:
    """Mean foreground Dice by arm and seed, 0 to 1, of the trainings that have been scored."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for scores in sorted(folder.glob("*/seed_*/scores.csv")):
        run = scores.parent
        found[run.parent.name][run.name.removeprefix("seed_")] = round(foreground_dice(scores), 5)
    return dict(found)


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=_PIECES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=list_of(int))
    parser.add_argument("--budgets", type=list_of(int), default=BUDGETS, help="steps of the base whose time there is")
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--data", type=Path, help="nnU-Net folder with ts_example and lidc0001, for `real`")
    given = parser.parse_args()
    if given.piece == "sets":
        all_sets(given.work, given.shapes)
    elif given.piece == "cost":
        cost(given.work)
    elif given.piece == "ablation":
        run_rounds(given.work, ablation(given.work), given.seeds or SEEDS)
    elif given.piece == "shapes":
        run_rounds(given.work, on_shapes(given.work, given.shapes), given.seeds or SEEDS)
    elif given.piece == "real":
        if given.data is None:
            parser.error("real needs --data FOLDER")
        learn(given.work, given.data, given.seeds or SEEDS, taken_up(given.work).get("memorised", {}))
    elif given.piece == "confirm":
        rounds = confirmation(given.work, given.shapes, given.budgets)
        run_rounds(given.work, rounds, given.seeds or CONFIRMING_SEEDS)
    elif given.piece == "collect":
        collect(given.work)
    else:
        take_up(given.work)


if __name__ == "__main__":
    main()
