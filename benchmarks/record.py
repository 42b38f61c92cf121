"""What was measured, printed and written with all that a reader needs to judge it.

Results stand in `benchmarks/results/NAME.json`; those of pairs in `benchmarks/results/KIND/NAME.json`, where KIND is
the kind of processor, so that figures of one kind do not replace those of another.
"""

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from viscera.core.processes import usable_processors
from viscera.engine.hardware import describe_hardware, processor_words

RESULTS = Path(__file__).parent / "results"
_FEATURES = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2", "avx", "asimd")
_OURS = ("viscera", "torch", "numpy", "scipy")


def processor_features() -> list[str]:
    """The vector instructions of this processor that matter here, the widest first; empty where it does not tell."""
    return [feature for feature in _FEATURES if feature in processor_words()]


def processor_kind(device: torch.device | None = None) -> str:
    """The folder of results: `amx`, `avx512-bf16`, `avx512`, `avx2` or `other`; of a GPU its name, `nvidia-h200`."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device).lower().replace(" ", "-")
    kinds = {"amx_bf16": "amx", "avx512_bf16": "avx512-bf16", "avx512f": "avx512", "avx2": "avx2"}
    return next((kind for feature, kind in kinds.items() if feature in processor_features()), "other")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Python's, and of each package that is installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def record(
    name: str,
    figures: dict[str, Any],
    *,
    peers: Sequence[str] = (),
    device: torch.device | None = None,
    folder: Path | None = RESULTS,
    complete: bool = True,
) -> None:
    """Print and write the figures of one benchmark; lists hold one value a repeat. `peers` are packages.

    Without a folder they are only printed, to standard error. Those of a benchmark that is not at its end yet say so,
    and are only written: a benchmark that is cut off leaves what it measured.
    """
    content = {
        **figures,
        **({} if complete else {"complete": False}),
        "hardware": describe_hardware(device or torch.device("cpu")),
        "processor_features": processor_features(),
        "processors": len(usable_processors()),
        "threads": torch.get_num_threads(),
        "load_of_the_machine": [round(x, 1) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "command": " ".join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "versions": versions([*_OURS, *peers]),
    }
    text = json.dumps(content, indent=1) + "\n"
    if complete:
        print(text, end="", file=sys.stdout if folder else sys.stderr)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
