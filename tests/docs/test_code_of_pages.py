"""Every code block of README and guides is run, or read by what reads such files; one that no test knows is named."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

import viscera
from tests.conftest import TINY_TRAINING, tiny_case, write_nnunet
from viscera.core.config import PrepareConfig
from viscera.core.resolve import resolve_config
from viscera.io.classes import read_class_file
from viscera.io.scans import read_volume
from viscera.stages.prepare import prepare

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# by page and language, how many blocks are run here or elsewhere
RUN = {
    ("README.md", "python"): 1,
    ("docs/howto/arrays.md", "python"): 3,
    ("docs/howto/data.md", "json"): 1,
    ("docs/howto/data.md", "python"): 1,
    ("docs/howto/data.md", "yaml"): 1,
    ("docs/howto/export.md", "python"): 1,
    ("docs/howto/losses.md", "bash"): 2,  # tests/oracle/test_nnunet_training.py
    ("docs/howto/losses.md", "python"): 3,  # tests/plugins/test_nnunet.py, tests/oracle/test_monai_plugin.py
    ("docs/howto/torchio-lightning.md", "python"): 1,  # tests/plugins/test_torchio.py
    ("docs/readings.md", "yaml"): 1,
}


def blocks(page: str, language: str) -> list[str]:
    return [text for of, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if of == language]


def test_every_block_is_run_by_a_test() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]]
    made = {"docs/reference/commands.md", "docs/reference/settings.md"}
    found = {
        (page, language): len(blocks(page, language))
        for page in pages
        if page not in made
        for language in {of for of, _ in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))} - {"text"}
    }
    assert found == RUN


@pytest.fixture
def at_home(tiny_run: Path, tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `run/` and `ct.nii.gz`, in which the page's code is run."""
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.copy(tiny_raw / "imagesTr" / "case_0_0000.nii.gz", tmp_path / "ct.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme(at_home: Path) -> None:
    names: dict[str, object] = {
        "voxel_counts": [1000, 10, 20, 400, 50, 60, 30, 40],
        "logits": torch.zeros(2, 8, 4, 4, 4, requires_grad=True),
        "labels": torch.zeros(2, 4, 4, 4, dtype=torch.uint8),
    }
    exec(blocks("README.md", "python")[0], names)  # noqa: S102 - the page's own code
    logits, label_map = names["logits"], names["label_map"]
    assert isinstance(logits, torch.Tensor)
    assert logits.grad is not None
    assert label_map.geometry.shape == read_volume(at_home / "ct.nii.gz").geometry.shape  # type: ignore[attr-defined]


@pytest.fixture
def turned_scan(at_home: Path) -> Path:
    """In place of the scan one whose I, J, K run up, left and back, all of them aslant."""
    i, j = np.deg2rad(10), np.deg2rad(7)
    one = np.array([[np.cos(i), -np.sin(i), 0], [np.sin(i), np.cos(i), 0], [0, 0, 1]])
    other = np.array([[1, 0, 0], [0, np.cos(j), -np.sin(j)], [0, np.sin(j), np.cos(j)]])
    affine = np.eye(4)
    affine[:3, :3] = one @ other @ np.array([[0, -2.0, 0], [0, 0, -2.1], [2.5, 0, 0]])
    affine[:3, 3] = 30, -20, 100
    hu = np.random.default_rng(0).integers(-200, 300, (9, 10, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, affine), at_home / "ct.nii.gz")
    return at_home


@pytest.mark.parametrize(("block", "library"), [(0, "nibabel"), (1, "SimpleITK")])
def test_a_scan_that_another_library_read_lies_where_it_lies(turned_scan: Path, block: int, library: str) -> None:
    pytest.importorskip(library)
    names: dict[str, Any] = {}
    exec(blocks("docs/howto/arrays.md", "python")[block], names)  # noqa: S102 - the page's own code
    volume, expected = names["volume"], read_volume(turned_scan / "ct.nii.gz")
    assert (volume.hu == expected.hu).all()
    assert volume.geometry.orientation == "SLP"
    assert volume.geometry.same_grid(expected.geometry, tolerance_mm=1e-4)
    if library == "SimpleITK":
        x, y, z = names["image"].TransformIndexToPhysicalPoint((1, 2, 3))
        assert volume.geometry.to_mm((1, 2, 3)) == pytest.approx((-x, -y, z))  # LPS+
    written = viscera.read_labels(turned_scan / "organs.nii.gz")
    assert written.geometry.same_grid(expected.geometry, tolerance_mm=1e-4)
    assert (written.labels == viscera.Predictor.load("run")(expected).labels).all()
    assert len(np.unique(written.labels)) > 1


def test_two_folders_are_scored(at_home: Path) -> None:
    for folder in ("predictions", "references"):
        (at_home / folder).mkdir()
        for name in ("a", "b"):
            viscera.Predictor.load("run")(read_volume("ct.nii.gz")).save(f"{folder}/{name}.nii.gz")
    names: dict[str, Any] = {}
    exec(blocks("docs/howto/arrays.md", "python")[2], names)  # noqa: S102 - the page's own code
    assert list(names["table"]["case"].unique()) == ["a.nii.gz", "b.nii.gz"]
    assert names["table"]["dice"].dropna().eq(1).all()


def test_the_runner_of_an_export_in_a_program(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from viscera.export.export_stage import export  # noqa: PLC0415 - an extra

    export(at_home / "run", at_home / "out", ["onnx"])
    monkeypatch.syspath_prepend(at_home / "out")
    monkeypatch.delitem(sys.modules, "segment", raising=False)
    volume = read_volume(at_home / "ct.nii.gz")
    names: dict[str, object] = {"Path": Path, "hu": volume.hu, "affine": volume.geometry.affine}
    exec(blocks("docs/howto/export.md", "python")[0], names)  # noqa: S102 - the page's own code
    monkeypatch.delitem(sys.modules, "segment", raising=False)
    labels = names["labels"]
    assert isinstance(labels, np.ndarray)
    assert labels.shape == volume.hu.shape


def test_settings() -> None:
    (text,) = blocks("docs/readings.md", "yaml")
    config = resolve_config(file_values={"train": TINY_TRAINING} | yaml.safe_load(text))
    assert config.study.weightings == ("uniform", "square", "mine", "swapped")


def test_tables_of_labels(tmp_path: Path) -> None:
    (table,) = blocks("docs/howto/data.md", "json")
    assert json.loads(table)["labels"]["left_kidney"] == 8
    (tmp_path / "classes.yaml").write_text(blocks("docs/howto/data.md", "yaml")[0])
    assert read_class_file(tmp_path / "classes.yaml").table.names[1:] == ("liver", "kidney_left", "kidney_right")


def test_folds_of_patients_with_several_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scans = [f"pat{patient:02}_scan{scan}" for patient in range(8) for scan in range(1, 3 + patient % 2)]
    write_nnunet(tmp_path / "DATA", {name: tiny_case(number) for number, name in enumerate(scans)})
    exec(blocks("docs/howto/data.md", "python")[0], {})  # noqa: S102 - the page's own code
    store = prepare(tmp_path / "DATA", tmp_path / "s", PrepareConfig(downsample=1), split_file=Path("folds.json"))
    places: dict[str, set[object]] = {}
    for name, record in store.manifest.cases.items():
        places.setdefault(name.split("_")[0], set()).add("test" if record.split == "test" else record.fold)
    assert all(len(each) == 1 for each in places.values())
    assert set().union(*places.values()) == {"test", 0, 1, 2, 3, 4}
