"""How far the loss and the gradient of a batch of 3 k windows are from the mean over k batches of three.

    python -m benchmarks.batch_statistics [--store STORE --name NAME] [--quick]

Eq. 2 is a ratio of sums over a batch: with S and C the intersection and the cardinality of batch j of three, a batch of
all has -2 Σ S_j / Σ C_j, which is the mean of the batches' own -2 S_j / C_j weighted by C_j. The two are the same only
where C_j does not vary with the ratio. Two effects are large for organs that many windows lack: a batch without the
organ has the term 0 and **no gradient** for it, while in a batch that has it elsewhere its false positives count; and
batches of three with the organ are so many fewer than all, so that its weight grows with the batch. Batch normalisation
over more windows is another function of each window, too.

Measured at the demo's settings (300 steps of batches of three, 24³, 8 filters, uniform weights), on the first step and
after the last, on the same windows for every k: how the mean gradient differs (`gradient`), by Dice alone
(`by_dice`: statistics of threes) and by batch normalisation alone (`by_norm`: Dice of threes). All are shares of the
length of the mean gradient of batches of three. `noise` is what the mean over k batches of three scatters by from draw
to draw; while `gradient` is below, a step's change of aim is less than what chance does to it anyway.

Without a store the demo's 28 phantoms are used. Results of other stores are added under their name. Quick: few windows.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.quick import parser_of
from benchmarks.record import RESULTS, record
from viscera.core.anatomy import title_of
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine.feed import NetworkInput, facts_of, feed_of, with_training_set
from viscera.engine.trainer import Trainer
from viscera.io.store import Store
from viscera.losses.dice import WeightedDiceLoss
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare

NAME = "batch_statistics"
THREE = 3  # windows of the paper's batch
GROUPS, QUICK_GROUPS = (2, 4, 8, 16, 32), (2, 4)  # batches of three in a larger one
STEPS, QUICK_STEPS = 300, 10
BEYOND = 10_000  # a step that no training here comes to: its windows are new


def loss_of(network: nn.Module, loss: WeightedDiceLoss, inputs: NetworkInput, norm: int, dice: int) -> Tensor:
    """Of some windows, with batch normalisation over `norm` of them at a time and Eq. 2 over `dice`."""
    logits = torch.cat([network(part) for part in torch.split(inputs.x, norm)])
    parts = zip(torch.split(logits, dice), torch.split(inputs.labels, dice), strict=True)
    return torch.stack([loss(one, labels) for one, labels in parts]).mean()


def gradient(network: nn.Module, value: Tensor) -> Tensor:
    """By all parameters, in one row."""
    by_each = torch.autograd.grad(value, list(network.parameters()))
    return torch.cat([each.reshape(-1) for each in by_each])


def of_batches(
    network: nn.Module, loss: WeightedDiceLoss, batches: list[NetworkInput], norm: int, dice: int
) -> tuple[float, list[Tensor]]:
    """The mean loss, and the gradient of each batch."""
    values, gradients = [], []
    for inputs in batches:
        value = loss_of(network, loss, inputs, norm, dice)
        gradients.append(gradient(network, value))
        values.append(value.item())
    return math.fsum(values) / len(values), gradients


def joined(batches: list[NetworkInput], size: int) -> list[NetworkInput]:
    """Larger batches, of so many each."""
    groups = [batches[at : at + size] for at in range(0, len(batches), size)]
    return [NetworkInput(torch.cat([b.x for b in group]), torch.cat([b.labels for b in group])) for group in groups]


def compared(trainer: Trainer, batches: list[NetworkInput], groups: tuple[int, ...]) -> dict[str, Any]:
    """The network as it is: what changes with k."""
    network, loss = trainer.network, trainer.loss
    value, gradients = of_batches(network, loss, batches, THREE, THREE)
    of_threes = torch.stack(gradients).mean(dim=0)
    length = float(of_threes.norm())
    spread = math.fsum(float((each - of_threes).square().sum()) for each in gradients) / (len(gradients) - 1)
    noise = math.sqrt(spread) / length
    rows = []
    for k in groups:
        larger, size = joined(batches, k), THREE * k
        row: dict[str, float] = {"k": k, "windows": size, "noise": noise / math.sqrt(k)}
        for name, norm, dice in (("gradient", size, size), ("by_dice", THREE, size), ("by_norm", size, THREE)):
            of_larger, found = of_batches(network, loss, larger, norm, dice)
            mean = torch.stack(found).mean(dim=0)
            row[name] = float((mean - of_threes).norm()) / length
            if name == "gradient":
                row["loss"] = of_larger
                row["cosine"] = float(mean @ of_threes) / (length * float(mean.norm()))
        rows.append(row)
        print(row, flush=True)
    return {"loss_of_threes": value, "noise_of_threes": noise, "by_k": rows}


def organs_in(batches: list[NetworkInput], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Of each class but background: the share of windows and of batches of three that have none of it."""
    there = torch.stack(
        [torch.stack([(b.labels == c).flatten(1).any(1) for c in range(len(names))], 1) for b in batches]
    )
    windows, threes = ~there.flatten(0, 1), ~there.any(dim=1)
    return {
        name: {
            "windows_without": float(windows[:, c].float().mean()),
            "threes_without": float(threes[:, c].float().mean()),
        }
        for c, name in enumerate(names)
        if c > 0
    }


def figures(store: Store, config: Config, steps: int, groups: tuple[int, ...]) -> dict[str, Any]:
    """Train, and compare before and after."""
    config = with_training_set(config, store)
    feed, facts = feed_of(store, config.train), facts_of(store, config)
    trainer = Trainer.create(config, facts, torch.device("cpu"))
    batches = [trainer.network_input(feed.batch(BEYOND + number)) for number in range(max(groups))]
    found: dict[str, Any] = {"cases": len(feed.cases), "organs": organs_in(batches, store.classes.names)}
    found["step_1"] = compared(trainer, batches, groups)
    for step in range(1, steps + 1):
        trainer.training_step(feed.batch(step))
    found[f"step_{steps}"] = compared(trainer, batches, groups)
    return found


