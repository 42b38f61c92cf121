"""The error tree. Every message says what was found, what was expected and what to do, and names the file.

VisceraError
├── BadInputError      exit 3: a file, folder, setting or data set that cannot be used as it is
├── RunFailedError     exit 4: a training run that diverged or ran out of memory
├── DefectError        exit 1: cases that a defect of ours left out; its traceback was logged
└── InterruptedRunError exit 130: stopped by the user; the artifacts are complete up to the last checkpoint
"""

import math
from collections.abc import Collection
from numbers import Integral, Real


class VisceraError(Exception):
    """Base of all errors that a user can act on; shown as one sentence, without a traceback."""

    exit_code = 1


class BadInputError(VisceraError, ValueError):
    """Input that cannot be used as it is: the message names it and the remedy. Also a `ValueError`."""

    exit_code = 3


class BadTypeError(BadInputError, TypeError):
    """A value of another type than the one that was expected. Also a `TypeError`."""


def refuse_unknown(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse an option that is none of its choices, so that a slip of the pen is not taken for another reading.

    Raises:
        BadInputError: names the choices.
    """
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices)
        raise BadInputError(f"{name}={value!r}: there is no such choice. There are: {known}.")


def refuse_non_number(name: str, value: object, least: float = 0.0) -> None:
    """Refuse what is no finite number, or lies below `least`.

    Raises:
        BadTypeError: no number.
        BadInputError: NaN, infinite or too small.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadTypeError(f"{name}={value!r}: a number of at least {least:g} was expected.")
    if not math.isfinite(value) or value < least:
        raise BadInputError(f"{name}={value!r}: a finite number of at least {least:g} was expected.")


def refuse_non_count(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        BadTypeError: no whole number.
        BadInputError: too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BadTypeError(f"{name}={value!r}: a whole number of at least {least} was expected.")
    if value < least:
        raise BadInputError(f"{name}={value!r}: a whole number of at least {least} was expected.")


class RunFailedError(VisceraError):
    """A training run that cannot go on (non-finite loss, out of memory); its last good checkpoint is kept."""

    exit_code = 4


class DefectError(VisceraError):
    """A defect of ours that left cases out; their tracebacks were logged, the other cases are done."""

    exit_code = 1


class InterruptedRunError(VisceraError):
    """Stopped by Ctrl-C or SIGTERM after writing a checkpoint; go on with `--resume`."""

    exit_code = 130
