"""Which device and precision to compute with, and what they are called."""

import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import torch

from viscera.core.errors import BadInputError, RunFailedError

OUT_OF_MEMORY = "out of memory"


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or the CPU.

    Raises:
        BadInputError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"device '{name}' is not to be had here ({reason}). Use --device auto or cpu.") from error
    return device


def autocast(device: torch.device, precision: Literal["auto", "float32", "bfloat16"]) -> AbstractContextManager[object]:
    """The autocast context: bfloat16 where asked for; "auto" takes it on GPUs that have it, and never on a CPU.

    On a CPU without bf16 instructions autocast is many times slower than float32.
    """
    wanted = precision == "bfloat16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """On an NVIDIA GPU cuDNN times its algorithms at the first step of each shape and keeps the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def out_of_memory_explained(advice: str) -> Iterator[None]:
    """Turn an allocation failure into a RunFailedError that says what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunFailedError(
            f"{OUT_OF_MEMORY} ({(str(error) or type(error).__name__).splitlines()[0]}). {advice}"
        ) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise RunFailedError(f"{OUT_OF_MEMORY} ({str(error).splitlines()[0]}). {advice}") from error
        raise


def describe_hardware(device: torch.device) -> str:
    """Name of the processor that computes, with its vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = []
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory in MiB: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
