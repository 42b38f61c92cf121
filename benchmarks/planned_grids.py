"""How large a share of the median scan should a patch of a plan hold? The ablation of docs/decisions/0055.

    python -m benchmarks.planned_grids sets WORK
    python -m benchmarks.planned_grids run WORK [--seeds 0,1] [--minutes 7.5,30]
    python -m benchmarks.planned_grids collect WORK

On phantoms that decide on nothing else, in pieces that may be stopped and run at any time, several of other seeds at
once. The patch, the width and the steps of each budget are those that `viscera plan` gave it on the phantoms of
`bench_accuracy`; the share alone decides on the voxels, so every training of a budget takes as long. `collect` writes
what there is to `benchmarks/results/planned_grids.json`, beside what is there already, and to
`docs/results/planned-grids.md`.
"""

import argparse
import itertools
import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from tabulate import tabulate

from benchmarks.accuracy_data import PHANTOM, DataSet, Fast, score, set_up
from benchmarks.accuracy_ours import Ours
from benchmarks.list_options import list_of
from benchmarks.record import RESULTS
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import computes_bfloat16, describe_hardware
from viscera.io.records import read_json, write_json
from viscera.io.store import Store
from viscera.planning.fingerprint import fingerprint
from viscera.planning.grid_rules import planned_grid
from viscera.planning.plan_rules import LEAST_WINDOWS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "planned-grids.md"
NAME = "planned_grids.json"
PHANTOMS = replace(PHANTOM, seed=900)  # otherwise those of the accuracy curve
SHARES = (0.25, 0.1, 0.04)  # of the median scan, that a patch is to hold at least
ALIKE = 0.5  # points of Dice; of shares that are no further behind, the largest: a coarse store takes less
CPU = torch.device("cpu")


class Sizes(NamedTuple):
    """What a budget allows."""

    patch: int
    filters: int
    steps: int


BUDGETS = {7.5: Sizes(32, 8, 4400), 30.0: Sizes(48, 8, 5600)}  # CPU minutes
Found = Mapping[str, Mapping[str, Mapping[str, float]]]  # Dice, 0 to 1, by budget, mm and seed


def config_of(spacing_mm: float, sizes: Sizes) -> Config:
    """`--preset strong` with the sizes of a budget, on voxels of that size."""
    return resolve_config(
        "strong",
        options={
            "prepare.spacing_mm": spacing_mm,
            "prepare.label_downsampling": "majority",
            "train.patch": sizes.patch,
            "train.filters": sizes.filters,
            "train.batch_size": LEAST_WINDOWS,
            "train.rate_schedule.shape": "polynomial",
        },
    )


def spacings(native: Store) -> dict[str, dict[str, float]]:
    """Voxels in mm that each share wants, by budget and share."""
    data = fingerprint(native)
    return {
        f"{minutes:g}": {f"{share:g}": planned_grid(data, sizes.patch, share).spacing_mm[0] for share in SHARES}
        for minutes, sizes in BUDGETS.items()
    }


def sets(work: Path) -> None:
    """Phantoms, and a store for each size of voxels; what is there stays."""
    torch.set_num_threads(1)
    data = set_up(work, None, "planned_grids", PHANTOMS)
    native = _prepared(Ours(data, "native", resolve_config("strong")))
    wanted = spacings(Store.open(native.prepared))
    for budget, sizes in BUDGETS.items():
        for mm in wanted[f"{budget:g}"].values():
            _prepared(_ours(data, mm, sizes))
    write_json(work / "spacings.json", wanted)


def _ours(data: DataSet, mm: float, sizes: Sizes) -> Ours:
    return Ours(data, f"{mm:g}-mm", config_of(mm, sizes))


def _prepared(ours: Ours) -> Ours:
    if not ours.prepared.exists():
        ours.prepare()
    return ours


def run(work: Path, minutes: Iterable[float], seeds: Iterable[int]) -> None:
    """Train and score what is not there yet, seed by seed."""
    torch.set_num_threads(1)
    data, wanted = DataSet.opened(work), read_json(work / "spacings.json")
    for seed, budget in itertools.product(seeds, minutes):
        for mm in sorted(set(wanted[f"{budget:g}"].values())):
            folder = work / "trained" / f"{budget:g}" / f"{mm:g}" / f"{seed}"
            dice = _trained(_ours(data, mm, BUDGETS[budget]), BUDGETS[budget].steps, folder)
            print(f"{budget:g} min, {mm:g} mm, seed {seed}: {dice:.3f}", flush=True)


