"""Whole artifacts and input files of a few kB each, made by code, to be spoilt by `torture.hostile_files`."""

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from tests.ct_series import ct_series, enhanced, save
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PredictConfig, PrepareConfig
from viscera.core.resolve import resolve_config
from viscera.stages.calibrate import calibrate
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train

SHAPE = (14, 12, 10)
AFFINE = np.array([[2.0, 0, 0, -14], [0, 2.0, 0, -12], [0, 0, 2.5, -30], [0, 0, 0, 1]])  # RAS+
_CASES = 4
_TRAIN = {"iterations": 6, "patch": 8, "batch_size": 2, "filters": 2, "levels": 2, "device": "cpu"}
_TRAIN |= {"checkpoint_every": 4, "log_every": 2, "validate_every": 3, "monitor_windows": 2}


def tiny_config(**train_settings: Any) -> Config:  # noqa: ANN401 - of any setting
    """Settings under which a training takes well below a second."""
    return resolve_config(file_values={"train": _TRAIN | train_settings})


@dataclass(frozen=True)
class Artifacts:
    """One folder of each kind, to be copied and spoilt."""

    raw: Path  # a data set in nnU-Net's layout
    store: Path
    run: Path
    predictions: Path  # with a table of scores
    dicom: Path  # a series
    results: Path  # DICOM-SEG, RTSTRUCT and seg.nrrd of it
    export: Path | None = None  # safetensors
    study: Path | None = None


def make_artifacts(folder: Path, *, study: bool = True) -> Artifacts:
    """Make them by viscera's own stages, on four patients of 14×12×10 voxels; takes seconds."""
    raw = write_raw(folder / "raw")
    prepare(raw, folder / "store", PrepareConfig(downsample=1, test_fraction=0.25, validation_fraction=0.25))
    train(folder / "store", folder / "run", tiny_config())
    made = of_run(folder, raw, folder / "store", folder / "run")
    calibrate(made.run, made.store)
    return Artifacts(**{**vars(made), "study": _study(folder)}) if study else made


def of_run(folder: Path, raw: Path, store: Path, run: Path) -> Artifacts:
    """The others, where data set, store and run are there."""
    out = folder / "predictions"
    formats = ("nifti",)
    predict(run, raw / "imagesTr", out, PredictConfig(), formats=formats, device="cpu")
    evaluate(out, store, out / "scores.csv", confusion=out / "confusion.csv")
    dicom, results = _dicom(folder, run)
    return Artifacts(raw, store, run, out, dicom, results, _export(folder, run))


def write_raw(folder: Path) -> Path:
    """Seven slabs in noise, a little different in every patient, as an nnU-Net raw data set."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    names = {name: number for number, name in enumerate(CLASS_NAMES)}
    said = {"name": "tiny", "labels": names, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "licence": "CC0"}
    (folder / "dataset.json").write_text(json.dumps(said))
    for number in range(_CASES):
        labels = np.zeros(SHAPE, dtype=np.uint8)
        for label in range(1, 8):
            labels[2 * label - 2 : 2 * label, 1 + number % 3 : 8 + number % 4, 2 : 4 + label % 5] = label
        noise = np.random.default_rng(number).integers(-20, 20, SHAPE)
        hu = (100 * labels.astype(np.int64) - 300 + noise).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, AFFINE), folder / "imagesTr" / f"case_{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, AFFINE), folder / "labelsTr" / f"case_{number}.nii.gz")
    return folder


def small_stored(slices: int = 3) -> npt.NDArray[np.uint16]:
    """Stored values (slices, 6, 8) of a series."""
    return np.random.default_rng(5).integers(0, 4096, (slices, 6, 8)).astype(np.uint16)


def _dicom(folder: Path, run: Path) -> tuple[Path, Path]:
    series = save(folder / "dicom", ct_series(small_stored(4), PatientBirthDate="", PatientSex="", StudyID="1"))
    results = folder / "results"
    predict(run, series, results, PredictConfig(), formats=("dicom-seg", "rtstruct", "seg-nrrd"), device="cpu")
    paths = sorted(series.iterdir())
    (results / "enhanced.dcm").write_bytes(_enhanced(folder))
    with zipfile.ZipFile(results / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"scan/{path.name}")
    return series, results


def _enhanced(folder: Path) -> bytes:
    saved = save(folder / "enhanced", [enhanced(ct_series(small_stored()))])
    content = next(saved.iterdir()).read_bytes()
    shutil.rmtree(saved)
    return content


def _export(folder: Path, run: Path) -> Path | None:
    try:
        from viscera.export.export_stage import export  # noqa: PLC0415 - an extra

        return export(run, folder / "export", ["safetensors"])
    except ValueError:  # the extra is not installed
        return None


def _study(folder: Path) -> Path:
    """Two arms of one seed, trained in this process, without a report."""
    from viscera.study import launch  # noqa: PLC0415 - slow to load

    before = {name: getattr(launch, name) for name in ("start_pool", "make_report", "_forecast")}
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "seeds": [0], "jobs": 1}
    config = Config.model_validate(tiny_config().model_dump() | {"study": grid})
    try:
        for name in before:
            setattr(launch, name, lambda *_: None)
        launch.run_study(folder / "store", folder / "study", config)
    finally:
        for name, function in before.items():
            setattr(launch, name, function)
    return folder / "study"
