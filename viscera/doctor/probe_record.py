"""`probe.json` of a run: where each class's voxels went, and whether statistics, last layer or features are why."""

from typing import Literal, NamedTuple

import numpy as np

from viscera.core.anatomy import ClassTable
from viscera.core.config import ClassNames
from viscera.core.errors import BadInputError
from viscera.core.settings import Settings
from viscera.io.files import sha256
from viscera.io.records import read_json, validated, write_record
from viscera.io.runlog import RunFolder
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import LEARNT_DICE

_HALF = 0.5  # of what a class lacked to being learnt
ClassDice = tuple[float | None, ...]  # (L,), 0 to 1; None where a class is neither there nor predicted


class StatisticsScores(Settings):
    """One set of weights by each kind of statistics of batch normalisation, on the same windows."""

    windows: int
    batch_size: int  # windows of one batch
    running: ClassDice | None  # means of training, as the model keeps them; None where it keeps recomputed ones
    recomputed: ClassDice  # means over the fixed training windows, for the weights as they are
    batch: ClassDice  # those of each batch, as in training


class Refit(Settings):
    """The last layer fitted anew, on the features as they are."""

    steps: int
    before: ClassDice  # on the probed cases
    after: ClassDice


class Fate(NamedTuple):
    """Which classes that were not learnt the last layer alone recovers; names in label order."""

    recovered: tuple[str, ...]  # their failure is in the last layer
    partly: tuple[str, ...]  # both have a part in it
    lost: tuple[str, ...]  # their failure is before it, in the features


class Probe(Settings):
    """What was found of one checkpoint of a run. It names no case, and not where the store lies."""

    viscera: str  # version
    sha256: str  # of `last.pt`
    step: int
    store_fingerprint: str
    split: Literal["validation", "train"]  # of which the cases are
    cases: int  # that were looked at
    of_cases: int  # in that part
    classes: ClassNames
    voxels: tuple[tuple[int, ...], ...]  # (L, L) by true class (rows) and what they are called, on the prepared grid
    statistics: StatisticsScores | None  # None: the network has no batch normalisation
    refit: Refit

    @property
    def confusion(self) -> Confusion:
        """Over all cases together."""
        return Confusion(ClassTable.of_names(self.classes), np.array(self.voxels, dtype=np.int64))

    def of_present(self, dice: ClassDice) -> ClassDice:
        """A Dice of each class, None of those that no probed case has: 0 says there that they were predicted."""
        return tuple(value if any(row) else None for value, row in zip(dice, self.voxels, strict=True))

    @property
    def fate(self) -> Fate:
        """A class is recovered that had not been learnt and now has a Dice of at least 0.5.

        It is partly, where its Dice has gained at least half of what it lacked to that.
        """
        pairs = zip(self.classes, self.of_present(self.refit.before), self.refit.after, strict=True)
        failed = [(name, before, after or 0.0) for name, before, after in pairs if before is not None]
        shares = {
            name: (after - before) / (LEARNT_DICE - before) for name, before, after in failed if before < LEARNT_DICE
        }
        return Fate(
            tuple(name for name, share in shares.items() if share >= 1),
            tuple(name for name, share in shares.items() if _HALF <= share < 1),
            tuple(name for name, share in shares.items() if share < _HALF),
        )


def write_probe(folder: RunFolder, probe: Probe) -> None:
    """Keep it, atomically, in place of an earlier one; a training beside it writes other files."""
    write_record(folder.probe, probe.model_dump(mode="json"))


def read_probe(folder: RunFolder) -> Probe | None:
    """The probe of a run as it is now; None where there is none.

    Raises BadInputError where it is damaged, or of an earlier state of the run: by the checksum of its last
    checkpoint, or by its step where the run came without its weights.
    """
    if not folder.probe.exists():
        return None
    again = f"Make it again with `viscera doctor {folder.path} --store STORE`."
    found = validated(Probe, read_json(folder.probe), folder.probe, again)
    shape = (len(found.classes),) * 2
    if np.array(found.voxels, dtype=object).shape != shape:
        raise BadInputError(f"{folder.probe}: damaged (its table is not {shape[0]} by {shape[1]}). {again}")
    if folder.last.exists():
        is_current = sha256(folder.last) == found.sha256
    else:
        status = folder.read_status()
        is_current = status is None or status.step == found.step
    if not is_current:
        raise BadInputError(f"{folder.probe}: made for an earlier state of last.pt (step {found.step}). {again}")
    return found