def _trained(ours: Ours, steps: int, folder: Path) -> float:
    scored = folder / "dice.json"
    if not scored.exists():
        fast = Fast(bfloat16=computes_bfloat16(CPU), channels_last=True)
        ours.train(steps, int(folder.name), folder / "model", fast, lambda: None)
        (folder / "out").mkdir(exist_ok=True)
        ours.predict(folder / "model", ours.data.scans, folder / "out", fast, mirrored=False)
        write_json(scored, score(ours.data, folder / "out"))
    return float(read_json(scored)["foreground"])


def collect(work: Path) -> None:
    """Write the results that there are, and their page."""
    wanted, results = read_json(work / "spacings.json"), RESULTS / NAME
    known = read_json(results) if results.exists() else {}
    dice: dict[str, dict[str, dict[str, float]]] = known["dice"] if known.get("spacings") == wanted else {}
    for scored in sorted((work / "trained").glob("*/*/*/dice.json")):
        budget, mm, seed = scored.parts[-4:-1]
        dice.setdefault(budget, {}).setdefault(mm, {})[seed] = read_json(scored)["foreground"]
    content = {"spacings": wanted, "dice": dice, "hardware": describe_hardware(CPU)}
    write_json(results, content)
    PAGE.write_text(page(content), encoding="utf-8")


def means(spacings: Mapping[str, Mapping[str, float]], dice: Found) -> dict[float, float]:
    """Of the budgets' means over seeds, by share; those alone that are there for every budget."""
    found: dict[float, list[float]] = {}
    for budget, of_shares in spacings.items():
        for share, mm in of_shares.items():
            if seeds := dice.get(budget, {}).get(f"{mm:g}"):
                found.setdefault(float(share), []).append(fmean(seeds.values()))
    return {share: fmean(values) for share, values in found.items() if len(values) == len(spacings)}


def chosen(by_share: Mapping[float, float]) -> float:
    """By the rule of docs/decisions/0055: of the shares that are alike to the best, the largest."""
    return max(share for share, value in by_share.items() if value >= max(by_share.values()) - ALIKE / 100)


def page(content: Mapping[str, Any]) -> str:
    """The whole page."""
    spacings, dice = content["spacings"], content["dice"]
    by_share = means(spacings, dice)
    rows = [
        [
            f"{share:.0%}",
            *(cell for budget in spacings for cell in _cells(budget, spacings[budget][f"{share:g}"], dice)),
            f"{by_share[share]:.3f}" if share in by_share else "–",
        ]
        for share in SHARES
    ]
    columns = [f"{budget} min{of}" for budget in spacings for of in (", mm", ", Dice by seed")]
    table = tabulate(rows, ["share of a scan", *columns, "mean"], tablefmt="pipe", disable_numparse=True)
    complete = len(by_share) == len(SHARES)
    told = f"By the rule it is **{chosen(by_share):.0%}**." if complete else "Not all trainings are in yet."
    return f"""# How large a share of a scan a patch should hold

`viscera plan` makes voxels coarser until a patch holds a certain share of the median scan. How large it should be, by
the rule of [decision 0055](../decisions/0055-the-grid-of-a-plan.md): foreground Dice on six unseen phantoms of 3 mm
(seed {PHANTOMS.seed}), on the scans' own grids, of trainings with `--preset strong` that differ in the size of their
voxels alone. **Phantoms, not patients.**

{table}

{told}

{content["hardware"]}, one thread. Made by `python -m benchmarks.planned_grids`.
"""


def _cells(budget: str, mm: float, dice: Found) -> tuple[str, str]:
    seeds = dice.get(budget, {}).get(f"{mm:g}", {})
    return f"{mm:g}", " ".join(f"{seeds[seed]:.3f}" for seed in sorted(seeds, key=int)) or "–"


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=["sets", "run", "collect"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=list_of(int), default=[0, 1])
    parser.add_argument("--minutes", type=list_of(float), default=[*BUDGETS])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("viscera").setLevel(logging.ERROR)
    if given.piece == "sets":
        sets(given.work.resolve())
    elif given.piece == "run":
        run(given.work.resolve(), given.minutes, given.seeds)
    else:
        collect(given.work)


if __name__ == "__main__":
    main()
