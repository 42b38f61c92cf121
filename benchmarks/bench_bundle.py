"""In how many voxels a MONAI bundle differs from `viscera predict`, by the normalisation of the network.

    python -m benchmarks.bench_bundle [--quick]

Networks of the demo's size are trained on phantoms like the demo's and exported; MONAI's own runner runs the bundles.
The scans are phantoms of another seed and size, in which the two place their sub-volumes differently. Where the edges
of a scan are those of a patch and whole steps more, as in the demo's phantoms, they place them alike.

Three figures of each: the share of all voxels that differ, that of the voxels which either calls an organ, and the mean
Dice of the organs by viscera and by the bundle.

Quick: one network, 10 steps, one scan.
"""

import contextlib
import io
import logging
import statistics
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from viscera.core.config import PrepareConfig
from viscera.core.geometry import Index3
from viscera.core.resolve import resolve_config
from viscera.core.scan import LabelMap
from viscera.export.export_stage import export
from viscera.io.nifti import read_labels
from viscera.metrics.scoring import score
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Settings = Mapping[str, Any]
TRAINED_ON: Index3 = (48, 36, 36)  # the demo's
SCANS: Index3 = (53, 41, 44)
NETWORKS: Mapping[str, Settings] = {
    "batch": {},
    "instance": {"train.network.normalisation": "instance"},
    "group, residual": {"train.network.normalisation": "group", "train.network.encoder": "residual"},
}
WAYS: Mapping[str, Settings] = {
    "as it is": {},
    "predict.overlap 0.75": {"predict.overlap": 0.75, "predict.mode": "sub_volumes"},
    "predict.mode whole_volume": {"predict.mode": "whole_volume"},
}


class Size(NamedTuple):
    """How much is trained and compared."""

    networks: tuple[str, ...]
    steps: int
    cases: int  # to train on
    scans: int


FULL, QUICK = Size((*NETWORKS,), 300, 16, 6), Size(("instance",), 10, 4, 1)


def by_monai(bundle: Path, scans: Path, out: Path) -> None:
    """Write the label maps that a bundle makes of scans, run in its folder."""
    import monai.bundle  # noqa: PLC0415 - takes seconds, and the help needs none of it

    quietly = contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore")
    with contextlib.chdir(bundle), quietly[0], quietly[1]:
        monai.bundle.run(config_file="configs/inference.json", scans=f"{scans}/*.nii.gz", output_dir=str(out))


def mean_dice(found: LabelMap, truth: LabelMap) -> float:
    """Of the organs that are there or were found."""
    rows = score(found, truth, metrics=("dice",))
    return statistics.fmean(row.value for row in rows if row.organ != "background" and row.value is not None)


def compared(ours: Path, theirs: Path, truths: Path) -> dict[str, float]:
    """Over all scans."""
    differing = voxels = of_organs = organs = 0
    dice = list[tuple[float, float]]()
    for path in sorted(truths.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        truth, one = read_labels(path), read_labels(ours / path.name)
        two = read_labels(theirs / f"{name}_0000_seg.nii.gz").in_order_of(one.geometry)
        is_other, is_organ = one.labels != two.labels, (one.labels > 0) | (two.labels > 0)
        differing, voxels = differing + int(is_other.sum()), voxels + is_other.size
        of_organs, organs = of_organs + int(is_other[is_organ].sum()), organs + int(is_organ.sum())
        dice.append((mean_dice(one, truth), mean_dice(two, truth)))
    means = np.mean(dice, axis=0)
    return {
        "voxels_percent": round(100 * differing / voxels, 3),
        "organ_voxels_percent": round(100 * of_organs / max(1, organs), 2),
        "dice_viscera": round(float(means[0]), 4),
        "dice_bundle": round(float(means[1]), 4),
    }


def measured(folder: Path, size: Size) -> dict[str, Any]:
    """Each network, in each way."""
    make_phantoms(folder / "phantom", size.cases, shape=TRAINED_ON)
    make_phantoms(folder / "others", size.scans, seed=1, shape=SCANS)
    how = PrepareConfig(downsample=1, test_fraction=0, validation_fraction=0)
    store = prepare(folder / "phantom", folder / "store", how).path
    scans, found = folder / "others" / "imagesTr", dict[str, Any]()
    for network in size.networks:
        options = {"train.iterations": size.steps, "train.device": "cpu", "train.precision": "float32"}
        config = resolve_config("demo", options={**options, "train.learning_rate": 0.01, **NETWORKS[network]})
        run = folder / network / "run"
        train(store, run, config)
        for number, (way, settings) in enumerate(WAYS.items()):
            bundle, ours, theirs = (folder / network / f"{what}_{number}" for what in ("bundle", "ours", "theirs"))
            predicting = resolve_config(options={**options, **settings}).predict
            export(run, bundle, ["monai-bundle"], predicting)
            predict(run, scans, ours, predicting, device="cpu")
            by_monai(bundle, scans, theirs)
            found.setdefault(network, {})[way] = compared(ours, theirs, folder / "others" / "labelsTr")
    return found


def main() -> None:
    """Train, export, predict both ways, and record."""
    logging.disable(logging.INFO)  # of MONAI's runner, a line for each scan
    size = QUICK if is_quick(__doc__) else FULL
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), size)
    what = "shares in which the labels of a MONAI bundle differ from those of `viscera predict`, on phantoms"
    figures = {"what": what, "steps": size.steps, "scans": size.scans, "shape": SCANS, "by_normalisation": found}
    record("bundle", figures, peers=("monai",), folder=None if size is QUICK else RESULTS)


if __name__ == "__main__":
    main()
