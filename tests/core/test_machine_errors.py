"""What the machine lacks is told by its errors; and what needs several threads does without."""

import errno
import os
import threading

import pytest

from viscera.core.errors import LostDeviceError, RunFailedError, VisceraError, case_error
from viscera.core.machine_errors import is_lost_device, lacking
from viscera.core.processes import in_threads


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out of memory ([Errno 12] Cannot allocate memory)"),
        (RuntimeError("could not create a primitive"), "out of memory (could not create a primitive)"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory"),
        # of inspect, where linecache, which reads the file, was out of memory and says nothing of it
        (OSError("could not get source code"), "out of memory (could not get source code)"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files. Allow more, as by `ulimit -n 1024`"),
        (RuntimeError("can't start new thread"), "can't start new thread. Allow more, as by `ulimit -u 4096`"),
    ],
)
def test_what_there_is_too_little_of_is_no_defect_and_no_bad_input(error: Exception, said: str) -> None:
    explained = case_error("train", error)
    assert type(explained) is RunFailedError
    assert str(explained).startswith(f"train: {said}")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), RuntimeError("a size"), ValueError("out of memory")])
def test_other_errors_say_what_they_said(error: Exception) -> None:
    assert lacking(error) == ""


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("CUDA error: unspecified launch failure\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1", True),
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("CUDA error: device-side assert triggered", False),  # of a kernel that was given something wrong
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("cuDNN error: CUDNN_STATUS_BAD_PARAM", False),
        ("CUDA error: out of memory", False),
        ("shapes differ", False),
    ],
)
def test_a_gpu_that_fails_is_told_from_one_that_is_called_wrongly(said: str, lost: bool) -> None:
    assert is_lost_device(RuntimeError(said)) is lost
    assert isinstance(case_error("x", RuntimeError(said)), LostDeviceError) is lost


@pytest.mark.parametrize("most", [0, 1, 8])
def test_without_more_threads_all_is_done_in_this_one(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        if len(started) >= most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert list(in_threads(str, range(20), 4)) == [str(number) for number in range(20)]


def test_what_a_thread_raises_is_raised() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise VisceraError("three")
        return number

    with pytest.raises(VisceraError, match="three"):
        list(in_threads(fail, range(9), 2))
