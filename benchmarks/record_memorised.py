"""Write how well models have learnt single real scans by heart, as a page.

    make memorise DATA=FOLDER
    make memorise-strong DATA=FOLDER

FOLDER is a data set in nnU-Net raw layout with the cases `ts_example` and `lidc0001`.
"""

import argparse
import datetime as dt
from pathlib import Path

from tabulate import tabulate

from benchmarks.downsampling_cost import cost
from viscera.core.anatomy import ORGANS
from viscera.core.config import TrainConfig
from viscera.core.settings import along_axes, differences
from viscera.io.files import write_text
from viscera.io.runlog import RunFolder, read_config
from viscera.io.scores import read_scores
from viscera.io.store import Store

TARGETS = dict.fromkeys((organ.name for organ in ORGANS), 0.75) | {"liver": 0.90, "spleen": 0.90, "stomach": 0.90}
_INGREDIENTS = (
    "organ_windows",
    "average",
    "loss.",
    "intensity.",
    "rate_schedule.",
    "optimiser.",
    "network.",
    "augment.",
)
INTRODUCTION = """\
# Single real scans learnt by heart{with_preset}

**Memorisation**: each model is trained on one scan and predicts that same scan. It shows that reading, preparing,
training, restoring and scoring fit together on real CT, and that the network can represent these labels. It says
nothing about any other patient. The labels come from a published model and not from experts; artery is the aorta only.

Dice on the scan's own grid, with what the network's grid allows at best (the truth brought to it and written back,
[what downsampling costs](downsampling-cost.md)) and what was asked for beforehand.
"""
OF_STRONG = """
With the recipe of `--preset strong`, in half the processor time of the [paper's preset](memorised-real-ct.md): 0.48
times its steps, as a step takes 1.02 times as long ([ablation](recipes.md)). What is missed here decides on the recipe,
too: the seventh round of [decision 0035](../decisions/0035-the-strong-recipe.md).
"""


def section(work: Path) -> str:
    """One case: its table, and how it was trained."""
    run, store = RunFolder(work / "run"), Store.open(work / "store")
    config, status = read_config(run.config_path), run.read_status()
    if status is None:
        raise SystemExit(f"{run.path}: not trained yet.")
    (name,) = store.names("train")
    truth = store.original_labels(name)
    allowed = dict(zip(store.classes.names[1:], cost(truth, config.prepare, "probabilities").dice, strict=False))
    rows = []
    for row in read_scores(work / "scores.csv"):
        if row.metric == "dice" and row.organ != "background" and row.value is not None:
            best, target = allowed[row.organ], TARGETS[row.organ]
            verdict = "yes" if row.value >= target else "**no**"
            rows.append([row.organ.replace("_", " "), f"{row.value:.3f}", f"{best:.3f}", f"{target:.2f}", verdict])
    table = tabulate(
        rows, ["organ", "Dice", "the grid allows", "asked for", "reached"], tablefmt="pipe", disable_numparse=True
    )
    spacing = "×".join(f"{mm:.3g}" for mm in store.original_geometry(name).spacing_mm)
    voxels = "×".join(str(n) for n in store.original_geometry(name).shape)
    factors = ", ".join(f"{factor:g}" for factor in along_axes(config.prepare.downsample))
    train = config.train
    return f"""\
## {name}

{voxels} voxels of {spacing} mm, downsampled by {factors}.
{status.step:,} steps of {train.batch_size} patch of {train.patch}³, {train.filters} filters,
{train.weighting} weights, rate {train.learning_rate:g}, {train.precision}{_recipe(train)}:
{_time(work, status.wall_seconds)} on {status.threads} core
({status.hardware}; torch {status.versions["torch"]}).

{table}
"""


def _time(work: Path, wall_seconds: float) -> str:
    """Of the training: the processor's, which other work beside it hardly changes, where the script measured it."""
    measured = work / "processor_seconds.txt"  # a line for each time that the command was run
    if not measured.exists():
        return f"{wall_seconds / 60:.0f} min"
    return f"{sum(map(float, measured.read_text(encoding='utf-8').split())) / 60:.1f} min of the processor"


def _recipe(train: TrainConfig) -> str:
    """What else differs from the paper's preset in the recipe: its ingredients, none of the sizes."""
    changed = (text.split(" (now ") for text in differences(TrainConfig(), train))
    told = [f"{before.split()[0]} {now.rstrip(')')}" for before, now in changed if before.startswith(_INGREDIENTS)]
    return f" ({', '.join(told)})" if told else ""


def main() -> None:
    """Read what was trained and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=["paper", "strong"], default="paper")
    arguments = parser.parse_args()
    works = sorted(path.parent for path in arguments.folder.glob("*/scores.csv"))
    target = "memorise" if arguments.preset == "paper" else "memorise-strong"
    made = f"Made by `make {target}`, {dt.datetime.now(tz=dt.UTC).date().isoformat()}.\n"
    introduction = INTRODUCTION.format(with_preset="")
    if arguments.preset == "strong":
        introduction = INTRODUCTION.format(with_preset=", with `--preset strong`") + OF_STRONG
    write_text(arguments.out, "\n".join([introduction, *map(section, works), made]))
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
