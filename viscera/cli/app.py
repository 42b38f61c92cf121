"""The app: its commands, by what they are of, and what is set before any of them runs.

Positional arguments are artifacts, everything else is an option with the paper's value as default.
"""

import contextlib
import os
import sys
from pathlib import Path

import typer

from viscera.cli import data_commands, look_commands, model_commands, result_commands, study_commands
from viscera.cli.arguments import Version
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import open_streams
from viscera.core.errors import BadInputError, VisceraError, case_error
from viscera.core.machine_errors import lacking

app = new_app(
    "Multi-organ segmentation of abdominal CT with a 3D FCN, and a study of Dice loss weighting.",
    "To begin, on synthetic scans; `viscera COMMAND --help` explains each command and gives examples:\n"
    "  viscera phantom data --cases 20 --shape 48 36 36\n"
    "  viscera prepare data store --downsample 1 --validation-fraction 0.2\n"
    "  viscera train store run --preset demo\n"
    "  viscera predict run data/imagesTr out\n"
    "  viscera evaluate out store",
)
config_app = new_app("Show the configuration and what each setting means.")
for commands in (data_commands, model_commands, result_commands, study_commands, look_commands):
    app.add_typer(commands.app)
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point."""
    _in_utf_8()
    open_streams()
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}  # threads sleep; read when PyTorch is loaded
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large tensors in large pages, which the system clears faster
    try:
        _refuse_lost_folder()
        app(prog_name="viscera")
    except (VisceraError, MemoryError, OSError) as error:  # before a command has begun, which explains its own
        if not isinstance(error, VisceraError) and not lacking(error):
            raise
        sentence = case_error("starting", error)
        typer.echo(f"viscera: {sentence}", err=True)
        sys.exit(sentence.exit_code)


def _in_utf_8() -> None:
    """Where names of files have another encoding, begin again in Python's UTF-8 mode, as it does by itself in locale C.

    What is written in stores and runs is UTF-8, and a name in it would be another than that on the disk.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or sys.platform == "win32":
        return
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command


def _refuse_lost_folder() -> None:
    """Raise BadInputError where the current folder was deleted: PyTorch's libraries would end the process for it."""
    try:
        Path.cwd()
    except OSError as error:
        raise BadInputError(
            f"the current folder is not available any more ({error.strerror}). Change to another one."
        ) from error


@app.callback()
def _root(version: Version = False) -> None: ...


@command(config_app, "show", "preset")
def config_show(call: Call) -> None:
    """Print every setting with its meaning, as a file for --config.

    Examples:
        viscera config show
        viscera config show --preset strong --set train.patch=96 > settings.yaml
    """
    from viscera.core.settings import as_yaml

    call.result(as_yaml(call.config()))
