"""Seconds to start: `import viscera` and `viscera --help`, beside `import monai` and nnU-Net's help.

    python -m benchmarks.bench_start [--quick]

Each is a Python of its own. The peers load all that they have, which ours does when there is work. For orientation:
what a command does is measured elsewhere.

- `start_import`, `start_help`: there is no peer; `peer` is what they may take, the import beyond the interpreter.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.pairs import Benchmark, in_turn

BARE = [sys.executable, "-c", "pass"]
IMPORT = [sys.executable, "-c", "import viscera"]
HELP = [sys.executable, "-m", "viscera.cli", "--help"]
COMMANDS = {f"viscera {name} --help": [*HELP[:-1], name, "--help"] for name in ("train", "predict", "study")}
IMPORT_MONAI = [sys.executable, "-c", "import monai"]
NNUNET_HELP = [
    sys.executable,
    "-c",
    "from nnunetv2.inference.predict_from_raw_data import predict_entry_point as p; p()",
]


def start(command: Sequence[str]) -> None:
    """Run it and wait; raises where it fails."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("start", __doc__, peers=["monai", "nnunetv2", "typer", "pydantic"])
    alone = {"python": BARE, "import viscera": IMPORT, "viscera --help": HELP} | COMMANDS
    seconds = in_turn({name: partial(start, command) for name, command in alone.items()}, 3 if benchmark.quick else 15)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    benchmark.notes["seconds"] = {name: round(each, 3) for name, each in medians.items()}
    beyond = max(medians["import viscera"] - medians["python"], 0.001)
    limit: dict[str, Any] = {"goal": 1, "unit": "s", "peer_settings": "what it may take"}
    benchmark.pair("start_import", beyond, 0.1, **limit)
    before = os.times()
    start(HELP)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    benchmark.pair("start_help", medians["viscera --help"], 0.4, **limit, processor_s=round(used, 3))
    for name, ours, peer, settings in (
        ("start_vs_monai", IMPORT, IMPORT_MONAI, "import monai"),
        ("start_vs_nnunet", HELP, [*NNUNET_HELP, "--help"], "nnUNetv2_predict --help"),
    ):
        benchmark.time(name, partial(start, ours), partial(start, peer), goal=1, peer_settings=settings, repeats=3)
    benchmark.write()


if __name__ == "__main__":
    main()
