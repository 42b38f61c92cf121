"""Dice on unseen cases against CPU seconds from raw data on: ours, nnU-Net 2.8 and a MONAI script, one thread each.

    python -m benchmarks.bench_accuracy cost --work FOLDER [--data DATA --name NAME]
    python -m benchmarks.bench_accuracy run --work FOLDER --contender ours|nnunet|… --seed 0 --minutes 7.5
    python -m benchmarks.bench_accuracy all --work FOLDER --minutes 3,7.5,15,30,60 --seeds 0,1,2 [--before "nice -n 15"]
    python -m benchmarks.bench_accuracy page [--work FOLDER]
    python -m benchmarks.bench_accuracy take-up --work FOLDER [--data DATA --name NAME]
    python -m benchmarks.bench_accuracy --quick

**What is compared.** All see the same training cases and are scored on the same unseen ones, on the scans' own grids.
Everything from raw data to label maps counts: preparing, training, prediction. Each point is a training of its own
whose schedule ends at its budget, not a checkpoint on the way of a longer one. Contenders (`--contender`):

- `ours`: the preset `strong` with what `viscera plan --budget` makes of these data, a plan for each budget; or one
  recipe for all of them, by `--preset NAME`, `--config FILE`, `--set KEY=VALUE` (kept as `--recipe NAME`);
- `nnunet`: the plan that its planner makes of these data; `nnunet-cut`: the same with the channels, levels, window and
  batch of ours at an hour, so that a step has about as many multiplications; both also as `…-no-mirroring`, since
  mirrored abdomens have the liver on the left. Each is predicted with and without averaging over mirrored scans
  (`--plain`: the latter another time), and the better counts;
- `monai`: a script as its tutorials have it (`accuracy_monai.py`); `monai-tutorial-rate` at their learning rate.

**The axis** is steps × CPU seconds of a step + what comes before and after, all measured in turn in one short run by
`cost`, which wants a machine without other work. So the trainings themselves may run at low priority, beside anything,
in any number of pieces: `run` and `all` continue where they were stopped. The CPU time that they used is recorded too.

`page` collects what is done into `benchmarks/results/accuracy_NAME.json`, prints `RATIO` lines, and writes
`docs/results/accuracy.md`, which says what is still missing. `take-up` lets an empty work folder, on any machine, go on
from what was collected: costs stay those that were measured, and points are not trained again. Use `.venv-bench`
(`make install-bench`).
"""

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy_cost import Cost, measure_costs
from benchmarks.accuracy_data import PHANTOM, QUICK_PHANTOM, Contender, DataSet, Meter, piece_folder, score, set_up
from benchmarks.accuracy_monai import RATES, Monai
from benchmarks.accuracy_nnunet import NnUNet, Size
from benchmarks.accuracy_ours import Ours, Planned
from benchmarks.accuracy_page import collect, take_up, write_page
from benchmarks.list_options import list_of
from benchmarks.quick import parser_of
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config
from viscera.io.records import read_json, read_yaml, write_json, write_yaml

_PRESET = "strong"
_SIZE = Size(patch=48, batch_size=2, channels=32, levels=4)  # of what `viscera plan` makes of the phantoms at an hour
_QUICK_RECIPE = ["train.patch=16", "train.batch_size=2", "train.filters=4", "train.levels=3"]
PEERS = ("nnunet", "nnunet-no-mirroring", "nnunet-cut", "nnunet-cut-no-mirroring", *RATES)
_BY_DEFAULT = ("ours", *(name for name in PEERS if name != "monai-tutorial-rate"))
_PLAN: dict[str, list[Any]] = {
    "minutes": [3.0, 7.5, 15.0, 30.0, 60.0],
    "seeds": [0, 1, 2],
    "contenders": list(_BY_DEFAULT),
}
_TOLD_EVERY_S = 30.0


Recipe = tuple[str, Config]  # of ours, the same at each budget, and its name


def recipe_of(given: argparse.Namespace, work: Path) -> Recipe | None:
    """The one that was given, now or before, and is kept in the work folder; None: a plan for each budget."""
    if given.preset or given.config or given.set:
        values = read_yaml(given.config) if given.config else {}
        config = resolve_config(given.preset or "paper", values, given.set)
        named = given.recipe or given.preset or given.config.stem
        path = work / "recipes" / f"{named}.yaml"
        written = config.model_dump(mode="json")
        if path.exists() and read_yaml(path) != written:
            raise BadInputError(f"{path}: it holds other settings than those given. Give the recipe another --recipe.")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_yaml(path, written)
        return named, config
    if given.recipe is None:
        return None
    path = work / "recipes" / f"{given.recipe}.yaml"
    if path.exists():
        return given.recipe, Config.model_validate(read_yaml(path))
    raise BadInputError(f"{path}: there is no such recipe. Give it once with --preset, --config or --set.")


