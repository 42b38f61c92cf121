"""An export to safetensors is the run again, to the bit; what is damaged is refused in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.export_temperature import write_temperature
from tests.random_runs import random_run
from viscera.card.card_stage import write_card
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.engine.predictor import Predictor
from viscera.export.export_stage import export
from viscera.io.checkpoint import load_checkpoint
from viscera.io.scans import read_volume
from viscera.io.store import Store
from viscera.stages.calibrate import calibrate
from viscera.stages.predict import predict

pytest.importorskip("safetensors", reason="the extra `export` is not installed")


def test_it_is_the_run_to_the_bit(tiny_run: Path, tiny_raw: Path, tmp_path: Path) -> None:
    out = export(tiny_run, tmp_path / "out", ["safetensors"])
    before, after = load_checkpoint(tiny_run / "last.pt"), load_checkpoint(out / "model.safetensors")
    assert set(after.model) == set(before.applied)
    for name, tensor in before.applied.items():
        assert torch.equal(after.model[name], tensor)
        assert after.model[name].dtype == tensor.dtype
    assert torch.equal(before.class_weights, after.class_weights)
    assert torch.equal(before.class_voxel_counts, after.class_voxel_counts)
    for field in ("step", "config", "classes", "training_spacings_mm", "best_validation_dice", "seconds"):
        assert getattr(before, field) == getattr(after, field)
    volume = read_volume(tiny_raw / "imagesTr" / "case_0_0000.nii.gz")
    one, two = (Predictor.load(each, device="cpu").segment(volume) for each in (tiny_run, out))
    np.testing.assert_array_equal(one.label_map.labels, two.label_map.labels)
    assert (one.confidence, one.entropy) == (two.confidence, two.entropy)


def test_the_page_is_the_card_with_the_hubs_metadata(tiny_run: Path, tmp_path: Path) -> None:
    page = (export(tiny_run, tmp_path / "out", ["safetensors"]) / "README.md").read_text()
    _, head, text = page.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "viscera"
    assert "# Model card" in text
    assert 'viscera.Predictor.load("path/to/this/folder")' in text
    assert "not a medical device" in text


def test_temperature_and_reasons_not_to_trust_go_with_it(tiny_run: Path, tiny_raw: Path, tmp_path: Path) -> None:
    run = random_run(tiny_run, tmp_path / "run")
    (run / "training_ranges.json").write_bytes((tiny_run / "training_ranges.json").read_bytes())
    write_temperature(run, 1.7)
    out = export(run, tmp_path / "out", ["safetensors"])
    scan = tiny_raw / "imagesTr" / "case_0_0000.nii.gz"
    for name, model in (("run", run), ("out", out)):
        predict(model, scan, tmp_path / f"predicted_{name}", device="cpu")
    tables = [(tmp_path / f"predicted_{name}" / "measurements.csv").read_text() for name in ("run", "out")]
    assert tables[0] == tables[1]
    assert Predictor.load(out).provenance["temperature"] == 1.7


def test_several_runs_are_a_folder_each_and_one_predictor_again(tiny_run: Path, tiny_raw: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        random_run(tiny_run, tmp_path / "runs" / f"seed_{seed}", seed=seed)
    out = export(tmp_path / "runs", tmp_path / "out", ["safetensors"])
    assert {path.name for path in (out / "seed_1").iterdir()} == {"config.json", "model.safetensors"}
    volume = read_volume(tiny_raw / "imagesTr" / "case_0_0000.nii.gz")
    one, two = (Predictor.load(each, device="cpu")(volume).labels for each in (tmp_path / "runs", out))
    np.testing.assert_array_equal(one, two)


def test_the_best_checkpoint_where_that_is_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    out = export(tiny_run, tmp_path / "out", ["safetensors"], PredictConfig(checkpoint="best"))
    expected = load_checkpoint(tiny_run / "best.pt")
    after = load_checkpoint(out / "model.safetensors")
    assert all(torch.equal(after.model[name], tensor) for name, tensor in expected.applied.items())
    assert list(Predictor.load(out).models) == ["best"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "its checksum is not the one in config.json"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: there is no such file"),
        (lambda folder: (folder / "config.json").write_text("{}"), "this is not a model of viscera"),
        (lambda folder: change(folder, format_version=9), "format version 9, expected 1 or earlier: a newer viscera"),
        (lambda folder: change(folder, step="many"), "damaged"),
        (lambda folder: change(folder, config={"train": {"depth": 4}}), "there is no setting 'train.depth'"),
    ],
)
def test_what_is_damaged_is_refused(
    tiny_run: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    out = export(tiny_run, tmp_path / "out", ["safetensors"])
    spoil(out)
    with pytest.raises(BadInputError, match=message):
        Predictor.load(out)


def change(folder: Path, **values: object) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | values))


def test_what_needs_the_run_itself_says_so(tiny_run: Path, tiny_store: Store, tmp_path: Path) -> None:
    out = export(tiny_run, tmp_path / "out", ["safetensors"])
    for command in (
        lambda: export(out, tmp_path / "again", ["slicer"]),
        lambda: write_card(out, tmp_path / "card"),
        lambda: calibrate(out, tiny_store.path),
    ):
        with pytest.raises(BadInputError, match=r"out: these are the exported weights of a run\. Give the run that"):
            command()
