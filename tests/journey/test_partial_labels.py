"""Data sets that do not label every organ, side by side in one store: the whole journey, and that it learns."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fabricated_studies import draw_nothing
from viscera.core.arms import Arm
from viscera.core.config import Config, PrepareConfig
from viscera.doctor.diagnosis import diagnose
from viscera.io.runlog import StudyFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("in_this_process")


def two_sets(folder: Path, cases: int, lacking: int, shape: tuple[int, int, int], split: dict[str, list[int]]) -> Store:
    """A store of phantoms, the first few of which come from a data set that does not label the liver."""
    make_phantoms(folder / "whole", cases, shape=shape)
    table = json.loads((folder / "whole" / "dataset.json").read_text())
    table["labels"] = {"nobody knows" if name == "liver" else name: n for name, n in table["labels"].items()}
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (folder / "partial" / part).mkdir(parents=True)
        for number in range(lacking):
            file = f"phantom_{number:03}{ending}"
            (folder / "whole" / part / file).rename(folder / "partial" / part / file)
    (folder / "partial" / "dataset.json").write_text(json.dumps(table))
    names = {key: [f"phantom_{number:03}" for number in numbers] for key, numbers in split.items()}
    (folder / "split.json").write_text(json.dumps(names))
    for source in ("partial", "whole"):
        store = prepare(
            folder / source,
            folder / "store",
            PrepareConfig(downsample=1),
            partial=True,
            split_file=folder / "split.json",
        )
    return store


def test_the_journey(tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "make_report", lambda study: study)  # the next test has one
    split = {"train": [0, 1, 3, 4, 5], "validation": [2, 6], "test": [7, 8, 9]}
    store = two_sets(tmp_path, 10, 3, (32, 24, 24), split)
    manifest = json.loads((store.path / "manifest.json").read_text())
    assert manifest["cases"]["phantom_000"]["unlabelled"] == ["liver"]
    config = tiny_config(patch=16, iterations=4)
    found = diagnose(store.path, config)
    assert found.cases_labelling == (5, 5, 5, 3, 5, 5, 5, 5)
    assert found.cases_with_class[3] == 3
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "jobs": 1, "fuse": True}
    launch.run_study(store.path, tmp_path / "study", Config.model_validate(config.model_dump() | {"study": grid}))
    folder = StudyFolder(tmp_path / "study")
    rows = read_scores(folder.fused.validation_scores)
    livers = {row.case: row.value for row in rows if row.organ == "liver"}
    assert livers["phantom_002"] is None
    assert livers["phantom_006"] is not None
    line = folder.run(Arm("simple", 0.01), 0).read_curve()[-1]
    assert line["gradient_share"]["liver"] > 0


def test_a_test_case_that_does_not_label_an_organ_is_named_in_the_report(
    tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    split = {"train": [1, 2, 3, 4], "validation": [], "test": [0, 5]}
    store = two_sets(tmp_path, 6, 2, (32, 24, 24), split)
    grid = {"weightings": ["uniform"], "learning_rates": [0.01], "jobs": 1}
    config = Config.model_validate(tiny_config(patch=16, iterations=4).model_dump() | {"study": grid})
    page = launch.run_study(store.path, tmp_path / "study", config)
    assert StudyFolder(tmp_path / "study").read_record().unlabelled == {"phantom_000": ("liver",)}
    with (tmp_path / "study" / "scores.csv").open(newline="") as file:
        livers = {row["case"]: row["value"] for row in csv.DictReader(file) if row["organ"] == "liver"}
    assert livers["phantom_000"] == ""
    assert livers["phantom_005"]
    assert "liver: not labelled, and so left out of its mean, in 1 of 2 cases" in page.read_text()


@pytest.mark.slow
def test_an_organ_is_learnt_from_the_half_that_labels_it(tmp_path: Path, tiny_config: Configure) -> None:
    """Five of ten phantoms do not label the liver; where the loss believes them, it ends about 0.1 lower (phantom)."""
    split = {"train": list(range(10)), "validation": [10, 11]}
    store = two_sets(tmp_path, 12, 5, (40, 32, 28), split)
    settings = {"iterations": 200, "patch": 16, "batch_size": 4, "filters": 6, "levels": 3, "learning_rate": 0.01}
    every = {"log_every": 50, "validate_every": 100, "checkpoint_every": 200, "monitor_windows": 12}
    run = train(store.path, tmp_path / "run", tiny_config(**settings, **every, precision="float32"))
    curve = run.read_curve()
    assert curve[-1]["validation_dice"]["liver"] > 0.65
    assert np.mean([line["gradient_share"]["liver"] for line in curve]) > 0.01
