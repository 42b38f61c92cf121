"""Which errors say what the machine lacks: memory, files that may be open, threads, or a GPU that works.

Some are told by their text alone, as libraries raise plain RuntimeErrors for them.
"""

import errno
import re

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|_ALLOC_FAILED"
    r"|could not (create|execute) a primitive"  # of oneDNN, on a CPU (pytorch issue 55884)
    r"|failed to map segment from shared object",  # of a library that is loaded
    re.IGNORECASE,
)
_LOST = re.compile(
    r"\b(CUDA|HIP|MPS|NCCL|cuDNN|cuBLAS|cuFFT)( \w+)? error\b|\b(CUDNN|CUBLAS|CUFFT)_STATUS_", re.IGNORECASE
)
_OF_WHO_CALLS = re.compile(r".*(device-side assert|no kernel image|\binvalid |NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE)")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory could not be allocated: Python's, PyTorch's on a CPU or GPU, or the system's for a mapped file."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        # the second of inspect: linecache, which reads the source for it, takes a MemoryError for an empty file
        return error.errno == errno.ENOMEM or str(error) == "could not get source code"
    return isinstance(error, RuntimeError | ImportError) and bool(_NO_MEMORY.search(str(error)))


def is_out_of_files(error: BaseException | None) -> bool:
    """Whether this process, or the machine, may have no more files open."""
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}


def is_out_of_threads(error: BaseException | None) -> bool:
    """Whether no more threads or processes may be started."""
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def lacking(error: BaseException | None) -> str:
    """What there is too little of, and what to do; empty where the error says something else."""
    text = next(iter(str(error).strip().splitlines()), "")
    if is_out_of_memory(error):
        return f"out of memory ({text}). Check its size and spacing; if both are right, use a machine with more."
    if is_out_of_files(error):
        return "too many open files. Allow more, as by `ulimit -n 1024`, and run the same command again."
    if is_out_of_threads(error):
        return f"{text}. Allow more, as by `ulimit -u 4096`, or end other programs, and run the same command again."
    return ""


def is_lost_device(error: BaseException | None) -> bool:
    """Whether a GPU, or a library on it, failed otherwise: after such an error the process can use it no more.

    Not where it was called with what it cannot do, which is a defect, or a PyTorch that was built for other GPUs.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError) or _OF_WHO_CALLS.match(str(error)):
        return False
    return type(error).__name__ == "AcceleratorError" or bool(_LOST.search(str(error)))
