"""The files that an evaluation writes: the table of scores, and beside it what belongs to these scores alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from viscera.core.config import CalibrationMetric
from viscera.core.errors import BadInputError
from viscera.io import quarantine
from viscera.io.confusion_table import ConfusionRow, write_confusion
from viscera.io.files import refuse_unwritable
from viscera.io.reliability_table import (
    NAME,
    ReliabilityRow,
    refuse_other_reliability,
    remove_reliability,
    write_reliability,
)
from viscera.io.remote.mirror_index import remove
from viscera.io.scores import (
    ScoreRow,
    read_scores,
    refuse_other_scores,
    refuse_other_summary,
    write_scores,
    write_summary,
)

CALIBRATION = frozenset(get_args(CalibrationMetric))


class ScoreFiles(NamedTuple):
    """Where they stand."""

    scores: Path
    summary: Path | None  # as nnU-Net writes it; None: not wanted
    confusion: Path | None = None  # which class the voxels of each class are called; None: not wanted

    @property
    def reliability(self) -> Path:
        """Bins of probability, where calibration is measured."""
        return self.scores.with_name(NAME)

    def refuse_others(self, *, calibration: bool) -> None:
        """Raise BadInputError where one of them is not of an earlier evaluation: before hours of scoring."""
        if calibration:
            refuse_other_reliability(self.reliability)
        quarantine.refuse_other_quarantine(self.scores.parent)
        for path in (self.scores, self.summary):
            if path is not None and path.is_dir():
                raise BadInputError(f"{path}: this is a folder. Give the name of a file.")
        if self.summary is not None and self.summary.resolve() == self.scores.resolve():
            raise BadInputError(
                f"{self.scores}: both the scores and nnU-Net's summary. Give another --out or --summary."
            )
        refuse_other_scores(self.scores)
        if self.summary is not None:
            refuse_other_summary(self.summary)

    def refuse_unwritable(self) -> None:
        """Raise BadInputError where one of their folders cannot be written to."""
        for folder in {path.parent for path in (self.scores, self.summary, self.confusion) if path is not None}:
            refuse_unwritable(folder)

    def _is_of_calibration(self) -> bool:
        """Whether the table that is there has calibration errors; else the bins beside it are of another table."""
        return self._has_scores() and any(row.metric in CALIBRATION for row in read_scores(self.scores))

    def _has_scores(self) -> bool:
        return self.scores.exists() and self.scores.stat().st_size > 0

    def remove(self) -> bool:
        """Remove what an earlier evaluation left, where this one has no scores; whether there was a table."""
        has_scores = self._has_scores()
        if self._is_of_calibration():
            remove_reliability(self.reliability)
        for path in (self.scores, self.summary, self.confusion):
            if path is not None:
                remove(path)
        return has_scores

    def write(
        self,
        rows: Sequence[ScoreRow],
        reliability: Iterable[ReliabilityRow] | None,  # None: calibration was not measured
        summary: dict[str, Any] | None,  # None: of no case
        confusion: Iterable[ConfusionRow] = (),
    ) -> None:
        """Write all of them; what an earlier evaluation left and this one has not is removed."""
        has_bins = self._is_of_calibration()
        write_scores(self.scores, rows)
        if reliability is not None:
            write_reliability(self.reliability, reliability)
        elif has_bins:
            remove_reliability(self.reliability)
        if self.confusion is not None:
            write_confusion(self.confusion, confusion)
        if self.summary is not None and summary is not None:
            write_summary(self.summary, summary)
        elif self.summary is not None:
            remove(self.summary)
