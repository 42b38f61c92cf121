"""What people get wrong, each with its exit code and the sentence that mends it: nothing else needs to be looked up."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import run
from viscera.core.config import Config
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.io.store import Store

# the ten most likely mistakes, in the order of the journey
MISTAKES = [
    # 1. what belongs to one argument given for another
    ("prepare store raw", 3, "store: this is a store, in the place of SOURCE; the arguments seem to be swapped."),
    ("prepare store raw", 3, "Write `viscera prepare raw store`."),
    ("train run store", 3, "Write `viscera train store run`."),
    ("predict raw/imagesTr run out2", 3, "Write `viscera predict run raw/imagesTr OUTPUT`."),
    ("evaluate raw out", 3, "Write `viscera evaluate out raw`."),
    ("evaluate raw/labelsTr out", 3, "Write `viscera evaluate out raw/labelsTr`."),
    ("calibrate store run", 3, "Write `viscera calibrate run store`."),
    ("study study store", 3, "Write `viscera study store study`."),
    # 2. the data set where its store is needed, or the other way round
    ("train raw run2", 3, "Make a store of it with `viscera prepare raw STORE`, and give that."),
    ("study raw study2", 3, "Make a store of it with `viscera prepare raw STORE`, and give that."),
    (
        "doctor raw",
        3,
        "a store or the folder of a run was expected. Make a store of it with `viscera prepare raw STORE`",
    ),
    ("train run run2", 3, "run: this is a run, a trained model; a store was expected."),
    ("check store", 3, "store: this is a store; a data set was expected."),
    # 3. the root of a data set, its labels, or predictions, where its images are meant
    ("predict run raw out2", 3, "a scan or a folder of scans was expected. Give its images: raw/imagesTr"),
    ("predict run raw/labelsTr out2", 3, "raw/labelsTr: these are the labels of a data set;"),
    ("predict run raw/labelsTr/case_0.nii.gz out2", 3, "Give its images: raw/imagesTr"),
    ("predict run out out2", 3, "out: these are label maps that viscera predicted; a scan or a folder of scans"),
    ("prepare raw/imagesTr store2", 3, "raw/imagesTr: these are the images of a data set; a data set was expected."),
    ("prepare raw/imagesTr store2", 3, "Give the data set: raw"),
    ("evaluate out raw/imagesTr", 3, "Give the data set: raw"),
    # 4. a file of a run for the run, a study for its runs, its report for the study
    ("predict run/last.pt raw/imagesTr out2", 3, "the folder of a run was expected. Give the folder: run"),
    ("doctor run/last.pt", 3, "Give the folder: run"),
    ("train store run/last.pt", 3, "Give the folder: run"),
    ("predict study raw/imagesTr out2", 3, "study: this is a study; the folder of a run was expected."),
    ("report study/report/index.html", 3, "Give the folder of the study: study"),
    ("report run", 3, "A study of several models is made by `viscera study STORE STUDY`."),
    # 5. evaluating before predicting
    ("evaluate run store", 3, "Predict first: `viscera predict run SCANS OUT`, then evaluate OUT."),
    # 6. a folder that is taken
    ("train store run", 3, "run: this run exists. Resume it with --resume, or choose another folder."),
    ("prepare raw run", 3, "run: exists and is not a store. Choose an empty or new folder."),
    # and an empty folder
    ("predict run empty out2", 3, "empty: the folder is empty. Give a scan, a folder of scans or that of a CT series."),
    ("view empty", 3, "empty: the folder is empty. Give a scan"),
    ("series empty", 3, "empty: the folder is empty. Give a scan"),
    ("check empty --out out2", 3, "empty: the folder is empty. Give the folder that holds scans and labels."),
    ("prepare empty store2", 3, "empty: the folder is empty. Give the folder that holds scans and labels."),
    # 7. devices that are called otherwise
    ("train store run2 --device gpu", 2, "a GPU is called cuda. Give --device cuda, or auto"),
    ("train store run2 --device gpu:1", 2, "a GPU is called cuda:1. Give --device cuda:1, or auto"),
    ("train store run2 --device cdua", 2, "did you mean cuda?"),
    # 8. decimal commas and per cent
    ("train store run2 --learning-rate 0,01", 2, "'0,01': a number was expected; did you mean 0.01?"),
    ("study store study2 --learning-rates 0,01", 2, "did you mean 0.01? A comma separates several values."),
    ("train store run2 --set train.learning_rate=0,01", 2, "did you mean 0.01?"),
    ("prepare raw store2 --test-fraction 20%", 2, "'20%': a number was expected; did you mean 0.2?"),
    # 9. misspelt commands, options, settings and their values
    ("trian store run2", 2, "No such command 'trian'. Did you mean 'train'?"),
    ("train store run2 --iteration 5", 2, "train has no option --iteration. Did you mean --iterations?"),
    ("train store run2 --levels 3", 2, "train has no option --levels. It is a setting: --set train.levels=VALUE."),
    (
        "train store run2 --set train.iteration=5",
        2,
        "there is no setting 'train.iteration'; did you mean train.iterations?",
    ),
    ("train store run2 --weighting sqaure", 2, "or a power in [0, 2] was expected; did you mean square?"),
    ("train store run2 --preset demmo", 2, "There is no preset 'demmo'."),
    ("train store run2 --preset demmo", 2, "Did you mean demo?"),
    ("evaluate out raw --metrics hd95", 2, "did you mean hd95_mm?"),
    ("predict run raw/imagesTr out2 --format nifit", 2, "Did you mean nifti?"),
    ("prepare raw store2 --layout nnunett", 2, "Did you mean nnunet?"),
    # 10. more patches per step than there are patients
    ("train store run2 --batch-size 9", 3, "there are only 4 training cases. Add cases, or give --batch-size 4."),
]
JARGON = r"Input should|valid (integer|number|string)|parse string|Value error|device type at start|Traceback|pydantic"


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_raw: Path,
    tiny_store: Store,
    tiny_run: Path,
    tiny_config: Callable[..., Config],
) -> Path:
    """One of each: `raw`, `store`, `run`, `out` (predictions), `study`."""
    folder = tmp_path_factory.mktemp("everything")
    for name, path in (("raw", tiny_raw), ("store", tiny_store.path), ("run", tiny_run)):
        shutil.copytree(path, folder / name)
    (folder / "out").mkdir()
    (folder / "empty").mkdir()
    labels = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    nib.save(labels, folder / "out" / "case_0.nii.gz")
    (folder / "out" / "case_0.json").write_text(json.dumps({"run_sha256": "0", "measurements": {}}))
    study = StudyFolder(folder / "study")
    study.path.mkdir()
    study.write_record(StudyRecord(version="0", store=str(folder / "store"), dataset="tiny", config=tiny_config()))
    shutil.copytree(tiny_run, study.path / "arms" / "uniform_lr0.001" / "seed_0")
    (study.path / "report").mkdir()
    (study.path / "report" / "index.html").write_text("<html></html>")
    return folder


@pytest.mark.parametrize(("command", "code", "sentence"), MISTAKES)
def test_a_sentence_mends_it(
    everything: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int, sentence: str
) -> None:
    monkeypatch.chdir(everything)
    before = sorted(path for path in everything.rglob("*") if path.suffix != ".lock")
    result = run(*command.split())
    said = " ".join(result.output.split())
    assert result.exit_code == code, said
    assert sentence in said
    assert len(said) < 600
    assert not re.search(JARGON, said)
    assert sorted(path for path in everything.rglob("*") if path.suffix != ".lock") == before


def test_a_study_says_which_of_its_runs_could_be_meant_and_which_store_it_has(
    everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(everything)
    assert "such as study/arms/uniform_lr0.001/seed_0" in run("predict", "study", "raw/imagesTr", "o").output
    assert f"This study was run on {everything / 'store'}" in " ".join(run("find-rate", "study").output.split())


def test_what_is_right_is_not_refused(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions against predictions, labels against labels, one fold folder of runs: no mistakes."""
    monkeypatch.chdir(everything)
    for arguments in (("out", "out"), ("raw/labelsTr", "raw/labelsTr"), ("raw/labelsTr", "raw")):
        result = run(
            "evaluate", *arguments, "--metrics", "dice", "--out", f"{arguments[1].replace('/', '_')}_s/scores.csv"
        )
        assert result.exit_code == 0, result.output
