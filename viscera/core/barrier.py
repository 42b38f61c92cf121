"""One barrier per case: whatever a case raises becomes the reason why it is left out, and the others are done.

barrier = CaseBarrier()
for case in cases:
    with barrier.around(case.name):
        ...
write_quarantine(folder, barrier.reasons, …)
barrier.finish(len(cases), folder / "quarantine.csv")
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viscera.core.errors import BadInputError, DefectError, InterruptedRunError, RunFailedError, VisceraError

log = logging.getLogger(__name__)


class CaseBarrier:
    """What became of the cases of one command.

    Attributes:
        left_out: why, by case, in the order in which they came. The errors hold no frames, and so no scans, in memory.
    """

    def __init__(self) -> None:
        self.left_out: dict[str, VisceraError] = {}

    @contextmanager
    def around(self, case: str) -> Iterator[None]:
        """Note why a case is left out, instead of raising it; a defect of ours is logged with its traceback.

        Only what ends the whole command passes through: `KeyboardInterrupt`, `SystemExit`, `InterruptedRunError`.
        """
        try:
            yield
        except InterruptedRunError:
            raise
        except Exception as error:
            self.left_out[case] = explained = case_error(case, error)
            if isinstance(explained, DefectError) and not isinstance(error, DefectError):
                log.exception("%s: left out, by a defect of viscera:", case)

    @property
    def reasons(self) -> dict[str, str]:
        """One sentence per case that was left out."""
        return {case: str(error) for case, error in self.left_out.items()}

    def finish(self, total: int, listed_in: Path) -> None:
        """Raise what ends a command that has done the rest; nothing where no case was left out.

        Args:
            total: cases of this call. Of one alone its own error is raised.
            listed_in: the file that holds the reasons.

        Raises:
            DefectError: one of them was left out by a defect of ours (exit 1).
            BadInputError: otherwise (exit 3).
        """
        if not self.left_out:
            return
        if total == 1:
            raise next(iter(self.left_out.values()))
        defects = sorted(case for case, error in self.left_out.items() if isinstance(error, DefectError))
        first = self.left_out[(defects or sorted(self.left_out))[0]]
        kind = DefectError if defects else BadInputError
        raise kind(
            f"{len(self.left_out)} of {total} cases were left out (reasons in {listed_in}); the others are done. "
            f"The first: {first}"
        )


def case_error(case: str, error: Exception) -> VisceraError:
    """What any error means for the case that raised it, as one sentence, and without the frames that it passed."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    if isinstance(error, VisceraError):
        return type(error)(str(error))
    if isinstance(error, MemoryError):
        return RunFailedError(
            f"{case}: out of memory ({text}). Check its size and spacing; if both are right, use a machine with more."
        )
    if isinstance(error, OSError):
        at = error.filename if isinstance(error.filename, str) else case
        if error.errno == errno.ENAMETOOLONG:
            return BadInputError(
                f"{at}: this name is too long for the file system. Rename it, or shorten the folder's."
            )
        what = error.strerror or text
        return BadInputError(f"{at}: {what}. Check that it is still there, its permissions, and the space on the disk.")
    return DefectError(
        f"{case}: a defect of viscera ({type(error).__name__}: {text}). Please report it; the log has the traceback."
    )
