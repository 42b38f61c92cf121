"""Exports, folders of runs and the arms of a study in the place of something else: the remedy is one that works."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import refused
from viscera.core.config import Config
from viscera.export.export_stage import export
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.io.store import Store

pytest.importorskip("safetensors", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_raw: Path,
    tiny_store: Store,
    tiny_run: Path,
    tiny_config: Callable[..., Config],
) -> Path:
    """`raw`, `store`, `run`, `cv` of two folds, `st`, `new` (a study without weights), and exports of run and cv."""
    folder = tmp_path_factory.mktemp("misplaced")
    shutil.copytree(tiny_raw, folder / "raw")
    shutil.copytree(tiny_store.path, folder / "store")
    shutil.copytree(tiny_run, folder / "run")
    for fold in (0, 1):
        shutil.copytree(tiny_run, folder / "cv" / f"fold_{fold}")
    for name in ("st", "new"):
        study = StudyFolder(folder / name)
        study.path.mkdir()
        study.write_record(StudyRecord(version="0", store=str(folder / "store"), dataset="tiny", config=tiny_config()))
        (study.path / "arms" / "uniform_lr0.001").mkdir(parents=True)
    shutil.copytree(tiny_run, folder / "st" / "arms" / "uniform_lr0.001" / "seed_0")
    export(folder / "run", folder / "exs", ["safetensors"])
    export(folder / "cv", folder / "exs_cv", ["safetensors"])
    export(folder / "run", folder / "colours", ["slicer"])
    export(folder / "run", folder / "both", ["safetensors", "slicer"])
    return folder


ARMS = "Give one of its arms, such as st/arms/uniform_lr0.001, or one run, such as st/arms/uniform_lr0.001/seed_0"
REMEDIES = [
    # exports
    ("calibrate exs store", "exs: these are the exported weights of a run; the folder of a run was expected."),
    ("calibrate exs store", "Give the run that they were made from: run"),
    ("card exs", "Give the run that they were made from: run"),
    ("doctor exs", "a store or the folder of a run was expected. Give the run that they were made from: run"),
    ("export exs out --to slicer", "Give the run that they were made from: run"),
    ("calibrate exs_cv store", "Give the run that they were made from: cv/fold_0"),
    ("card exs_cv", "Give the run that they were made from: cv"),
    ("calibrate both store", "Give the run that they were made from: run"),
    ("calibrate both/safetensors store", "Give the run that they were made from: run"),
    ("predict colours raw/imagesTr out", "colours: this is an export for other programs; the folder of a run"),
    ("predict colours raw/imagesTr out", "Give the run that it was made from: run"),
    ("predict both/slicer raw/imagesTr out", "Give the run that it was made from: run"),
    ("predict exs/model.safetensors raw/imagesTr out", "Give the folder: exs"),
    ("evaluate exs store", "Predict first: `viscera predict exs SCANS OUT`, then evaluate OUT."),
    ("predict raw/imagesTr exs out", "Write `viscera predict exs raw/imagesTr OUTPUT`."),
    ("report exs", "the folder of a study was expected. A study of several models is made by"),
    # folders of runs, which are of no study
    (
        "report cv",
        "Its runs are of no study. `viscera card cv` describes their mean. A study of several models",
    ),
    ("power cv", "Its runs are of no study."),
    (
        "plan cv --iterations 30",
        "cv: this is a folder of runs; a store was expected. Give the store that its runs were",
    ),
    ("plan run", "Give the store that it was trained on"),
    ("calibrate cv store", "Give one of its runs, such as cv/fold_0"),
    # a study, its arms, and one of them
    ("predict st/arms raw/imagesTr out", "st/arms: these are the arms of a study; the folder of a run was expected."),
    ("predict st/arms raw/imagesTr out", ARMS),
    ("predict st raw/imagesTr out", ARMS),
    ("card st/arms", ARMS),
    ("calibrate st/arms store", "Give one of its runs, such as st/arms/uniform_lr0.001/seed_0"),
    ("calibrate st/arms/uniform_lr0.001 store", "Give one of its runs, such as st/arms/uniform_lr0.001/seed_0"),
    ("predict new raw/imagesTr out", "None of its runs has weights yet: train them first."),
    ("predict new/arms raw/imagesTr out", "None of its runs has weights yet: train them first."),
    ("report st/arms", "Give the folder of the study: st"),
    ("report st/arms/uniform_lr0.001", "Give the folder of the study: st"),
    ("report st/arms/uniform_lr0.001/seed_0", "Give the folder of the study: st"),
    ("plan st/arms", "This study was run on"),
    ("plan st/arms/uniform_lr0.001", "This study was run on"),
    (
        "plan st/arms/uniform_lr0.001/seed_0",
        "seed_0: this is a run, a trained model; a store was expected. It was trained",
    ),
    ("evaluate st/arms store", "Predict first"),
]


@pytest.mark.parametrize(("command", "sentence"), REMEDIES)
def test_the_remedy_is_one_that_works(
    everything: Path, monkeypatch: pytest.MonkeyPatch, command: str, sentence: str
) -> None:
    monkeypatch.chdir(everything)
    before = sorted(path for path in everything.rglob("*") if path.suffix != ".lock")
    assert sentence in " ".join(refused(3, *command.split()).split())
    assert sorted(path for path in everything.rglob("*") if path.suffix != ".lock") == before


def test_a_run_that_is_elsewhere_is_known_by_its_checksum(
    everything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(everything / "exs", tmp_path / "exs")
    (tmp_path / "exs" / "export.json").unlink()  # as a hub has it
    monkeypatch.chdir(tmp_path)
    said = " ".join(refused(3, "card", "exs").split())
    digest = hashlib.sha256((everything / "run" / "last.pt").read_bytes()).hexdigest()
    assert f"Give the run that they were made from, whose checkpoint has the SHA-256 {digest[:12]}…" in said
    (tmp_path / "exs" / "config.json").write_text("[")
    assert "Give the run that they were made from." in " ".join(refused(3, "card", "exs").split())
