"""Whole or not at all, and never over what somebody else wrote; wrong input in a sentence."""

import builtins
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import refused, run
from tests.fused_folder import fused_folder
from tests.random_runs import random_run
from viscera.core.errors import BadInputError
from viscera.export import export_stage
from viscera.export.export_stage import FORMS, Form, export
from viscera.io.nifti import read_labels
from viscera.stages.predict import predict

pytest.importorskip("onnx", reason="the extra `export` is not installed")
LIBRARIES_OF_VISCERA = ("viscera", "torch", "nibabel", "scipy", "pydantic", "onnx", "yaml", "isal")


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_form_stands_in_the_folder_and_several_in_one_each(tiny_run: Path, tmp_path: Path) -> None:
    assert run("export", tiny_run, tmp_path / "one", "--to", "onnx").stdout == f"{tmp_path / 'one'}\n"
    alone = {"model.onnx", "model.json", "segment.py", "README.md", "card.md", "card.json", "export.json"}
    assert names_in(tmp_path / "one") == alone
    said = run("export", tiny_run, tmp_path / "two", "--to", "onnx,slicer").stderr
    folder = tmp_path / "two" / "onnx"
    assert f"{folder}: README.md, card.json, card.md, model.json, model.onnx, segment.py\n" in said
    assert f"{folder}: run it with `python {folder}/segment.py SCAN LABELS`\n" in said
    assert f"{tmp_path / 'two' / 'slicer'}: load viscera.ctbl in 3D Slicer" in said
    two = names_in(tmp_path / "two")
    assert {"onnx/model.onnx", "slicer/viscera.ctbl", "slicer/card.md", "export.json"} <= two
    assert all("/" in name or name == "export.json" for name in two)
    record = json.loads((tmp_path / "one" / "export.json").read_text())
    assert set(record["files"]) == alone - {"export.json"}
    assert record["forms"] == ["onnx"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none", "out", "--to", "onnx"], 3, "none: there is no such run"),
        (["folder", "out", "--to", "onnx"], 3, "there is no such checkpoint"),
        (["run", "out", "--to", "onyx"], 2, "--to onyx: there is no such format. There are: onnx"),
        (["run", "out", "--to", ","], 2, "there is no such format"),
        (["run", "theirs", "--to", "onnx"], 3, "theirs: exists, and is not an export of viscera"),
        (["run", "file", "--to", "onnx"], 3, "file: exists, and is not an export of viscera"),
        (["run", "out", "--to", "onnx", "--set", "predict.cleanup.fill_holes=[kidney]"], 3, "there is no kidney"),
        (["run", "out", "--to", "onnx", "--set", "predict.checkpoint=best"], 3, "best.pt: there is no such"),
    ],
)
def test_wrong_input_is_a_sentence(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "run", ignore=shutil.ignore_patterns("best.pt"))
    for folder in ("folder", "theirs"):
        Path(folder).mkdir()
    for file in ("theirs/notes.txt", "file"):
        Path(file).write_text("mine")
    assert message in refused(code, "export", *arguments)
    assert not Path("out").exists()
    assert Path("theirs/notes.txt").read_text() == Path("file").read_text() == "mine"


def test_it_asks_to_what(tiny_run: Path, tmp_path: Path) -> None:
    result = run("export", tiny_run, tmp_path / "out")
    assert result.exit_code == 2
    assert "--to" in result.stderr


def test_models_that_each_give_an_organ_are_no_single_network(tiny_run: Path, tmp_path: Path) -> None:
    fused = fused_folder(tmp_path / "fused", {"a": tiny_run}, {})
    with pytest.raises(BadInputError, match=r"no one network\. Export the run of one of them"):
        export(fused, tmp_path / "out", ["onnx"])


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = refused(3, "export", tiny_run, tmp_path / "out", "--to", "onnx")
    assert "--to onnx needs onnx" in message
    assert "pip install 'viscera[export]'" in message


def test_an_earlier_export_is_replaced_unless_it_was_edited(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(tiny_run, out, ["onnx"])
    other = random_run(tiny_run, tmp_path / "run")
    export(other, out, ["onnx"])
    assert json.loads((out / "model.json").read_text())["made_from"]["run_sha256"] != ""
    (out / "README.md").write_text("my notes")
    with pytest.raises(BadInputError, match=r"README.md: was edited. Give another folder, or add --overwrite"):
        export(tiny_run, out, ["onnx"])
    assert (out / "README.md").read_text() == "my notes"
    export(tiny_run, out, ["onnx"], overwrite=True)
    assert "as ONNX" in (out / "README.md").read_text()
    (out / "more.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"holds more\.txt, which the export there did not write"):
        export(tiny_run, out, ["onnx"], overwrite=True)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_what_fails_leaves_what_was_there(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_model: Any, folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    export(tiny_run, out, ["onnx"])
    before = names_in(out)
    monkeypatch.setattr(export_stage, "FORMS", {**FORMS, "onnx": Form(fails, "")})
    for folder in (out, tmp_path / "new"):
        with pytest.raises(BadInputError, match="the disk is full"):
            export(tiny_run, folder, ["onnx"])
    assert names_in(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_folder_and_no_case_is_named(tiny_run: Path, tmp_path: Path) -> None:
    export(tiny_run, tmp_path / "out", list(FORMS))
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"case_" not in content, path
            assert str(tmp_path).encode() not in content, path
            assert str(tiny_run.parent).encode() not in content, path


def test_the_runner_needs_numpy_and_onnxruntime_alone(tiny_run: Path, tiny_raw: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    scan = tiny_raw / "imagesTr" / "case_0_0000.nii.gz"
    model = random_run(tiny_run, tmp_path / "run", {"prepare.downsample": 1})
    predict(model, scan, tmp_path / "theirs.nii.gz", device="cpu")
    out = export(model, tmp_path / "out", ["onnx"])
    blocked = f"import sys; sys.modules.update(dict.fromkeys({LIBRARIES_OF_VISCERA!r})); "
    start = f"{blocked}import runpy; runpy.run_path({str(out / 'segment.py')!r}, run_name='__main__')"

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", start, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = call(scan, "ours.nii.gz", "--threads", 1)
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = (read_labels(tmp_path / f"{each}.nii.gz").labels for each in ("ours", "theirs"))
    assert (ours != theirs).mean() <= 1e-3
    assert len(np.unique(ours)) > 1
    again = call(scan, "ours.nii.gz")
    assert (again.returncode, again.stderr) == (
        3,
        "segment.py: ours.nii.gz: exists. Give another name, or --overwrite.\n",
    )
    assert call(scan, "ours.nii.gz", "--overwrite").returncode == 0
    missing = call("none.nii.gz", "new.nii.gz")
    assert (missing.returncode, missing.stderr) == (3, "segment.py: none.nii.gz: there is no such file.\n")
    assert "was expected" in call(scan, "ours.mha").stderr


def test_help_needs_no_heavy_library(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def watched(name: str, *arguments: Any, **more: Any) -> Any:
        assert name.partition(".")[0] not in {"onnx", "onnxruntime"}
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", watched)
    assert "--to" in run("export", "--help").stdout
