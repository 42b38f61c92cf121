"""Recompute `report/table1.csv` of a study from the label maps it wrote, without viscera, and compare.

    python scripts/recompute_table1.py STUDY

Only nibabel, NumPy and PyYAML are used. Ends with 1 where a number differs by more than the last printed digit.
"""

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

CLASSES = ("background", "artery", "portal_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas")


def labels(path: Path) -> np.ndarray:
    """Voxels of a label map, in the order of the file."""
    return np.asanyarray(nib.load(path).dataobj)


def dice_per_case(study: Path, arm: str, store: Path) -> dict[tuple[str, int], list[float]]:
    """Dice by (case, class), one value a seed; NaN where the class is in neither label map."""
    manifest = json.loads((store / "manifest.json").read_text())
    cases = [name for name, record in manifest["cases"].items() if record["split"] == "test"]
    values: dict[tuple[str, int], list[float]] = {}
    for run in sorted((study / "arms" / arm).glob("seed_*")):
        for case in cases:
            prediction = labels(run / "predictions" / f"{case}.nii.gz")
            truth = labels(store / "cases" / case / "labels_original.nii.gz")
            for number in range(len(CLASSES)):
                s, r = prediction == number, truth == number
                size = int(s.sum()) + int(r.sum())
                dice = 2 * int((s & r).sum()) / size if size else float("nan")
                values.setdefault((case, number), []).append(dice)
    return values


def column(values: dict[tuple[str, int], list[float]]) -> dict[str, float]:
    """The rows of Table 1 for one arm, per cent: seeds first, then cases where the class is defined."""
    rows = {}
    for number, name in enumerate(CLASSES):
        per_case = [np.nanmean(v) for (_, n), v in values.items() if n == number and not np.isnan(v).all()]
        rows[name] = 100 * float(np.mean(per_case)) if per_case else float("nan")
    all_classes = np.array(list(rows.values()))
    return rows | {
        "AVG": float(np.nanmean(all_classes)),
        "MAX": float(np.nanmax(all_classes)),
        "MIN": float(np.nanmin(all_classes)),
        "FOREGROUND": float(np.nanmean(all_classes[1:])),
    }


def main() -> int:
    """Compare every number of the table."""
    study = Path(sys.argv[1])
    store = Path(yaml.safe_load((study / "study.yaml").read_text())["store"])
    with (study / "report" / "table1.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    arms = [name for name in table[0] if name != "class"]
    wrong = 0
    for arm in arms:
        expected = column(dice_per_case(study, arm, store))
        for row in table:
            printed = float(row[arm]) if row[arm] else float("nan")
            both_undefined = np.isnan(printed) and np.isnan(expected[row["class"]])
            if not both_undefined and not abs(printed - expected[row["class"]]) <= 1.01e-4:
                print(f"{arm}, {row['class']}: printed {printed}, recomputed {expected[row['class']]:.4f}")
                wrong += 1
    print(f"{len(arms) * len(table) - wrong} of {len(arms) * len(table)} numbers of Table 1 recomputed from label maps")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
