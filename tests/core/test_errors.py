"""What one case raises leaves that case out, never the others; a defect of ours ends in exit 1 after the rest."""

import errno
import gc
import logging
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from viscera.core.errors import (
    BadInputError,
    CaseBarrier,
    DefectError,
    InterruptedRunError,
    RunFailedError,
    VisceraError,
    first_line,
)

LIST = Path("out/quarantine.csv")


def left_out_by(error: BaseException) -> CaseBarrier:
    """Three cases, of which the second raises."""
    barrier, done = CaseBarrier(), []
    for case in ("a", "b", "c"):
        with barrier.around(case):
            if case == "b":
                raise error
            done.append(case)
    assert done == ["a", "c"]
    return barrier


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (BadInputError("b.nii: truncated. Export it again."), BadInputError, "b.nii: truncated. Export it again."),
        (RunFailedError("out of memory. Lower x."), RunFailedError, "out of memory. Lower x."),
        (MemoryError("Unable to allocate 21 TiB"), RunFailedError, "b: out of memory .Unable to allocate 21 TiB"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "nnn"), BadInputError, "nnn: this name is too long"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "x"), BadInputError, "x: .*quota.* the space on the disk"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x"), BadInputError, "x: No such file"),
        (OSError("odd"), BadInputError, "b: odd. Check"),
        (ZeroDivisionError("by\nzero"), DefectError, r"b: a defect of viscera \(ZeroDivisionError: by\)"),
        (KeyError(), DefectError, r"b: a defect of viscera \(KeyError: KeyError\)"),
        (RecursionError("deep"), DefectError, "b: a defect"),
    ],
)
def test_whatever_a_case_raises_is_its_reason(
    error: Exception, kind: type[VisceraError], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    barrier = left_out_by(error)
    assert type(barrier.left_out["b"]) is kind
    assert list(barrier.reasons) == ["b"]
    with pytest.raises(kind, match=reason):
        barrier.finish(1, LIST)
    ends_in = DefectError if kind is DefectError else BadInputError
    with pytest.raises(ends_in, match=rf"1 of 3 cases was left out .reasons in {LIST}.; .*The first: {reason}"):
        barrier.finish(3, LIST)
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == (kind is DefectError)
    assert all(record.levelno == logging.ERROR for record in logged)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), InterruptedRunError("stopped")])
def test_what_ends_the_command_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        left_out_by(error)


def test_a_defect_counts_more_than_bad_input() -> None:
    barrier = CaseBarrier()
    for case, error in {"a": BadInputError("bad"), "b": IndexError("ours")}.items():
        with barrier.around(case):
            raise error
    with pytest.raises(DefectError, match=r"2 of 2 .*IndexError: ours"):
        barrier.finish(2, LIST)
    assert (DefectError.exit_code, BadInputError.exit_code, RunFailedError.exit_code) == (1, 3, 4)


def test_without_errors_nothing_is_raised() -> None:
    CaseBarrier().finish(0, LIST)


def test_the_scan_of_a_failed_case_is_not_kept_in_memory() -> None:
    barrier = CaseBarrier()

    def segment() -> weakref.ref[np.ndarray]:
        scan = np.zeros(10)
        kept.append(weakref.ref(scan))
        raise BadInputError(f"{scan.size} voxels")

    kept: list[weakref.ref[np.ndarray]] = []
    with barrier.around("a"):
        segment()
    gc.collect()
    assert kept[0]() is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("one\ntwo"), "one"),
        (RuntimeError(), "RuntimeError"),
        (KeyError(), "KeyError"),
        (OSError("\n \n"), "OSError"),
        (ValueError("\n\n  said late\n"), "said late"),
    ],
)
def test_every_error_has_a_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
