"""The whole journey with other classes than the paper's, on phantoms, with networks too small to learn anything."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.fabricated_studies import draw_no_curves
from viscera.core.anatomy import title_of
from viscera.core.config import Config, PrepareConfig
from viscera.doctor.diagnosis import diagnose, diagnose_run
from viscera.engine.predictor import Predictor
from viscera.io.checkpoint import load_checkpoint
from viscera.io.classes import read_class_file
from viscera.stages.evaluate import evaluate
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study.launch import run_study

TWO = ("liver", "kidney_left")
ELEVEN = ("artery", "portal_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas", "rib_1", "vein", "a", "b")


def two_organs(data: Path) -> None:
    """The phantom's spleen is called a kidney; other names are none of ours."""
    table = json.loads((data / "dataset.json").read_text())
    table["labels"]["Kidney left"] = table["labels"].pop("spleen")
    (data / "dataset.json").write_text(json.dumps(table))


def eleven_organs(data: Path) -> None:
    """Every other slice of the first four organs has a number of its own."""
    table = json.loads((data / "dataset.json").read_text())
    table["labels"] |= dict(zip(ELEVEN[7:], range(8, 12), strict=True))
    (data / "dataset.json").write_text(json.dumps(table))
    for path in (data / "labelsTr").glob("*.nii.gz"):
        image = nib.load(path)
        labels = np.asarray(image.dataobj)
        other = (np.arange(labels.shape[2]) % 2 == 1) & (labels > 0) & (labels <= 4)
        nib.save(nib.Nifti1Image(np.where(other, labels + 7, labels).astype(np.uint8), image.affine), path)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(("organs", "relabel"), [(TWO, two_organs), (ELEVEN, eleven_organs)], ids=["two", "eleven"])
def test_the_journey(
    tmp_path: Path,
    tiny_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    organs: tuple[str, ...],
    relabel: Callable[[Path], None],
) -> None:
    names = ["background", *organs]
    make_phantoms(tmp_path / "data", 6, shape=(32, 24, 24))
    relabel(tmp_path / "data")
    (tmp_path / "classes.yaml").write_text(f"classes: [{', '.join(organs)}]")
    settings = PrepareConfig(downsample=1, test_fraction=0.2, validation_fraction=0.2)
    classes = read_class_file(tmp_path / "classes.yaml")
    store = prepare(tmp_path / "data", tmp_path / "store", settings, classes=classes)
    assert store.voxel_counts().shape == (len(names),)
    assert (store.voxel_counts() > 0).all()

    config = tiny_config(patch=16, iterations=4)
    run = train(store.path, tmp_path / "run", config)
    checkpoint = load_checkpoint(run.last)
    assert list(checkpoint.classes.names) == names
    assert checkpoint.class_weights.shape == (len(names),)
    assert set(run.read_curve()[-1]["gradient_share"]) == set(names)
    assert list(diagnose_run(run.path).classes) == names
    found = diagnose(store.path, config)
    assert list(found.classes) == names
    assert all(len(arm.failing_chance) == len(names) for arm in found.arms)

    predict(run.path, tmp_path / "data" / "imagesTr", tmp_path / "predictions")
    assert list(Predictor.load(run.path).classes.names) == names
    written = json.loads((tmp_path / "predictions" / "phantom_000.json").read_text())
    assert written["classes"] == names
    rows = evaluate(tmp_path / "predictions", tmp_path / "data", tmp_path / "scores.csv")  # table: beside them
    assert [row.organ for row in rows if row.metric == "dice"] == names * 6

    draw_no_curves(monkeypatch)
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "jobs": 1, "fuse": True}
    page = run_study(store.path, tmp_path / "study", Config.model_validate(config.model_dump() | {"study": grid}))
    assert_report(page, organs)


def assert_report(page: Path, organs: tuple[str, ...]) -> None:
    with (page.parent / "table1.csv").open(newline="") as file:
        table = [row["class"] for row in csv.DictReader(file)]
    assert table == ["background", *organs, "AVG", "MAX", "MIN", "FOREGROUND"]
    with (page.parent / "comparisons.csv").open(newline="") as file:
        assert {row["organ"] for row in csv.DictReader(file)} == set(organs)
    text = page.read_text()
    assert "they are about its eight classes, and this study has others" in text
    assert not (page.parent / "claims.csv").exists()
    assert f"AVG, {len(organs) + 1} classes with background" in text
    assert f"Mean over {len(organs)} organ" in text
    assert all(
        f"</span>{title_of(organ)}<" in text.replace("\n", "") for organ in organs
    )  # the colours of the pictures
    assert "seven" not in text