def contender_of(name: str, data: DataSet, recipe: Recipe | None, minutes: float) -> Contender:
    """By its name on the command line, within a budget. Raises BadInputError for another."""
    size = Size.of(recipe[1].train) if recipe else _SIZE
    if name == "ours":
        return Ours(data, *recipe) if recipe else Planned(data, _PRESET, minutes)
    if name in RATES:
        return Monai(data, name, size.patch)
    if name in PEERS:
        cut_to = size if name.startswith("nnunet-cut") else None
        return NnUNet(data, cut_to=cut_to, mirroring="no-mirroring" not in name)
    raise BadInputError(f"There is no contender '{name}'. There are: ours, {', '.join(PEERS)}.")


def run_piece(
    data: DataSet,
    contender: Contender,
    seed: int,
    minutes: float,
    *,
    steps: int | None = None,  # these, whatever the budget
    mirrored: bool = True,  # also predict with averaging over mirrored scans, where it can
) -> Path:
    """Train, predict and score one contender within one budget; what is done already is not done again.

    Raises BadInputError where its cost was not measured.
    """
    folder = piece_folder(data.work, contender.key, seed, minutes)
    done, plan = folder / "piece.json", folder / "plan.json"
    ways = ["plain", *(["mirrored"] if contender.mirrors and mirrored else [])]
    before = read_json(done) if done.exists() else None
    if before and (not before["steps"] or set(ways) <= set(before["dice"])):
        return done
    cost = Cost.read(data.work, contender.costs_like)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    if not plan.exists():
        write_json(plan, {"steps": cost.steps_within(minutes) if steps is None else steps})
    steps = int(read_json(plan)["steps"])
    found: dict[str, object] = {
        "contender": contender.key,
        "title": contender.title,
        "costs_like": contender.costs_like,
        "mirrors": contender.mirrors,
    }
    found |= {"seed": seed, "minutes": minutes, "steps": steps}
    if steps == 0:
        write_json(done, {**found, "dice": {}, "process_s": {}})
        return done
    if not contender.prepared.exists():
        contender.prepare_again()
    steps = _trained(contender, steps, seed, folder, cost)
    used = {"train": sum(read_json(path)["train_s"] for path in folder.glob("sitting_*.json"))}
    used, dice = before["process_s"] if before else used, before["dice"] if before else {}
    for how in (each for each in ways if each not in dice):
        out, meter = folder / how, Meter()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        contender.predict(folder / "model", data.scans, out, cost.fast, mirrored=how == "mirrored")
        used[how] = meter.seconds
        dice[how] = score(data, out)
    used = {name: round(value, 1) for name, value in used.items()}
    write_json(done, {**found, "steps": steps, "dice": dice, "process_s": used})
    return done


def _trained(contender: Contender, steps: int, seed: int, folder: Path, cost: Cost) -> int:
    """The steps done; CPU seconds of this sitting are written now and then, as it may be stopped at any time."""
    finished = folder / "trained.json"
    if finished.exists():
        return int(read_json(finished)["steps"])
    meter, sitting, told = Meter(), folder / f"sitting_{time.time_ns()}.json", time.monotonic()

    def on_step() -> None:
        nonlocal told
        if time.monotonic() - told > _TOLD_EVERY_S:
            told = time.monotonic()
            write_json(sitting, {"train_s": meter.seconds})

    steps = contender.train(steps, seed, folder / "model", cost.fast, on_step)
    write_json(sitting, {"train_s": meter.seconds})
    write_json(finished, {"steps": steps})
    return steps


def run_all(given: argparse.Namespace, work: Path) -> None:
    """Every piece in a process of its own, shortest budgets first; one that fails is told of, and the others go on."""
    _plan(work, {"minutes": given.minutes, "seeds": given.seeds, "contenders": given.contenders})
    failed = []
    more = [word for option in ("recipe", "preset") for word in _option(option, getattr(given, option))]
    more += ["--plain"] * given.plain
    more += [*_option("config", given.config), *(word for each in given.set for word in ("--set", each))]
    for minutes in given.minutes:
        for seed in given.seeds:
            for name in given.contenders:
                piece = ["--contender", name, "--seed", str(seed), "--minutes", f"{minutes:g}", "--work", str(work)]
                start = [sys.executable, "-m", "benchmarks.bench_accuracy", "run", *piece, *more]
                if subprocess.run([*shlex.split(given.before), *start], check=False).returncode:
                    failed.append(f"{name}, seed {seed}, {minutes:g} minutes")
    for each in failed:
        print(f"failed: {each}", file=sys.stderr)


