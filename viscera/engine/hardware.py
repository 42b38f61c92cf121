"""Which device, threads and precision to compute with, and what they are called."""

import logging
import math
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from viscera.core.errors import BadInputError, RunFailedError, UsageError, first_line, lost_device
from viscera.core.machine_errors import is_lost_device, is_out_of_memory
from viscera.core.machine_limits import peak_memory
from viscera.core.processes import usable_processors
from viscera.core.suggestions import nearest

log = logging.getLogger(__name__)
OUT_OF_MEMORY = "out of memory"
LEAST_MEMORY = "predict.mode sub_volumes with predict.batch_windows 1 takes least; or choose another --device."
Precision = Literal["auto", "float32", "bfloat16"]
_CUDA = "cuda"
_DEVICES = ("auto", "cpu", _CUDA, "mps")
_NOT_DETERMINISTIC = re.compile(  # by PyTorch's warnings
    r"(?P<name>\S+) does not have a deterministic implementation|.*? because it uses (?P<library>CuBLAS)"
)
# adds up gradients in any order where windows overlap; those of max-pooling here do not
_THE_SAME_AS_USED = {"max_pool3d_with_indices_backward_cuda"}
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def choose_threads(before: int | None = None, *, deterministic: bool = False) -> int:
    """Set how many threads PyTorch computes with, and say so where they are fewer than the processors.

    A thread more than is free waits for the others at every operation, and the others for it. So they are as many as
    `OMP_NUM_THREADS` says, else as `before` in a training that goes on (sums depend on it to the last bit), else as
    `free_processors` says; where it has to be `deterministic` one for each processor.
    """
    if not threads_of_the_user():
        all_of_them = len(usable_processors())
        free = all_of_them if deterministic else free_processors()
        before = before if before and before <= all_of_them else None  # it may have begun on a larger machine
        torch.set_num_threads(before or free)
        if torch.get_num_threads() < all_of_them:
            why = "as before" if before else "the others are busy, or not ours to use"
            found = torch.get_num_threads(), all_of_them, why
            log.warning("Computing with %d of %d processors (%s); OMP_NUM_THREADS says otherwise.", *found)
    return torch.get_num_threads()


@contextmanager
def as_many_threads(before: int) -> Iterator[None]:
    """Compute on as many threads as a training that goes on, where the user does not say and the machine has them."""
    now = torch.get_num_threads()
    if not threads_of_the_user() and 0 < before <= len(usable_processors()):
        torch.set_num_threads(before)
    try:
        yield
    finally:
        torch.set_num_threads(now)


def threads_of_the_user() -> int | None:
    """What `OMP_NUM_THREADS` says; None where it says nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else None


def free_processors(seconds: float = 0.2) -> int:
    """Processors that this process may use and that others leave free at the moment, at least 1.

    Counted are those of its affinity and its cgroup's quota; what others take of them is looked at for so long.
    """
    ours = usable_processors()
    return max(1, int(min(round(len(ours) - _busy(ours, seconds)), cgroup_quota())))


def _busy(processors: set[int], seconds: float) -> float:
    """How many of these are at work, on average over a time in which this process sleeps."""

    def at_work() -> dict[int, tuple[int, int]]:
        lines = (line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines())
        times = {line[0].removeprefix("cpu"): [int(value) for value in line[1:9]] for line in lines if len(line) > 8}
        return {int(name): (sum(t) - t[3] - t[4], sum(t)) for name, t in times.items() if name.isdigit()}

    try:
        before = at_work()
        time.sleep(seconds)
        after = at_work()
        passed = {n: after[n][1] - before[n][1] for n in processors & before.keys() & after.keys()}
        if any(passed.values()):
            return sum((after[n][0] - before[n][0]) / max(ticks, 1) for n, ticks in passed.items())
    except (OSError, ValueError, IndexError):  # no Linux
        pass
    return min(os.getloadavg()[0], len(processors)) if hasattr(os, "getloadavg") else 0.0


def cgroup_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors that the process's control groups allow it, versions 1 and 2; infinite where nothing limits it."""
    return min(map(_quota_of, control_groups("cpu", membership, root)), default=math.inf)


def control_groups(controller: str, membership: Path, root: Path) -> Iterator[Path]:
    """Folders of the control groups that the process is in, of one controller, from its own up to the root."""
    try:
        groups = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        folder = top / path.lstrip("/")
        yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(top)))


