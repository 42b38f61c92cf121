"""What the operating system says of this machine and process.

By Python's own modules where it has them; on Windows, which has no `resource` and no `os.sysconf`, by psutil.
"""

import contextlib
import importlib
import math
import os
import sys
from pathlib import Path
from types import ModuleType

_OPEN_FILES_ELSEWHERE = 512  # of Windows's C library


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def machine_memory() -> float:
    """Bytes of the machine's memory; infinite where nothing says so."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        psutil = _module("psutil")
        return float(psutil.virtual_memory().total) if psutil else math.inf


def memory_left(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Bytes that the machine could give now, as Linux or psutil says; None where neither is there."""
    said = _bytes_in(meminfo, "MemAvailable")
    return available_memory() if said is None else said


def _bytes_in(path: Path, name: str) -> float | None:
    """Of a file of Linux's /proc that says `name: 123 kB`; None where it does not."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
    return None


def available_memory() -> float | None:
    """Bytes that the machine could give now, by psutil; None where it is not installed."""
    psutil = _module("psutil")
    return float(psutil.virtual_memory().available) if psutil else None


def peak_memory(status: Path = Path("/proc/self/status")) -> float:
    """Bytes that this process has held at most since its program began; 0 where nothing says so.

    Of Linux its `VmHWM`: `ru_maxrss` of a program may be that of the process which started it, as getrusage(2) says.
    """
    said = _bytes_in(status, "VmHWM")
    if said is not None:
        return said
    resource = _module("resource")
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    psutil = _module("psutil")
    if psutil is None:
        return 0.0
    info = psutil.Process().memory_info()
    return float(getattr(info, "peak_wset", info.rss))


def most_open_files() -> float:
    """How many files this process may have open; infinite where there is no limit."""
    resource = _module("resource")
    if resource is None:
        return _OPEN_FILES_ELSEWHERE
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if soft == resource.RLIM_INFINITY else soft
