"""Dice of `predict.mode: auto` beside `sub_volumes`: the same models on the same scans, only the windows differ.

    python -m benchmarks.bench_modes [FOLDER] [--real DATA]
    python -m benchmarks.bench_modes --quick

- Phantoms: the six models of `benchmarks.bench_precision` (three seeds, float32 and bfloat16), on its eight test cases.
- With `--real`, a data set in nnU-Net raw layout with the cases `ts_example` and `lidc0001`: learnt by heart together
  and predicted themselves, by one model for each of two sizes of window. It says nothing about other patients.

`auto` may take one window for the whole of such small scans; `auto in small windows` is the same where memory allows
windows no larger than those of training. In FOLDER (default: precision) what is trained already is not trained again.
Dice is the organs' mean over the cases, on the scans' own grids.

Quick: four models of `benchmarks.bench_precision --quick`, on its two test cases, and no real scan.
"""

import json
import statistics
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from unittest.mock import patch

import torch

from benchmarks.bench_precision import FORMATS, FULL, QUICK, RATE, WEIGHTINGS, parser_of_folder, trained, work_folder
from benchmarks.record import RESULTS, processor_kind, record
from viscera.core.arms import Arm
from viscera.core.geometry import AxisOrder
from viscera.core.resolve import resolve_config
from viscera.core.scan import LabelMap
from viscera.engine import sliding_window
from viscera.engine.hardware import computes_bfloat16
from viscera.engine.predictor import Predictor
from viscera.imaging.resample import GridChange
from viscera.io.classes import read_class_file
from viscera.io.manifest import Split
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.metrics.scoring import score
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Way = Literal["sub_volumes", "auto", "auto in small windows"]
REAL_CASES = ("lidc0001", "ts_example")
REAL_ORGANS = ("artery", "portal_vein", "liver", "spleen", "stomach", "pancreas")  # that both have
EDGES = {32: 1500, 48: 800}  # edge of the window, and steps until the scans are known by heart


def mean_dice(run: RunFolder, store: Store, split: Split, way: Way) -> float:
    """Of the organs of the cases."""
    mode = "sub_volumes" if way == "sub_volumes" else "auto"
    config = read_config(run.config_path).predict.model_copy(update={"mode": mode})
    predictor, values = Predictor.load(run.path, config), []
    most_bytes = 0 if way == "auto in small windows" else sliding_window.MOST_BYTES
    for name in store.names(split):
        geometry, truth = store.original_geometry(name), store.original_labels(name)
        order = AxisOrder.to_canonical(geometry)
        change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
        with patch.object(sliding_window, "MOST_BYTES", most_bytes):
            labels = predictor.segment_prepared(store.image(name), change).label_map.labels
        rows = score(LabelMap(order.undo(labels), geometry), truth, classes=store.classes, metrics=("dice",))
        values += [row.value for row in rows if row.organ != "background" and row.value is not None]
    return statistics.fmean(values)


def learnt_by_heart(folder: Path, data: Path, edge: int) -> tuple[RunFolder, Store]:
    """One model of two real scans, each batch with a window of either."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted({path.name.removesuffix("_0000.nii.gz") for path in (data / "imagesTr").iterdir()} - {*REAL_CASES})
    split = folder / "split.json"
    split.write_text(json.dumps({"train": REAL_CASES, "validation": [], "test": others}), encoding="utf-8")
    precision = "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"
    schedule = {"train.patch": edge, "train.iterations": EDGES[edge], "train.batch_size": 2, "train.filters": 16}
    watched = {"train.monitor_windows": 4, "train.checkpoint_every": 100, "train.log_every": 100}
    how = {
        "train.learning_rate": 0.001,
        "train.precision": precision,
        "prepare.downsample": 2,
        "predict.mode": "sub_volumes",
    }
    config = resolve_config(options=schedule | watched | how | {"prepare.label_downsampling": "majority"})
    classes = folder / "classes.yaml"
    classes.write_text(f"classes: [{', '.join(REAL_ORGANS)}]\n", encoding="utf-8")
    store = folder.parent / "real-store"
    prepare(data, store, config.prepare, classes=read_class_file(classes), split_file=split)
    train(store, folder / "run", config, resume=True)
    return RunFolder(folder / "run"), Store.open(store)


def compared(dice: Mapping[Way, list[float]]) -> dict[str, Any]:
    """Dice of each model by the way of predicting, and what each way of `auto` changes."""
    found: dict[str, Any] = {way: [round(value, 4) for value in values] for way, values in dice.items()}
    for way in get_args(Way)[1:]:
        changes = [auto - sub for sub, auto in zip(dice["sub_volumes"], dice[way], strict=True)]
        found[f"change by {way}"] = {
            "mean": round(statistics.fmean(changes), 4),
            "standard_error": round(statistics.stdev(changes) / len(changes) ** 0.5, 4),
            "largest_loss": round(max(0.0, *(-change for change in changes)), 4),
        }
    return found


def main() -> None:
    """Train what is not trained, predict in both modes, and record."""
    warnings.simplefilter("ignore")
    parser = parser_of_folder(__doc__)
    parser.add_argument("--real", type=Path, metavar="DATA", help="a data set in nnU-Net raw layout")
    given = parser.parse_args()
    if given.quick and (given.folder or given.real):
        parser.error("a quick run keeps nothing and takes no real scan: leave FOLDER and --real away, or --quick")
    size = QUICK if given.quick else FULL
    with work_folder(given.folder, quick=given.quick) as folder:
        plan = trained(folder, size)
        arms = [Arm(weighting, RATE, each) for weighting in WEIGHTINGS for each in FORMATS]
        models = {f"{arm.name}, seed {seed}": plan.folder.run(arm, seed) for arm in arms for seed in size.seeds}
        store = Store.open(folder / "store")
        phantoms = {way: [mean_dice(run, store, "test", way) for run in models.values()] for way in get_args(Way)}
        figures: dict[str, Any] = {"phantoms": {"models": [*models], **compared(phantoms)}}
        if given.real is not None:
            learnt = [learnt_by_heart(folder / f"real-{edge}", given.real, edge) for edge in EDGES]
            real = {way: [mean_dice(*each, "train", way) for each in learnt] for way in get_args(Way)}
            what = "two real scans learnt by heart and predicted themselves: nothing about other patients"
            figures["real"] = {"what": what, "steps_by_window": EDGES, **compared(real)}
    record("modes", figures, folder=None if given.quick else RESULTS / processor_kind())


if __name__ == "__main__":
    main()
