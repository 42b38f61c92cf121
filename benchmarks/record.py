"""Print a benchmark's figures and write them to `benchmarks/results/NAME.json`, with machine, date and versions."""

import datetime as dt
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import viscera
from viscera.engine.hardware import describe_hardware


def record(name: str, figures: dict[str, Any]) -> None:
    """Write the figures of one benchmark; lists hold one value a repeat."""
    content = {
        **figures,
        "hardware": describe_hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "versions": {
            "viscera": viscera.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))
