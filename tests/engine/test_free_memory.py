"""What control groups leave of the memory, by hand."""

import math
from pathlib import Path

import pytest
import torch

from viscera.engine.free_memory import cgroup_memory, free_memory


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/job\n", {"job/memory.max": "1000\n", "job/memory.current": "300\n"}, 700),
        (
            "0::/job\n",
            {
                "job/memory.max": "1000\n",
                "job/memory.current": "900\n",
                "job/memory.stat": "anon 100\ninactive_file 500\n",  # of files: the system gives it up
            },
            600,
        ),
        ("0::/u/job\n", {"u/job/memory.max": "max\n", "u/memory.max": "500\n", "u/memory.current": "500\n"}, 0),
        ("0::/job\n", {"job/memory.max": "max\n", "job/memory.current": "300\n"}, math.inf),
        (
            "5:memory:/job\n3:cpu:/job\n",
            {"memory/job/memory.limit_in_bytes": "2000\n", "memory/job/memory.usage_in_bytes": "500\n"},
            1500,
        ),
        ("damaged\n", {"memory.max": "nonsense\n"}, math.inf),
    ],
)
def test_memory_of_control_groups(tmp_path: Path, membership: str, files: dict[str, str], expected: float) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert cgroup_memory(tmp_path / "cgroup", tmp_path / "fs") == expected


def test_this_machine_has_some() -> None:
    assert 2**26 < free_memory(torch.device("cpu")) < 2**50
