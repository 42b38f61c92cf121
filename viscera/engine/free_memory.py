"""How much memory is free for a training: of the machine and its control groups, or of a GPU."""

import contextlib
import math
from pathlib import Path

import torch

from viscera.core.machine_limits import machine_memory, memory_left
from viscera.engine.hardware import control_groups

_SHARE_WHERE_UNKNOWN = 0.5  # of a machine's memory, where the system does not say what is free


def free_memory(device: torch.device) -> float:
    """Bytes that a training could take now: of the GPU, or of the machine, as far as its control groups allow."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_of_the_machine(), cgroup_memory())


def _of_the_machine(meminfo: Path = Path("/proc/meminfo")) -> float:
    return memory_left(meminfo) or _SHARE_WHERE_UNKNOWN * machine_memory()


def cgroup_memory(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that the process's control groups still allow it, versions 1 and 2; infinite where nothing limits it.

    Copies of files, which the system gives up where memory is short, count as free.
    """
    return min(map(_left_of, control_groups("memory", membership, root)), default=math.inf)


def _left_of(group: Path) -> float:
    names = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]  # versions 2 and 1
    for limit, used in names:
        with contextlib.suppress(OSError, ValueError):
            most = float((group / limit).read_text(encoding="ascii"))  # "max" is no number
            taken = float((group / used).read_text(encoding="ascii"))
            return max(0.0, most - max(0.0, taken - _of_files(group)))
    return math.inf


def _of_files(group: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return sum(float(size) for name, size in lines if name in {"inactive_file", "total_inactive_file"})
    return 0.0
