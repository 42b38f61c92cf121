"""The core alone: everything is imported without the libraries of the extras, and what needs one names it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = (
    *("highdicom", "pylibjpeg", "openjpeg", "jpegls", "gdcm", "cc3d", "imagecodecs", "ray", "s3fs", "aiobotocore"),
    *("onnx", "onnxruntime", "safetensors", "tensorboard", "mlflow", "torchio", "lightning", "monai", "nnunetv2"),
    *("SimpleITK", "psutil", "portalocker", "starlette", "uvicorn"),
)
HIDE = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"
WITH_THEIR_EXTRA = (  # imported by what says what to install, or where PyTorch brings triton along
    *("viscera.plugins", "viscera.view.", "viscera.losses.fused_dice_sums", "viscera.__main__", "viscera.cli.__main__"),
)
IMPORT_ALL = f"""
import importlib, pkgutil, viscera
for module in pkgutil.walk_packages(viscera.__path__, "viscera."):
    if not module.name.startswith({WITH_THEIR_EXTRA!r}):
        importlib.import_module(module.name)
"""


def test_every_module_is_imported_without_them(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HIDE + IMPORT_ALL], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("export RUN out --to onnx", "export"),
        ("export RUN out --to safetensors", "export"),
        ("predict RUN SCAN out --launcher ray", "ray"),
        ("view SCAN", "view"),
        ("predict RUN SERIES out --format dicom-seg", "dicom"),
    ],
)
def test_what_needs_one_says_what_to_install(
    tiny_run: Path, tiny_raw: Path, tmp_path: Path, command: str, extra: str
) -> None:
    places = {"RUN": tiny_run, "SCAN": tiny_raw / "imagesTr", "SERIES": tiny_raw / "imagesTr" / "case_0_0000.nii.gz"}
    arguments = [str(places.get(word, word)) for word in command.split()]
    start = f"{HIDE}from viscera.cli import main\nmain()"
    call = [sys.executable, "-c", start, *arguments]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert re.search(rf"pip install '?viscera\[{extra}\]'?", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
