"""What downsampling alone costs each organ: the truth on the network's grid, written back to the scan's, with itself.

    python -m benchmarks.downsampling_cost DATA [DATA ...] --out docs/results/downsampling-cost.md

DATA are folders in nnU-Net raw layout, or folders with `ct.nii.gz` and `labels.nii.gz` in viscera's numbers. The truth
is brought to the coarse grid as `prepare` does, and written back as `predict` does: one-hot probabilities, interpolated
linearly, or labels. Each scan is measured once more with its slices joined in pairs: thick slices of the same patient.
"""

import argparse
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from viscera.core.anatomy import CLASSES, NUM_CLASSES
from viscera.core.config import PrepareConfig
from viscera.core.scan import LabelArray, LabelMap
from viscera.imaging.resample import GridChange, Restore, coarsen_labels, restore_labels, restore_planes
from viscera.io.files import write_text
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.nifti import read_labels
from viscera.metrics.overlap import confusion_matrix, dice

Method = Literal["nearest", "majority"]
GRIDS: dict[str, dict[str, Any]] = {
    "factor 1": {"downsample": 1},
    "factor 2": {"downsample": 2},
    "factor 4": {"downsample": 4},
    "factors 2,2,1": {"downsample": (2, 2, 1)},
    "factors 4,4,1": {"downsample": (4, 4, 1)},
    "2 mm": {"spacing_mm": 2},
    "3 mm": {"spacing_mm": 3},
    "1.5,1.5,3 mm": {"spacing_mm": (1.5, 1.5, 3)},
}
WAYS: tuple[tuple[Method, Restore], ...] = (
    ("majority", "probabilities"),
    ("nearest", "probabilities"),
    ("nearest", "labels"),
)
JOINED = ", slices joined"
INTRODUCTION = """\
Real CT, whose labels come from a published model and not from experts. The truth is brought to the network's grid,
written back to the scan's own grid and compared with itself there: about the best that a model trained on that grid
can reach. Each scan is there twice, as it is and with its slices joined in pairs, as a scan of thick slices (its truth
is then that of the joined slices). `lidc0001` and `lidc_full` are one patient.

Factors and spacings are along R, A, S. Voxels: of the network's grid, in per cent of the scan's. Majority and nearest:
`prepare.label_downsampling`, written back as probabilities. Blocks: nearest, written back as labels.
– : the organ is not in the scan.
"""
CHOICE = """\
**What to choose.** Slices of 2 mm and more: `--downsample 4,4,1`, or a spacing, `--spacing-mm 3`. A factor of four for
all axes costs about twice as much there, and three to four times as much where slices are 4 or 5 mm thick: it makes
voxels of 8 to 20 mm of them. Scans of several thicknesses in one store: a spacing. Slices of 0.6 mm come out of a
factor of four as slices of 2.5 mm come out of 4,4,1. A factor counts from the voxels of the scan: where a scan was
resampled before (`lidc0001` to 2 mm, `ts_example` to 3 mm), give a spacing, or 1.

At a factor of two `majority` keeps more than `nearest` in every scan. At four they are about equal on scans of full
resolution; where voxels get larger still, `majority` loses thin organs first.
"""
FULL_RESOLUTION_MM = 1.0


@dataclass(frozen=True)
class Cost:
    """What one grid costs one scan.

    Attributes:
        dice: (7,) of the organs with themselves; None where an organ is not in the scan.
        voxels: of the coarse grid, as a share of the scan's.
    """

    dice: tuple[float | None, ...]
    voxels: float

    @property
    def mean(self) -> float:
        """Over the organs that are there."""
        return float(np.mean([value for value in self.dice if value is not None]))


def cost(truth: LabelMap, prepare: PrepareConfig, restore: Restore) -> Cost:
    """Bring a label map to the network's grid and back."""
    canonical = truth.canonical()
    change = GridChange.prepared(canonical.geometry, prepare)
    coarse = coarsen_labels(canonical, change, prepare.label_downsampling).labels
    back = restore_labels(coarse, change) if restore == "labels" else restore_planes(_one_hot(coarse), change)
    values = dice(confusion_matrix(back.labels, np.asarray(canonical.labels)))
    return Cost(tuple(values[1:]), coarse.size / canonical.labels.size)