def _quota_of(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():  # version 2
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def choose_device(name: str | int | torch.device) -> torch.device:
    """The device of that name, or GPU of that number; "auto" is the first GPU, or the CPU.

    Raises UsageError for no name of a device, BadInputError for one that is not available here.
    """
    name = f"{_CUDA}:{name}" if isinstance(name, int) else str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has no numbers
    except (RuntimeError, AssertionError, ValueError, ImportError) as error:
        kind = BadInputError if name.partition(":")[0] in _DEVICES else UsageError
        raise kind(f"device '{name}' is not available here: {_why_no_device(name, error)}") from error
    return device


def _why_no_device(name: str, error: Exception) -> str:
    """Why there is no such device, and what to give instead."""
    kind, _, number = name.partition(":")
    if kind.lower() in {"gpu", "nvidia"}:
        kind = f"{_CUDA}:{number}" if number else _CUDA
        return f"a GPU is called {kind}. Give --device {kind}, or auto, which takes a GPU where there is one."
    if kind == _CUDA and not torch.cuda.is_available():
        return "PyTorch finds no NVIDIA GPU on this machine. Give --device auto or cpu."
    if kind == _CUDA and number.isdigit():
        found = torch.cuda.device_count()
        return f"there are {found} GPUs, cuda:0 to cuda:{found - 1}. Give one of them, or auto."
    if kind in _DEVICES:
        return f"PyTorch cannot use it ({first_line(error)}). Give --device auto or cpu."
    likely = nearest(kind, _DEVICES)
    known = "There are auto, cpu, cuda, cuda:1 and so on, and mps"
    return f"there is no device of this name. {known}; did you mean {likely}?" if likely else f"no such name. {known}."


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The autocast context: bfloat16 where `number_format` says so."""
    wanted = number_format(device, precision) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def number_format(device: torch.device, precision: Precision) -> torch.dtype:
    """What a network computes in: bfloat16 where asked for, else float32.

    "auto", which a training that begins replaces (`engine.precision_probe`), is what it was in runs of earlier
    versions: bfloat16 on GPUs that have it, and never on a CPU.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and device.type == "cuda" and computes_bfloat16(device))
    return torch.bfloat16 if wanted else torch.float32


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a CPU or an NVIDIA GPU has instructions for bfloat16; emulated, it is many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and not _BFLOAT16.isdisjoint(processor_words())


def precision_to_predict(trained: Precision, device: torch.device) -> Precision:
    """That of the training; float32, and a warning, where this device would emulate it."""
    if trained != "bfloat16" or computes_bfloat16(device):
        return trained
    log.warning("Predicting in float32: the model was trained in bfloat16, which %s has no instructions for.", device)
    return "float32"


@cache
def processor_words() -> frozenset[str]:
    """What Linux says of the processor, its vector instructions among it; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    return frozenset(info.read_text(encoding="utf-8", errors="replace").split() if info.exists() else ())


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """On an NVIDIA GPU cuDNN times its algorithms at the first step of each shape and keeps the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def convolutions(*, deterministic: bool) -> AbstractContextManager[None]:
    """Those of a training: chosen by timing them, or the same each time."""
    return the_same_bits() if deterministic else fastest_convolutions()


@contextmanager
def the_same_bits() -> Iterator[None]:
    """Compute with deterministic algorithms alone; an operation that has none here is named, once, and computed anyway.

    So that what is computed twice on a machine is the same (`train.deterministic`).
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    is_timed = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    named = set(_THE_SAME_AS_USED)
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, *about: Any, **more: Any) -> None:  # noqa: ANN401 - as Python calls it
            found = _NOT_DETERMINISTIC.match(str(message))
            if found is None:
                shown(message, *about, **more)
            elif (name := found["name"] or found["library"]) not in named:
                named.add(name)
                log.warning(
                    "%s has no deterministic implementation on this device: two trainings can differ in the last bits, "
                    "in spite of train.deterministic.",
                    name,
                )

        warnings.filterwarnings("always", message=_NOT_DETERMINISTIC.pattern)
        warnings.showwarning = show
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = is_timed
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def out_of_memory_explained(advice: str) -> Iterator[None]:
    """Turn an allocation failure into a RunFailedError that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunFailedError(f"{OUT_OF_MEMORY} ({first_line(error)}). {advice}") from error


@contextmanager
def lost_device_explained(where: object, kept: Callable[[], str]) -> Iterator[None]:
    """Turn what a GPU says that fails into a LostDeviceError; `kept` says what there still is, and how to go on."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_device(error):
            raise
        raise lost_device(where, error, kept()) from error


def describe_hardware(device: torch.device) -> str:
    """Name of the processor that computes, with its vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    name = next(names, "") or platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory in MiB: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory() / 2**20
