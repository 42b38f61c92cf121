"""What downsampling alone costs each organ: prepare, write the prepared truth back to the scan's own grid, evaluate.

    python -m benchmarks.downsampling_cost DATA [DATA ...] --out docs/results/downsampling-cost.md

DATA are folders in nnU-Net raw layout, or folders with `ct.nii.gz` and `labels.nii.gz` in viscera's numbers.
The truth is written back in two ways: as labels, and as predictions are, by interpolating one-hot probabilities.
"""

import argparse
import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from viscera.core.anatomy import CLASS_NAMES, CLASSES, NUM_CLASSES
from viscera.core.config import EvaluateConfig, PrepareConfig
from viscera.core.geometry import AxisOrder
from viscera.core.scan import LabelMap
from viscera.imaging.resample import GridChange, restore_labels, restore_probabilities
from viscera.io.files import write_json, write_text
from viscera.io.nifti import write_labels
from viscera.io.scores import ScoreRow
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.prepare import prepare

FACTORS = (1, 2, 4)
WAYS = ("labels", "probabilities")
INTRODUCTION = """\
Real CT, whose labels come from a published model and not from experts. The truth is downsampled (nearest), written back
to the scan's own grid and compared with itself there: about the best that a model trained at that factor can reach.
– : the organ is not in the scan.
"""


def as_nnunet(folder: Path, into: Path) -> Path:
    """The folder itself, or a data set of one case that links to its `ct.nii.gz` and `labels.nii.gz`."""
    if (folder / "dataset.json").exists():
        return folder
    for name in ("imagesTr", "labelsTr"):
        (into / name).mkdir(parents=True)
    (into / "imagesTr" / f"{folder.name}_0000.nii.gz").symlink_to((folder / "ct.nii.gz").resolve())
    (into / "labelsTr" / f"{folder.name}.nii.gz").symlink_to((folder / "labels.nii.gz").resolve())
    labels = {name: label for label, name in enumerate(CLASS_NAMES)}
    write_json(into / "dataset.json", {"labels": labels, "file_ending": ".nii.gz", "numTraining": 1})
    return into


def written_back(store: Store, name: str, way: str) -> LabelMap:
    """The prepared truth of a case on the scan's own grid."""
    geometry = store.original_geometry(name)
    order = AxisOrder.to_canonical(geometry)
    change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
    labels = np.asarray(store.labels(name))
    if way == "labels":
        restored = restore_labels(labels, change)
    else:
        one_hot = torch.stack([torch.from_numpy(labels == label) for label in range(NUM_CLASSES)]).float()
        restored = restore_probabilities(one_hot, change)
    return LabelMap(np.ascontiguousarray(order.undo(restored.labels)), geometry)


def measure(data: Path, factor: int, work: Path) -> dict[str, list[ScoreRow]]:
    """Scores of every case of a data set, by way of writing back."""
    config = PrepareConfig(downsample=factor, test_fraction=0)
    store = prepare(data, work / "store", config)
    rows = {}
    for way in WAYS:
        for name in store.names():
            write_labels(work / way / f"{name}.nii.gz", written_back(store, name, way))
        rows[way] = evaluate(work / way, work / "store", work / f"{way}.csv", EvaluateConfig(metrics=("dice",)))
    return rows


def page(tables: dict[str, list[list[str]]]) -> str:
    """The tables as Markdown."""
    headers = ["case", "spacing, mm", "factor", *(c.title for c in CLASSES[1:])]
    titles = {
        "probabilities": "Written back as predictions are: one-hot probabilities, interpolated linearly",
        "labels": "Written back as labels: each voxel takes the label of the coarse voxel around it",
    }
    parts = [
        "# What downsampling alone costs: Dice of the truth with itself\n",
        INTRODUCTION,
        f"Made by `python -m benchmarks.downsampling_cost`, {dt.datetime.now(tz=dt.UTC).date().isoformat()}.\n",
    ]
    for way in reversed(WAYS):
        parts.append(f"\n## {titles[way]}\n")
        parts.append(tabulate(tables[way], headers, tablefmt="pipe", disable_numparse=True, stralign="right"))
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tables: dict[str, list[list[str]]] = {way: [] for way in WAYS}
    for number, folder in enumerate(arguments.data):
        for factor in FACTORS:
            with tempfile.TemporaryDirectory() as temporary:
                work = Path(temporary)
                rows = measure(as_nnunet(folder, work / f"data_{number}"), factor, work)
                store = Store.open(work / "store")
                for way, scores in rows.items():
                    for name in store.names():
                        dice = {row.organ: row.value for row in scores if row.case == name}
                        values = ["–" if dice[c.name] is None else f"{dice[c.name]:.3f}" for c in CLASSES[1:]]
                        spacing = "×".join(f"{x:.3g}" for x in store.original_geometry(name).spacing_mm)
                        tables[way].append([name, spacing, str(factor), *values])
    for table in tables.values():
        table.sort(key=lambda row: (row[0], int(row[2])))
    write_text(arguments.out, page(tables))
    print(arguments.out)


if __name__ == "__main__":
    main()
