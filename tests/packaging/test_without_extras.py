"""The core alone: everything is imported without the libraries of the extras, and what needs one names it."""

import json
import re
import subprocess
import sys
from pathlib import Path

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


CALLED = """
import contextlib, io, json, sys
from viscera.cli import main
found = []
for arguments in json.loads(sys.stdin.read()):
    sys.argv, said = ["viscera", *arguments], io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main()
    except SystemExit as error:
        found.append((error.code, said.getvalue()))
print(json.dumps(found))
"""
NEED_ONE = (
    ("export RUN out --to onnx", "export"),
    ("export RUN out --to safetensors", "export"),
    ("predict RUN SCAN out --launcher ray", "ray"),
    ("view SCAN", "view"),
    ("predict RUN SERIES out --format dicom-seg", "dicom"),
)


def test_every_module_is_imported_without_them_and_what_needs_one_says_what_to_install(
    tiny_run: Path, tiny_raw: Path, tmp_path: Path
) -> None:
    """In one process, since each must load PyTorch."""
    places = {"RUN": tiny_run, "SCAN": tiny_raw / "imagesTr", "SERIES": tiny_raw / "imagesTr" / "case_0_0000.nii.gz"}
    calls = [[str(places.get(word, word)) for word in command.split()] for command, _ in NEED_ONE]
    start = [sys.executable, "-c", HIDE + IMPORT_ALL + CALLED]
    done = subprocess.run(start, input=json.dumps(calls), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (command, extra), (code, said) in zip(NEED_ONE, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert code == 3, (command, said)
        assert re.search(rf"pip install '?viscera\[{extra}\]'?", said), (command, said)
        assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
