"""Every held-out case by the run that did not see it, once; and what is no cross-validation of a store."""

import json
import logging
import pickle
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.command_line import refused, run
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.shard import Shard
from viscera.engine.fold_runs import runs_by_fold
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.records import read_json, write_record
from viscera.io.runlog import RunFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.calibrate import calibrate
from viscera.stages.predict import predict
from viscera.stages.predict_folds import predict_out_of_fold
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Item = TypeVar("Item")
Result = TypeVar("Result")
FOLDS = PrepareConfig(downsample=2, test_fraction=0.2, folds=3)


@pytest.fixture(scope="module")
def store(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One test case, and five in three folds."""
    return prepare(tiny_raw, tmp_path_factory.mktemp("folds") / "store", FOLDS)


@pytest.fixture(scope="module")
def trained(store: Store, tiny_config: Callable[..., Config]) -> Path:
    """A run for each fold; to read only."""
    folder = store.path.parent / "cv"
    for fold in range(3):
        train(store.path, folder / f"fold_{fold}", tiny_config(iterations=3, learning_rate=0.02, fold=fold))
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "cv"))


def answering_its_fold(run: Path, fold: int) -> None:
    """Make a run call everything the organ after its fold: an output that depends on its bias alone."""
    last = RunFolder(run).last
    checkpoint = load_checkpoint(last)
    bias = torch.zeros_like(checkpoint.model["head.bias"])
    bias[fold + 1] = 100
    weights = {"head.weight": torch.zeros_like(checkpoint.model["head.weight"]), "head.bias": bias}
    save_checkpoint(last, replace(checkpoint, model=checkpoint.model | weights))


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_each_case_once_by_the_run_that_held_it_out(store: Store, runs: Path, tmp_path: Path) -> None:
    for fold in range(3):
        answering_its_fold(runs / f"fold_{fold}", fold)
    shutil.move(runs / "fold_1", runs / "a_run_called_otherwise")
    written = predict_out_of_fold(runs, store.path, tmp_path / "out")
    folds = {name: record.fold for name, record in store.manifest.cases.items() if record.fold is not None}
    assert len(folds) == 5
    assert sorted(path.name for path in written) == [f"{name}.nii.gz" for name in sorted(folds)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == sorted(path.name for path in written)
    for path in written:
        fold = folds[path.name.removesuffix(".nii.gz")]
        assert fold is not None
        assert np.unique(labels_of(path)).tolist() == [fold + 1]


def test_label_maps_are_those_of_the_scans_themselves(
    store: Store, tiny_raw: Path, trained: Path, tmp_path: Path
) -> None:
    written = predict_out_of_fold(trained, store.path, tmp_path / "out")
    seen = set[int]()
    for path in written:
        name = path.name.removesuffix(".nii.gz")
        scan = tiny_raw / "imagesTr" / f"{name}_0000.nii.gz"
        own = trained / f"fold_{store.manifest.cases[name].fold}"
        (alone,) = predict(own, scan, tmp_path / "alone" / path.name)
        np.testing.assert_array_equal(labels_of(path), labels_of(alone))
        np.testing.assert_array_equal(nib.load(path).affine, nib.load(scan).affine)
        seen |= set(np.unique(labels_of(path)).tolist())
    assert len(seen) > 1  # the networks tell something apart


def test_parts_and_other_processes_write_the_same_and_nothing_twice(
    store: Store, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predict_out_of_fold(trained, store.path, tmp_path / "whole")
    whole = contents(tmp_path / "whole")

    def sent(value: Any) -> Any:
        return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own

    def elsewhere(function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """As other processes are given it."""
        for item in items:
            yield sent(function)(sent(item))

    parts = [
        predict_out_of_fold(trained, store.path, tmp_path / "p", shard=Shard(n, 2), spread=elsewhere) for n in (1, 2)
    ]
    assert sorted(path.name for part in parts for path in part) == sorted(n for n in whole if n.endswith(".nii.gz"))
    assert contents(tmp_path / "p") == whole
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").glob("*.nii.gz")}
    predict_out_of_fold(trained, store.path, tmp_path / "p")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "replaced" not in caplog.text
    for record in (tmp_path / "p").glob("*.json"):
        write_record(record, read_json(record) | {"run_sha256": "0"})
    predict_out_of_fold(trained, store.path, tmp_path / "p")
    assert "p: 5 label maps of another model are replaced." in caplog.text


def test_one_table_of_all_folds(store: Store, trained: Path, tmp_path: Path) -> None:
    out, scores = tmp_path / "out", tmp_path / "scores.csv"
    assert "5 label maps" in run("predict", trained, store.path, out, "--out-of-fold").stderr
    assert "give --fold all" in refused(3, "evaluate", out, store.path, "--out", scores)
    assert run("evaluate", out, store.path, "--fold", "all", "--metrics", "dice", "--out", scores).exit_code == 0
    assert {row.case for row in read_scores(scores)} == {*store.names("train"), *store.names("validation")}
    assert run("evaluate", out, store.path, "--fold", 1, "--metrics", "dice", "--out", scores).exit_code == 0
    assert {row.case for row in read_scores(scores)} == set(store.of_fold(1).names("validation"))
    assert "is a store" in refused(3, "predict", trained, store.path, tmp_path / "x")
    said = refused(3, "predict", trained, store.path, tmp_path / "x", "--out-of-fold", "--format", "dicom-seg")
    assert "refers to a DICOM series, and a store has none" in said
    assert "a folder" in refused(3, "predict", trained, store.path, tmp_path / "x.nii.gz", "--out-of-fold")
    assert not (tmp_path / "x").exists()


def test_temperatures_of_the_cases_that_are_predicted_are_said(
    store: Store, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate(runs / "fold_1", store.path, device="cpu")
    with caplog.at_level(logging.WARNING, logger="viscera.stages.predict_folds"):
        predict_out_of_fold(runs, store.path, tmp_path / "plain", device="cpu")
        assert "are calibrated" not in caplog.text
        predict_out_of_fold(runs, store.path, tmp_path / "maps", formats=["nifti", "probabilities"], device="cpu")
    assert "1 of the 3 runs (fold_1) is calibrated, each on the cases that it predicts now" in caplog.text


def test_folds_that_are_missing_or_there_twice_are_named(store: Store, runs: Path) -> None:
    shutil.move(runs / "fold_1", runs.parent / "elsewhere")
    (runs / "fold_2" / "last.pt").unlink()
    with pytest.raises(BadInputError, match=r"cv: no trained run of fold_1, fold_2; .*store has folds 0 to 2\. Train"):
        runs_by_fold(runs, store)
    shutil.copytree(runs / "fold_0", runs / "fold_0_again")
    with pytest.raises(BadInputError, match="fold_0 and fold_0_again both held out fold 0"):
        runs_by_fold(runs, store)
    with pytest.raises(BadInputError, match="fold_0: one run; the folder of several was expected"):
        runs_by_fold(runs / "fold_0", store)
    with pytest.raises(BadInputError, match="nothing: there is no such folder"):
        runs_by_fold(runs / "nothing", store)


def test_a_run_that_is_not_finished_or_held_out_nothing(
    store: Store, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = RunFolder(runs / "fold_2").read_status()
    assert status is not None
    RunFolder(runs / "fold_2").write_status(status.model_copy(update={"state": "running", "step": 0}))
    with pytest.raises(BadInputError, match="fold_2: this run is running, or was killed, at step 3 of 3"):
        runs_by_fold(runs, store)
    RunFolder(runs / "fold_2").write_status(status)
    shutil.copytree(runs / "fold_0", runs / "of_all")
    _with_settings(runs / "of_all", fold="all")
    _with_settings(runs / "fold_2", learning_rate=0.5)
    with caplog.at_level(logging.WARNING):
        assert runs_by_fold(runs, store) == {fold: runs / f"fold_{fold}" for fold in range(3)}
    assert "of_all: passed over; it held out no fold" in caplog.text
    assert "fold_0 and fold_2 were not trained alike: learning_rate 0.02 (now 0.5)" in caplog.text


def _with_settings(run: Path, **settings: object) -> None:
    last = RunFolder(run).last
    checkpoint = load_checkpoint(last)
    train_settings = checkpoint.config.train.model_copy(update=settings)
    save_checkpoint(last, replace(checkpoint, config=checkpoint.config.model_copy(update={"train": train_settings})))


def test_a_store_whose_folds_are_others_now_is_refused(
    store: Store, trained: Path, tiny_raw: Path, tmp_path: Path
) -> None:
    again = prepare(tiny_raw, tmp_path / "again", FOLDS.model_copy(update={"seed": 5, "folds": 3}))
    with pytest.raises(BadInputError, match=r"its cases were prepared with seed 0 \(now 5\)"):
        runs_by_fold(trained, again)
    manifest = shutil.copytree(store.path, tmp_path / "edited") / "manifest.json"
    value = json.loads(manifest.read_text())
    one, other = (next(n for n, case in value["cases"].items() if case.get("fold") == fold) for fold in (0, 1))
    value["cases"][one]["fold"], value["cases"][other]["fold"] = 1, 0
    manifest.write_text(json.dumps(value))
    with pytest.raises(
        BadInputError, match=r"fold_0: trained on other cases than those that .* outside fold 0: its fol"
    ):
        runs_by_fold(trained, Store.open(tmp_path / "edited"))
    none = prepare(tiny_raw, tmp_path / "none", FOLDS.model_copy(update={"folds": 0}))
    with pytest.raises(BadInputError, match="this store has no folds"):
        runs_by_fold(trained, none)


def test_a_case_that_was_changed_since_is_noticed_by_its_checksum(store: Store, trained: Path, tmp_path: Path) -> None:
    """As many voxels of each class, and other values of HU: counts alone would not tell."""
    manifest = shutil.copytree(store.path, tmp_path / "edited") / "manifest.json"
    value = json.loads(manifest.read_text())
    name = next(n for n, case in value["cases"].items() if case.get("fold") == 0)
    value["cases"][name]["sha256"]["image.npy"] = "0" * 64
    manifest.write_text(json.dumps(value))
    with pytest.raises(BadInputError, match="fold_1: trained on other cases"):  # fold 0 did not see it
        runs_by_fold(trained, Store.open(tmp_path / "edited"))