def _one_hot(labels: LabelArray) -> Iterator[Tensor]:
    numbers = torch.arange(NUM_CLASSES).view(-1, 1, 1)
    for k in range(labels.shape[2]):
        yield (torch.from_numpy(np.array(labels[:, :, k], order="C")) == numbers).float()


def truths(folder: Path) -> dict[str, LabelMap]:
    """The label maps of a data set, by case name."""
    if (folder / "dataset.json").exists():
        return {source.name: source.read().label_map for source in find_cases(folder)}
    return {folder.name: read_labels(folder / "labels.nii.gz")}


def joined(truth: LabelMap) -> LabelMap:
    """The label map of a scan whose slices are twice as thick: the majority of what each slice covers."""
    canonical = truth.canonical()
    return coarsen_labels(canonical, GridChange.by_factor(canonical.geometry, (1, 1, 2)), "majority")


Spacing = tuple[float, float, float]
Costs = dict[tuple[str, Method, Restore], Cost]


def measure(truth: LabelMap) -> Costs:
    """Every grid, method and way back, of one scan."""
    return {
        (grid, method, restore): cost(truth, PrepareConfig(**settings, label_downsampling=method), restore)
        for grid, settings in GRIDS.items()
        for method, restore in WAYS
    }


# ------------------------------------------------------------------------------------------ the page


def page(costs: dict[str, Costs], spacings: dict[str, Spacing]) -> str:
    """Means over the scans first, then over the organs, then each organ of each scan."""
    of_each = ["case", "spacing, mm", "grid", "voxels", "majority", "nearest", "blocks"]
    parts = [
        "# What downsampling alone costs: Dice of the truth with itself\n",
        INTRODUCTION,
        f"Made by `python -m benchmarks.downsampling_cost`, {dt.datetime.now(tz=dt.UTC).date().isoformat()}.\n",
        f"\n## Means over the organs, scans of full resolution (below {FULL_RESOLUTION_MM:g} mm in plane)\n",
        _table(
            [_over_scans(grid, costs, spacings) for grid in GRIDS],
            ["grid", *of_each[3:], *(f"{h}, joined" for h in of_each[3:])],
        ),
        "\n" + CHOICE,
        "\n## Means over the organs\n",
        _table(
            [[name, _by(spacings[name]), grid, *_means([costs[name]], grid)] for name in costs for grid in GRIDS],
            of_each,
        ),
    ]
    for method, restore in WAYS[:2]:
        parts.append(f"\n## Each organ: {method}, written back as {restore}\n")
        rows = [
            [name, grid, *("–" if value is None else f"{value:.3f}" for value in of_case[grid, method, restore].dice)]
            for name, of_case in costs.items()
            for grid in GRIDS
        ]
        parts.append(_table(rows, ["case", "grid", *(c.title for c in CLASSES[1:])]))
    return "\n".join(parts) + "\n"


def _over_scans(grid: str, costs: dict[str, Costs], spacings: dict[str, Spacing]) -> list[str]:
    full = {name: of_case for name, of_case in costs.items() if max(spacings[name][:2]) < FULL_RESOLUTION_MM}
    as_they_are = [of_case for name, of_case in full.items() if not name.endswith(JOINED)]
    thick = [of_case for name, of_case in full.items() if name.endswith(JOINED)]
    return [grid, *_means(as_they_are, grid), *_means(thick, grid)]


def _means(of_cases: Sequence[Costs], grid: str) -> list[str]:
    if not of_cases:
        return ["–"] * (1 + len(WAYS))
    voxels = np.mean([of_case[grid, *WAYS[0]].voxels for of_case in of_cases])
    dices = [np.mean([of_case[grid, *way].mean for of_case in of_cases]) for way in WAYS]
    return [f"{100 * voxels:.3g} %", *(f"{value:.3f}" for value in dices)]


def _by(spacing_mm: Spacing) -> str:
    return "×".join(f"{mm:.3g}" for mm in spacing_mm)


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, stralign="right")


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    costs, spacings = {}, {}
    for name, truth in sorted(item for folder in arguments.data for item in truths(folder).items()):
        for title, version in ((name, truth), (name + JOINED, joined(truth))):
            costs[title] = measure(version)
            spacings[title] = version.canonical().geometry.spacing_mm
    write_text(arguments.out, page(costs, spacings))
    print(arguments.out)


if __name__ == "__main__":
    main()
