"""What errors say of the memory and of the GPU: told by their text, as libraries raise plain RuntimeErrors for them."""

import errno
import re

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|_ALLOC_FAILED",
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
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def is_lost_device(error: BaseException | None) -> bool:
    """Whether a GPU, or a library on it, failed otherwise: after such an error the process can use it no more.

    Not where it was called with what it cannot do, which is a defect, or a PyTorch that was built for other GPUs.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError) or _OF_WHO_CALLS.match(str(error)):
        return False
    return type(error).__name__ == "AcceleratorError" or bool(_LOST.search(str(error)))
