"""Files of ours whose form is right and whose values are not: whoever can write a file can write its checksum, too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from viscera.core.errors import BadInputError
from viscera.engine.optimiser import make_optimiser
from viscera.engine.trained_model import Model
from viscera.engine.trainer import Trainer
from viscera.io import checkpoint as module
from viscera.io.checkpoint import load_checkpoint
from viscera.io.quarantine import left_out_of, write_quarantine
from viscera.io.records import read_csv, read_json, write_csv
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.verify import verify


@pytest.fixture
def store(tiny_store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_store.path, tmp_path / "store"))


# ------------------------------------------------------------------------------------------ stores


def with_manifest(store: Path, change: Callable[[Any], None]) -> None:
    value = json.loads((store / "manifest.json").read_text())
    del value["checksum"]
    change(value)
    (store / "manifest.json").write_text(json.dumps(value))


MANIFESTS: dict[str, Callable[[Any], None]] = {
    "counts of other classes": lambda m: m["cases"]["case_0"].update(voxel_counts_prepared=[1, 2]),
    "counts beyond 64 bits": lambda m: m["cases"]["case_0"].update(voxel_counts_original=[2**70] * 8),
    "negative counts": lambda m: m["cases"]["case_0"].update(voxel_counts_original=[-1] * 8),
    "no checksum of the image": lambda m: m["cases"]["case_0"].update(sha256={"labels.npy": "0"}),
    "a flat affine": lambda m: m["cases"]["case_0"]["prepared"].update(affine=np.diag([2, 2, 0, 1]).tolist()),
    "a small affine": lambda m: m["cases"]["case_0"]["prepared"].update(affine=[[1.0] * 4] * 3),
    "an infinite affine": lambda m: m["cases"]["case_0"]["original"].update(affine=np.diag([1e200] * 4).tolist()),
    "no voxels": lambda m: m["cases"]["case_0"]["original"].update(shape=[0, 5, 5]),
    "a class of another kind": lambda m: m.update(classes=["background", "<script>"]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_cannot_be_is_damaged(store: Path, name: str) -> None:
    with_manifest(store, MANIFESTS[name])
    with pytest.raises(BadInputError, match=r"manifest\.json: damaged"):
        Store.open(store)


@pytest.mark.parametrize(
    "cases", [[], 3, "x", {"case_0": []}, {"case_0": {"sha256": [1]}}, {"case_0": {"sha256": {"a": {}}}}]
)
def test_verify_names_a_manifest_of_any_form(store: Path, cases: object) -> None:
    with_manifest(store, lambda value: value.update(cases=cases))
    assert {each.path.name for each in verify(store) if each.state == "damaged"} >= {"manifest.json"}


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i2', 'fortran_order': False, 'shape': (14, 12), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (14, 12, 10), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (14, 12, 10), }",
        f"{{'descr': '<i2', 'fortran_order': False, 'shape': ({2**99},), }}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (14, 12, 10)",
        "(" * 5000,
    ],
)
def test_an_array_of_another_kind_is_damaged(store: Path, header: str) -> None:
    path = store / "cases" / "case_0" / "image.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(30_000))
    with pytest.raises(BadInputError, match=r"image\.npy: (missing or )?damaged"):
        Store.open(store).image("case_0")


def test_an_array_of_another_size_is_no_scan(store: Path) -> None:
    np.save(store / "cases" / "case_0" / "image.npy", np.zeros((3, 4, 5), np.int16))
    np.savez(store / "cases" / "case_1" / "labels.npz", np.zeros(3))
    (store / "cases" / "case_1" / "labels.npz").replace(store / "cases" / "case_1" / "labels.npy")
    with pytest.raises(BadInputError, match="case_0 has 3×4×5 voxels, and 14×12×10 by the manifest"):
        Store.open(store).volume("case_0")
    with pytest.raises(BadInputError, match=r"labels\.npy: damaged"):
        Store.open(store).label_map("case_1")


# ------------------------------------------------------------------------------------------ checkpoints


def rewritten(run: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """Its checkpoint with other values and a checksum that fits."""
    content = torch.load(run / "last.pt", weights_only=True)
    del content["sha256"]
    change(content)
    try:
        content["sha256"] = module._digest(content)
    except (ValueError, RuntimeError):
        content["sha256"] = "0" * 64
    torch.save(content, folder / "last.pt")
    return folder / "last.pt"


CHECKPOINTS: dict[str, Callable[[Any], None]] = {
    "a weight that is none": lambda c: c["model"].update(dict.fromkeys(c["model"], 3)),
    "a name that is no text": lambda c: c["config"].update(classes=["background", 3]),
    "counts of other classes": lambda c: c.update(class_voxel_counts=torch.ones(3)),
    "no weights of the classes": lambda c: c.pop("class_weights"),
    "a step that is none": lambda c: c.update(step="seven"),
    "voxels without size": lambda c: c["config"].update(training_spacings_mm=[[1, 0, 1]]),
    "a sparse tensor": lambda c: c["model"].update(x=torch.eye(3).to_sparse()),
    "a tensor on no device": lambda c: c["model"].update(x=torch.zeros(2**40, device="meta")),
    "one number 2^40 times": lambda c: c["model"].update(x=torch.zeros(1).expand(2**40)),
    "a dictionary in itself": lambda c: c["model"].update(x=c["model"]),
    "an optimizer that is none": lambda c: c.update(optimizer=[1]),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_odd_values_is_refused(tiny_run: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(tiny_run, tmp_path, CHECKPOINTS[name])
    with pytest.raises(
        BadInputError, match=r"last\.pt: damaged, or no checkpoint( \(.+\))?\. Restore it or train again"
    ):
        load_checkpoint(path)


NETWORKS: dict[str, Callable[[Any], None]] = {
    "a layer is missing": lambda c: c["model"].pop(next(iter(c["model"]))),
    "a layer of another size": lambda c: c["model"].update({next(iter(c["model"])): torch.zeros(5)}),
    "filters for terabytes": lambda c: c["config"]["train"].update(filters=10**6),
    "other classes": lambda c: (
        c.update(class_voxel_counts=torch.ones(2), class_weights=torch.ones(2))
        or c["config"].update(classes=["background", "liver"])
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_another_network_are_refused(tiny_run: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(tiny_run, tmp_path, NETWORKS[name])
    with pytest.raises(BadInputError, match=r"last\.pt: damaged: its weights are not those of the network"):
        Model.load(path, device="cpu")


@pytest.mark.parametrize("state", [{}, {"state": {0: {"exp_avg": torch.zeros(3)}}}, {"param_groups": []}])
def test_an_optimizer_of_another_network_is_refused(tiny_run: Path, tmp_path: Path, state: dict[str, Any]) -> None:
    def change(content: Any) -> None:
        content["optimizer"] = {**content["optimizer"], **state} if state else {}

    path = rewritten(tiny_run, tmp_path, change)
    checkpoint = load_checkpoint(path)
    assert checkpoint.optimizer.keys() == ({"state", "param_groups"} if state else set())
    trainer = object.__new__(Trainer)
    model = Model.load(tiny_run / "last.pt", device="cpu", folded=False)
    trainer.network, trainer.average = model.network, None  # type: ignore[assignment]
    trainer.optimizer = make_optimiser(model.network, checkpoint.config.train)
    with pytest.raises(BadInputError, match="its weights are not those of the network"):
        trainer.restore(load_checkpoint(path), path)


# ------------------------------------------------------------------------------------------ records and tables


def test_json_of_very_many_names_one_of_which_is_there_twice(tmp_path: Path) -> None:
    """It was found by counting each name in all: minutes for a file of 2 MB."""
    names = ",".join(f'"{n}": 0' for n in range(50_000))
    (tmp_path / "a.json").write_text(f'{{{names}, "49999": 1}}')
    with pytest.raises(BadInputError, match="'49999' is there twice"):
        read_json(tmp_path / "a.json")


def test_a_number_that_nobody_computes_with_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'{{"a": 0.5, "b": {"1" * 400}}}')
    with pytest.raises(BadInputError, match="a number of hundreds of digits"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"sha256": "1" * 400, "pi": "0." + "3" * 400}))
    assert read_json(tmp_path / "a.json")["sha256"] == "1" * 400


def test_no_cell_that_is_written_is_a_formula(tmp_path: Path) -> None:
    rows = [("=1+1", "-2.5", "ok"), ("a;@SUM(A1)", "+3", "'=x")]
    write_csv(tmp_path / "a.csv", ("case", "value", "-note"), rows)
    assert (tmp_path / "a.csv").read_text() == "case,value,'-note\n'=1+1,-2.5,ok\na;'@SUM(A1),+3,''=x\n"
    assert [tuple(row.values()) for row in read_csv(tmp_path / "a.csv")] == rows
    assert list(read_csv(tmp_path / "a.csv")[0]) == ["case", "value", "-note"]


def test_a_quarantine_table_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "quarantine.csv").write_text("case,reason\n\nx\n")
    assert left_out_of(tmp_path) == {"x"}
    (tmp_path / "quarantine.csv").write_text("name;case;why\nx;y;z\n")
    assert left_out_of(tmp_path) == {"y"}
    with pytest.raises(BadInputError, match="viscera did not write it"):
        write_quarantine(tmp_path, {}, ["x"])


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 2, "loss": NaN}',
        '{"step": 1e400}',
        '{"step": 1, "x": -Infinity}',
        "[" * 10**5,
        '{"loss": 0.5}',
        '{"step": "2"}',
        '{"step": 2, "loss": "low"}',
        '{"step": 2, "dice": {"liver": "0.5"}}',
        '{"step": 2, "dice": [0.5]}',
        '{"step": 2, "mostly_called": {"liver": 1}}',
    ],
)
def test_a_curve_has_numbers_where_numbers_are_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "curve.jsonl").write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(BadInputError, match=r"damaged, line 2 is not as viscera wrote it"):
        RunFolder(tmp_path).keep_curve_until(3)


def test_a_curve_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "curve.jsonl").write_bytes(
        b'{"step": 1, "a": "\xff", "checksum": "sha256:0123456789abcdef"}\n{"step": 2}\n'
    )
    with pytest.raises(BadInputError, match="damaged, line 1"):
        RunFolder(tmp_path).read_curve()
