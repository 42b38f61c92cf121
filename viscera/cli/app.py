"""The app: its commands, by what they are of, and what is set before any of them runs.

Positional arguments are artifacts, everything else is an option with the paper's value as default.
"""

import os

from viscera.cli import data_commands, look_commands, model_commands, result_commands
from viscera.cli.arguments import Version
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import open_streams

app = new_app(
    "Multi-organ segmentation of abdominal CT, and the truth about Dice loss weighting.\n\n"
    "To begin: phantom, prepare, train --preset demo, predict, evaluate. Each explains itself with --help."
)
config_app = new_app("Show the configuration and what each setting means.")
for commands in (data_commands, model_commands, result_commands, look_commands):
    app.add_typer(commands.app)
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point."""
    open_streams()
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}  # threads sleep; read when PyTorch is loaded
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large tensors in large pages, which the system clears faster
    app()


@app.callback()
def _root(version: Version = False) -> None: ...


@command(config_app, "show", "preset")
def config_show(call: Call) -> None:
    """Print every setting, explained, as a file for --config."""
    from viscera.core.settings import as_yaml

    call.result(as_yaml(call.config()))
