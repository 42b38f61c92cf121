"""The error tree. Every message says what was found, what was expected and what to do, and names the file.

VisceraError
├── BadInputError      exit 3: a file, folder, setting or data set that cannot be used as it is
├── RunFailedError     exit 4: a training run that diverged or ran out of memory
├── DefectError        exit 1: cases that a defect of ours left out; its traceback was logged
└── InterruptedRunError exit 130: stopped by the user; the artifacts are complete up to the last checkpoint
"""


class VisceraError(Exception):
    """Base of all errors that a user can act on; shown as one sentence, without a traceback."""

    exit_code = 1


class BadInputError(VisceraError, ValueError):
    """Input that cannot be used as it is: the message names it and the remedy. Also a `ValueError`."""

    exit_code = 3


class RunFailedError(VisceraError):
    """A training run that cannot go on (non-finite loss, out of memory); its last good checkpoint is kept."""

    exit_code = 4


class DefectError(VisceraError):
    """A defect of ours that left cases out; their tracebacks were logged, the other cases are done."""

    exit_code = 1


class InterruptedRunError(VisceraError):
    """Stopped by Ctrl-C or SIGTERM after writing a checkpoint; go on with `--resume`."""

    exit_code = 130
