"""The error tree, and one barrier per case. Messages say what was found, expected and to do, and name the file.

VisceraError
├── BadInputError      exit 3: a file, folder, setting or data set that cannot be used as it is
│   └── UsageError     exit 2: options of a command that there are not, or that contradict each other
├── RunFailedError     exit 4: a run that diverged, or a machine with too little memory, files or threads
│   └── LostDeviceError    likewise: a GPU that failed; nothing is to blame that was computed
├── DefectError        exit 1: cases that a defect of ours left out; its traceback was logged
└── InterruptedRunError exit 130: stopped by the user; the artifacts are complete up to the last checkpoint
"""

import errno
import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from pathlib import Path

from viscera.core.machine_errors import is_lost_device, lacking
from viscera.core.suggestions import did_you_mean
from viscera.core.wording import agreeing

log = logging.getLogger(__name__)
NODE: ContextVar[str] = ContextVar("the node of a cluster that works on a case; none of one machine", default="")


class VisceraError(Exception):
    """Base of all errors that a user can act on; shown as one sentence, without a traceback."""

    exit_code = 1


class BadInputError(VisceraError, ValueError):
    """Input that cannot be used as it is: the message names it and the remedy. Also a `ValueError`."""

    exit_code = 3


class UsageError(BadInputError):
    """Options of a command with values that cannot be, that contradict each other, or that need another one."""

    exit_code = 2


class BadTypeError(BadInputError, TypeError):
    """A value of another type than the one that was expected. Also a `TypeError`."""


class RunFailedError(VisceraError):
    """What cannot go on here (non-finite loss, no memory, files or threads left); the last good checkpoint is kept."""

    exit_code = 4


class LostDeviceError(RunFailedError):
    """A GPU that failed, or does not answer any more: this process can use it no more, and what was done is kept."""


class DefectError(VisceraError):
    """A defect of ours that left cases out; their tracebacks were logged, the other cases are done."""


class InterruptedRunError(VisceraError):
    """Stopped by Ctrl-C, SIGTERM or SIGHUP after writing a checkpoint; go on with `--resume`."""

    exit_code = 130


def refuse_unknown(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse, with a `BadInputError`, an option that is none of its choices."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices)
        likely = did_you_mean(value, choices)
        raise BadInputError(f"{name}={value!r}: there is no such choice. There are: {known}.{likely}")


def refuse_non_number(name: str, value: object, least: float = 0.0, *, whole: bool = False) -> None:
    """Refuse what is no (whole) number, with a `BadTypeError`; and NaN, infinity and what lies below `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise BadTypeError(f"{name}={value!r}: a {'whole ' * whole}number of at least {least:g} was expected.")
    if not math.isfinite(value) or value < least:
        kind = "whole" if whole else "finite"
        raise BadInputError(f"{name}={value!r}: a {kind} number of at least {least:g} was expected.")


class CaseBarrier:
    """What became of the cases of one command: whatever one raises becomes the reason why it is left out.

    for case in cases:
        with barrier.around(case.name): ...
    write_quarantine(folder, barrier.reasons, …)
    barrier.finish(len(cases), folder / "quarantine.csv")
    """

    def __init__(self) -> None:
        self.left_out: dict[str, VisceraError] = {}  # in the order in which they came; without frames, and so scans

    @contextmanager
    def around(self, case: str) -> Iterator[None]:
        """Note why a case is left out, instead of raising it; a defect of ours is logged with its traceback.

        Only what ends the whole command passes through: `KeyboardInterrupt`, `SystemExit`, `InterruptedRunError`,
        `LostDeviceError`, and as that a GPU that failed.
        """
        try:
            yield
        except (InterruptedRunError, LostDeviceError):
            raise
        except Exception as error:
            explained = case_error(case, error)
            if isinstance(explained, LostDeviceError):
                raise explained from error
            self.left_out[case] = explained
            if isinstance(explained, DefectError) and not isinstance(error, DefectError):
                log.exception("%s: left out, by a defect of viscera:", case)

    @property
    def reasons(self) -> dict[str, str]:
        """One sentence per case that was left out."""
        return {case: str(error) for case, error in self.left_out.items()}

    def finish(self, total: int, listed_in: Path) -> None:
        """Raise what ends a command that has done the rest; nothing where no case of `total` was left out.

        Of a single case that is its reason; else a DefectError where a defect of ours left one out, or a BadInputError.
        """
        if not self.left_out:
            return
        if total == 1:
            raise next(iter(self.left_out.values()))
        defects = sorted(case for case, error in self.left_out.items() if isinstance(error, DefectError))
        first = self.left_out[(defects or sorted(self.left_out))[0]]
        kind, were = DefectError if defects else BadInputError, agreeing(len(self.left_out), "was", "were")
        raise kind(
            f"{len(self.left_out)} of {total} cases {were} left out (reasons in {listed_in}); the others are done. "
            f"The first: {first}"
        )


def first_line(error: BaseException) -> str:
    """What an error says, without the rest that libraries add; its type's name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def case_error(case: str, error: Exception) -> VisceraError:
    """What any error means for the case that raised it, as one sentence, and without the frames that it passed."""
    text = first_line(error)
    where = ""
    if NODE.get() and _is_of_missing_file(error):
        where = f" That was on the node {NODE.get()}: all nodes need the same files under the same path."
    if isinstance(error, VisceraError):
        return type(error)(f"{error}{where}")
    if too_little := lacking(error):
        return RunFailedError(f"{case}: {too_little}")
    if is_lost_device(error):
        return lost_device(case, error, "What was done so far is kept: run the same command again.")
    if isinstance(error, OSError):
        at = error.filename if isinstance(error.filename, str) else case
        if error.errno == errno.ENAMETOOLONG:
            return BadInputError(
                f"{at}: this name is too long for the file system. Rename it, or shorten the folder's."
            )
        remedy = "Check that it is still there, its permissions, and the space on the disk."
        return BadInputError(f"{at}: {error.strerror or text}. {remedy}{where}")
    return DefectError(
        f"{case}: a defect of viscera ({type(error).__name__}: {text}). Please report it; the log has the traceback."
    )


def lost_device(where: object, error: BaseException, kept: str) -> LostDeviceError:
    """The sentence on a GPU that failed; `kept` says what there still is, and how to go on."""
    return LostDeviceError(
        f"{where}: the GPU failed or is lost ({first_line(error)}). {kept} If that fails again, look at it with "
        "nvidia-smi and restart the machine, or use another device."
    )


def _is_of_missing_file(error: BaseException | None) -> bool:
    """Whether it is, or was raised because of, a file that is not there."""
    return error is not None and (isinstance(error, FileNotFoundError) or _is_of_missing_file(error.__cause__))