def _plan(work: Path, more: Mapping[str, Sequence[object]]) -> None:
    """What is to be done, for the page: all that is asked for by default, and what was asked for beside it."""
    path = work / "planned.json"
    before = read_json(path) if path.exists() else _PLAN
    write_json(path, {key: list(dict.fromkeys([*before[key], *more[key]])) for key in _PLAN})


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [f"--{name}", str(value)]


def quick() -> None:
    """All contenders on very small phantoms, a few steps each; the page is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        work, results = Path(folder) / "work", Path(folder) / "results"
        data = set_up(work, None, "quick", QUICK_PHANTOM)
        recipe = "quick", resolve_config("demo", assignments=_QUICK_RECIPE)
        names = ("ours", "nnunet-cut", "nnunet", "monai")
        contenders = [contender_of(name, data, recipe, 0.1) for name in names]
        measure_costs(data, contenders, rounds=1, seconds=1.0)
        for each in contenders:
            for minutes, steps in ((0.1, 2), (0.2, 4)):
                run_piece(data, each, 0, minutes, steps=steps)
        write_json(work / "planned.json", {"minutes": [0.1, 0.2, 0.4], "seeds": [0], "contenders": list(names)})
        collect(data, results, {name: c.key for name, c in zip(names, contenders, strict=True)})
        write_page(results, Path(folder) / "accuracy.md", Path(folder))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = parser_of(__doc__)
    parser.add_argument("what", nargs="?", choices=["cost", "run", "all", "page", "take-up"], help="see above")
    parser.add_argument("--work", type=Path, help="folder of the data, models and scores")
    parser.add_argument("--data", type=Path, help="data set in nnU-Net's raw layout; by default phantoms are made")
    parser.add_argument("--name", default="phantom", help="of the data set, in the names of results")
    parser.add_argument("--contender", default="ours", help="for `run`")
    parser.add_argument("--contenders", type=list_of(str), default=_PLAN["contenders"], help="for `cost` and `all`")
    parser.add_argument("--seed", type=int, default=0, help="for `run`")
    parser.add_argument("--seeds", type=list_of(int), default=_PLAN["seeds"], help="for `all`")
    parser.add_argument("--minutes", type=list_of(float), default=_PLAN["minutes"], help="budgets of CPU time")
    parser.add_argument("--before", default="", help="for `all`: words before each piece's command, as `nice -n 15`")
    parser.add_argument("--plain", action="store_true", help="leave predictions of mirrored scans for another time")
    parser.add_argument("--rounds", type=int, default=3, help="for `cost`: repeats (default 3)")
    parser.add_argument("--recipe", help="name of our recipe in the work folder")
    parser.add_argument("--preset", help="of ours")
    parser.add_argument("--config", type=Path, help="of ours")
    parser.add_argument("--set", action="append", default=[], help="of ours: KEY=VALUE")
    given = parser.parse_args(arguments)
    if not given.quick and (given.what is None or (given.work is None and given.what != "page")):
        parser.error("give one of cost, run, all, page, take-up, and --work FOLDER; or --quick")
    return given


def main() -> None:
    """Do what the command line asks for."""
    given = parsed(sys.argv[1:])
    warnings.simplefilter("ignore")  # of the peers, about themselves
    logging.getLogger("viscera").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        if given.quick:
            quick()
        elif given.work is None:
            write_page()
        else:
            _of_work_folder(given, given.work.resolve())
    except BadInputError as error:
        sys.exit(f"{error}")


def _of_work_folder(given: argparse.Namespace, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    begins = given.what in {"cost", "take-up"}
    data = set_up(work, given.data, given.name, PHANTOM) if begins else DataSet.opened(work)
    if given.what == "take-up":
        print(f"{take_up(data)} points taken")
        return
    recipe = recipe_of(given, work)
    budgets = given.minutes
    if given.what == "cost":
        by_cost = {
            each.costs_like: each
            for minutes in budgets
            for each in (contender_of(name, data, recipe, minutes) for name in given.contenders)
            if each.costs_like.startswith(each.key)
        }
        measure_costs(data, by_cost.values(), given.rounds)
    elif given.what == "run":
        contender = contender_of(given.contender, data, recipe, budgets[0])
        print(run_piece(data, contender, given.seed, budgets[0], mirrored=not given.plain))
    elif given.what == "all":
        run_all(given, work)
    else:
        names = {name: contender_of(name, data, recipe, budgets[0]).key for name in ("ours", *PEERS)}
        collect(data, names=names)
        write_page()


if __name__ == "__main__":
    main()
