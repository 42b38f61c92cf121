"""The same commands on real CT: what comes in is read, learnt, written back onto its own grid, scored and reported.

The labels come from a published model, and the models here are scored on the very scans they saw: this shows that the
journey works on real input, and nothing about new patients.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest

from tests.fabricated_studies import draw_no_curves
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PrepareConfig
from viscera.imaging.resample import Restore
from viscera.io.nifti import read_labels
from viscera.io.records import write_json


def data_set(folder: Path, cases: dict[str, tuple[Path, Path]]) -> Path:
    """An nnU-Net raw data set that links to scans and labels elsewhere."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for name, (scan, labels) in cases.items():
        (folder / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(scan)
        (folder / "labelsTr" / f"{name}.nii.gz").symlink_to(labels)
    names = {name: label for label, name in enumerate(CLASS_NAMES)}
    write_json(folder / "dataset.json", {"labels": names, "file_ending": ".nii.gz", "numTraining": len(cases)})
    return folder


def fine(real_data: Path, folder: Path) -> Path:
    """The two scans of 2 and 3 mm."""
    source = real_data / "nnunet_real"
    files = {
        name: (source / "imagesTr" / f"{name}_0000.nii.gz", source / "labelsTr" / f"{name}.nii.gz")
        for name in ("ts_example", "lidc0001")
    }
    return data_set(folder, files)


def full_size(real_data: Path, folder: Path) -> Path:
    """The two scans of 512×512 voxels in a slice."""
    slab, full = real_data / "nnunet_real", real_data / "lidc_full"
    return data_set(
        folder,
        {
            "ts_slab": (slab / "imagesTr" / "ts_slab_0000.nii.gz", slab / "labelsTr" / "ts_slab.nii.gz"),
            "lidc_full": (full / "ct.nii.gz", full / "labels.nii.gz"),
        },
    )


def dice(table: Path) -> dict[tuple[str, str], float | None]:
    """Dice by (case, organ) on the original grid."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["grid"] == "original" and row["metric"] == "dice"]
    return {(row["case"], row["organ"]): float(row["value"]) if row["value"] else None for row in rows}


def test_all_three_scans_through_every_command(
    viscera: Callable[..., str], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_no_curves(monkeypatch)
    data = real_data / "nnunet_real"
    viscera("prepare", data, tmp_path / "store", "--downsample", 4, "--test-fraction", 0.34)
    study = ("study", tmp_path / "store", tmp_path / "study", "--preset", "demo", "--jobs", 1, "--batch-size", 2)
    viscera(*study, "--iterations", 3, "--filters", 2, "--weightings", "uniform", "--learning-rates", "0.01")
    assert "Table 1" in (tmp_path / "study" / "report" / "index.html").read_text()

    run = tmp_path / "study" / "arms" / "uniform_lr0.01" / "seed_0"
    viscera("predict", run, data / "imagesTr", tmp_path / "predictions")
    for labels in (data / "labelsTr").glob("*.nii.gz"):
        truth, answer = nib.load(labels), nib.load(tmp_path / "predictions" / labels.name)
        assert answer.shape == truth.shape
        assert answer.get_data_dtype() == np.uint8
        np.testing.assert_allclose(answer.affine, truth.affine, atol=1e-4)
    metrics = ("--metrics", "dice,volume_ml")  # surfaces of noise take long, and have tests of their own
    printed = viscera("evaluate", tmp_path / "predictions", data, "--out", tmp_path / "scores.csv", *metrics)
    assert "gallbladder" in printed

    # two of the three have no gallbladder: undefined unless it was predicted, and no error
    with_gallbladder = np.asanyarray(nib.load(data / "labelsTr" / "ts_example.nii.gz").dataobj) == 6
    assert with_gallbladder.any()
    scores = dice(tmp_path / "scores.csv")
    for case in ("lidc0001", "ts_slab"):
        predicted = (np.asanyarray(nib.load(tmp_path / "predictions" / f"{case}.nii.gz").dataobj) == 6).any()
        assert scores[case, "gallbladder"] == (0 if predicted else None)

    # everything else there is, as it comes: series compressed and plain, a full-size scan, a case of another layout
    examples, endings = real_data / "dicom_seg_examples", {"nifti": "nii.gz", "dicom-seg": "seg.dcm"}
    more_endings = endings | {"rtstruct": "rtstruct.dcm", "seg-nrrd": "seg.nrrd"}
    for source, shape, wanted in (
        (real_data / "ts_dicom", (512, 512, 20), endings),
        (examples / "ct-3slice", (512, 512, 3), more_endings),
    ):
        viscera("predict", run, source, tmp_path / "dicom", "--format", ",".join(wanted))
        written = {path.name for path in (tmp_path / "dicom").glob(f"{source.name}.*")}
        assert written == {f"{source.name}.{ending}" for ending in ("json", *wanted.values())}
        assert nib.load(tmp_path / "dicom" / f"{source.name}.nii.gz").shape == shape
    for scan in (real_data / "lidc_full" / "ct.nii.gz", real_data / "totalsegmentator_layout" / "s0001" / "ct.nii.gz"):
        viscera("predict", run, scan, tmp_path / f"{scan.parent.name}.nii.gz")
        assert nib.load(tmp_path / f"{scan.parent.name}.nii.gz").shape == nib.load(scan).shape
        assert (tmp_path / f"{scan.parent.name}.measurements.csv").exists()


@pytest.mark.parametrize("grid", [{"downsample": 1}, {"downsample": 2}, {"downsample": "4,4,1"}, {"spacing_mm": 5}])
def test_downsampling_alone_keeps_liver_and_spleen(real_data: Path, grid: dict[str, object]) -> None:
    """`benchmarks/downsampling_cost.py` on the smallest scan; docs/results/downsampling-cost.md has them all."""
    from benchmarks.downsampling_cost import cost  # noqa: PLC0415 - a script, imported where it is run

    truth = read_labels(real_data / "nnunet_real" / "labelsTr" / "ts_example.nii.gz")
    for restore in get_args(Restore):
        scores = cost(truth, PrepareConfig.model_validate(grid), restore).dice
        for organ in ("liver", "spleen"):
            value = scores[CLASS_NAMES.index(organ) - 1]
            assert value is not None
            assert value == 1 if grid == {"downsample": 1} else 0.85 < value < 1


TRAINING = {
    "fine": ("--patch", 64, "--iterations", 800, "--filters", 4, "--learning-rate", 0.005),
    "full_size": ("--patch", 64, "--iterations", 450, "--filters", 4, "--learning-rate", 0.005),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "factor"), [("fine", 1), ("full_size", 4)])
def test_a_short_training_learns_liver_and_spleen_of_the_scans_it_saw(
    viscera: Callable[..., str], real_data: Path, tmp_path: Path, kind: str, factor: int
) -> None:
    data = {"fine": fine, "full_size": full_size}[kind](real_data, tmp_path / "data")
    viscera("prepare", data, tmp_path / "store", "--downsample", factor, "--test-fraction", 0)
    settings = (
        "--batch-size",
        2,
        "--set",
        "train.batch_norm=recomputed",
        "--set",
        "train.average=0.99",
        "--set",
        "train.monitor_windows=24",
        "--set",
        "train.log_every=200",
    )
    viscera("train", tmp_path / "store", tmp_path / "run", *settings, *TRAINING[kind])
    viscera("predict", tmp_path / "run", data / "imagesTr", tmp_path / "predictions")
    viscera("evaluate", tmp_path / "predictions", data, "--out", tmp_path / "scores.csv")
    scores = dice(tmp_path / "scores.csv")
    low = {key: value for key, value in scores.items() if key[1] in {"liver", "spleen"} and (value or 0) <= 0.8}
    assert not low