def largest(rows: list[dict[str, float]]) -> int:
    """Windows of the largest batch up to which the change of the gradient stays below the noise."""
    size = THREE
    for row in rows:
        if row["gradient"] > row["noise"]:
            break
        size = int(row["windows"])
    return size


def _of_store(name: str, store: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Paragraphs and tables of one store, and `largest` of each of its states."""
    header = ["patches", "loss", "gradient differs by", "by Dice alone", "by normalisation alone", "cosine", "noise"]
    organs = store["organs"]
    rarest = max(organs, key=lambda organ: organs[organ]["threes_without"])
    windows, threes = organs[rarest]["windows_without"], organs[rarest]["threes_without"]
    title = name.replace("_", " ")
    absent = (
        f"**{title[0].upper()}{title[1:]}**, {store['cases']} cases. {title_of(rarest).capitalize()} is absent from "
        f"{100 * windows:.0f} % of the patches and from {100 * threes:.0f} % of the batches of {THREE}; in larger "
        f"batches, which all have it, its term counts {1 / (1 - threes):.2f} times as often."
    )
    said = [absent]
    sizes = []
    for step in (key for key in store if key.startswith("step_")):
        state = store[step]
        sizes.append(largest(state["by_k"]))
        first = (str(THREE), f"{state['loss_of_threes']:.4f}", *["0"] * 3, "1", f"{state['noise_of_threes']:.2f}")
        rows = [
            (
                *(str(row["windows"]), f"{row['loss']:.4f}", f"{row['gradient']:.3f}", f"{row['by_dice']:.3f}"),
                *(f"{row['by_norm']:.3f}", f"{row['cosine']:.4f}", f"{row['noise']:.2f}"),
            )
            for row in state["by_k"]
        ]
        table = tabulate([first, *rows], header, tablefmt="pipe", disable_numparse=True)
        when = "At the first step" if step == "step_1" else f"After {step.removeprefix('step_')} steps"
        said.append(f"{when}; below the noise up to {sizes[-1]} patches:\n\n{table}")
    return said, sizes


def section(found: Mapping[str, Any]) -> str:
    """Markdown for `docs/scale.md`, of what `results/batch_statistics.json` holds."""
    stores = [_of_store(*each) for each in found.get("stores", {}).items()]
    if not stores:
        return "## How large a batch may be\n\nNot measured yet.\n"
    described = "\n\n".join(text for said, _ in stores for text in said)
    least = min(size for _, sizes in stores for size in sizes)
    states = [store[step]["by_k"] for store in found["stores"].values() for step in store if step.startswith("step_")]
    early = [rows[0]["gradient"] / max(row["gradient"] for row in rows) for rows in states]
    return f"""## How large a batch may be

Eq. 2 over a batch of {THREE} k patches is not the mean of k losses of {THREE}: with S and C the intersection and the
cardinality of a batch of {THREE}, -2 Σ S / Σ C is the mean of the -2 S/C weighted by C. So another function is
optimised as soon as k is 2; the question is by how much. A batch without an organ has no gradient for it, whatever it
calls so; among others that have it, its false positives count. And the organ's term counts in every batch instead of in
those of {THREE} that have it. Batch normalisation over more patches adds to that.

Measured on the mean gradient over the same patches, as a share of its length with batches of {THREE}
(`python -m benchmarks.batch_statistics`, which says how; demo settings: patches of 24³, 8 filters, uniform weights; no
figure of the paper's size). `noise` is how far the mean over k batches of {THREE} scatters from draw to draw: a change
of aim that is smaller is hidden by chance in one step, though not in the sum of many.

{described}

**{least} patches** is the largest batch at which the change stays below the noise everywhere above: {least // THREE}
GPUs of {THREE} patches, or {least} of one. It is no threshold of the change itself: two batches of {THREE} in one
bring {100 * min(early):.0f} to {100 * max(early):.0f} % of the largest, so that any larger batch is a training
by another loss than the paper's.
With `train.loss.sums: sub_volume` (Eq. 2 for each patch, then the mean) Dice does not depend on the batch,
normalisation does; it is another loss than the paper's from the start.
"""


def phantoms(folder: Path) -> Store:
    """Those of the demo."""
    make_phantoms(folder / "phantom", 28, shape=(48, 36, 36), jobs=2)
    sizes = {"downsample": 1, "test_fraction": 0.286, "validation_fraction": 0.143}
    return prepare(folder / "phantom", folder / "store", resolve_config(file_values={"prepare": sizes}).prepare)


def main() -> None:
    """Measure and add to `results/batch_statistics.json`."""
    parser = parser_of(__doc__)
    parser.add_argument("--store", type=Path, help="by default the demo's phantoms")
    parser.add_argument("--name", default="phantom", help="of the store, in the results")
    given = parser.parse_args()
    steps, groups = (QUICK_STEPS, QUICK_GROUPS) if given.quick else (STEPS, GROUPS)
    how = {"device": "cpu", "precision": "float32", "diagnose": False, "batch_size": THREE, "learning_rate": 0.01}
    config = resolve_config("demo", file_values={"train": how | {"weighting": "uniform"}})
    path = RESULTS / f"{NAME}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["stores"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(given.store) if given.store else phantoms(Path(folder))
        found = figures(store, config, steps, groups)
    record(NAME, {"stores": before | {given.name: found}}, folder=None if given.quick else RESULTS)


if __name__ == "__main__":
    main()
