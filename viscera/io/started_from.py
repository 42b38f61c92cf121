"""Which run's weights a training began with, `started_from.json`, and on which cases those had been trained."""

import functools
import logging
from collections.abc import Iterable
from typing import NamedTuple

from viscera.core.errors import BadInputError
from viscera.io.manifest import CaseRecord
from viscera.io.records import read_json, validated, write_record
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.io.training_data import TrainingData, files_of, sha256_of_cases, training_set_sha256

log = logging.getLogger(__name__)
_WITH_AN_ORGAN = 2  # classes, background among them
NOT_KNOWN = ""  # in place of a checksum


class StartedFrom(NamedTuple):
    """What was taken of another training; the file goes where the run goes, and names no path and no case."""

    run: str  # name of its folder; in files of before its path
    sha256: str  # of its checkpoint
    step: int  # of it
    classes: tuple[str, ...]  # whose outputs were taken
    new: tuple[str, ...]  # which it does not have: their outputs begin at random
    left: tuple[str, ...]  # which it alone has
    trained_on: tuple[str, ...] = (NOT_KNOWN,)  # SHA-256 of its training set, and of those that it began with in turn
    held_out_unseen: bool = False  # whether it is known that none of them has a case which the new training holds out

    @classmethod
    def read(cls, folder: RunFolder) -> "StartedFrom | None":
        """Of a run; None where it began at random. Raises BadInputError where the file is damaged."""
        path = folder.started_from
        return validated(cls, read_json(path), path, "Delete it, or train this run again.") if path.exists() else None

    def write(self, folder: RunFolder) -> None:
        """Into the folder of a run that begins."""
        write_record(folder.started_from, self._asdict())

    @property
    def text(self) -> str:
        """A line for people."""
        parts = [f"the network and the outputs of {', '.join(self.classes)} are taken"]
        parts += [f"new, and begun at random: {', '.join(self.new)}"] if self.new else []
        parts += [f"left behind: {', '.join(self.left)}"] if self.left else []
        parts += ["no organ has the same name"] if len(self.classes) < _WITH_AN_ORGAN else []
        return f"Beginning with the weights of {self.run} (step {self.step}): {'; '.join(parts)}."


class SeenBefore(NamedTuple):
    """Which of the cases that a training holds out the weights that it began with had been trained on."""

    cases: tuple[str, ...]  # in the order of the store
    held_out: int  # cases, for validation and test
    all_known: bool  # whether each of the training sets is one of the store's

    @property
    def nothing(self) -> bool:
        """Whether none was, for certain."""
        return not self.cases and (self.all_known or not self.held_out)

    @property
    def text(self) -> str:
        """How many, for a sentence."""
        if self.held_out == 1:
            return f"the only case ({self.cases[0]})"
        return f"{len(self.cases)} of the {self.held_out} cases (such as {self.cases[0]})"


def trained_on(folder: RunFolder) -> tuple[str, ...]:
    """SHA-256 of the training set of a run, and of those of the weights that it began with, and so on.

    `NOT_KNOWN` stands for one of which nothing is known: of a run or an export of before.
    """
    if folder.is_export:
        said = read_json(folder.export_config)
        found = said.get("trained_on") if isinstance(said, dict) else None
        return tuple(map(str, found)) if isinstance(found, list) and found else (NOT_KNOWN,)
    data, before = TrainingData.read(folder.training_data), StartedFrom.read(folder)
    own = data.sha256 if data else NOT_KNOWN
    return tuple(dict.fromkeys((own, *(before.trained_on if before else ()))))


def seen_before(training_sets: Iterable[str], view: Store) -> SeenBefore:
    """Which cases that a training holds out are in other training sets, by their checksums (`trained_on`).

    A training set is known where it is that of a fold of the store, of all its folds, or of its own split; images are
    compared, so that a case that the store holds twice counts. `view` is the store as the training sees it
    (`Store.of_fold`).
    """
    records, sets = view.manifest.cases, set(training_sets)
    in_folds = tuple((record.fold, files_of(record)) for record in records.values() if record.fold is not None)
    by_fold = {sha256: fold for fold, sha256 in _sets_of_folds(in_folds) if sha256 in sets}
    images_of = {
        sha256: frozenset(_image(record) for record in records.values() if record.fold not in {None, fold})
        for sha256, fold in by_fold.items()
    }
    if not sets <= images_of.keys():
        store = Store.open(view.path)  # its own split, not a fold's
        images_of[training_set_sha256(store)] = _images(store)
    seen = frozenset().union(*(images for sha256, images in images_of.items() if sha256 in sets))
    held_out = [name for name in view.names() if records[name].split in {"validation", "test"}]
    cases = tuple(name for name in held_out if _image(records[name]) in seen)
    return SeenBefore(cases, len(held_out), sets <= images_of.keys())


@functools.lru_cache(maxsize=4)
def _sets_of_folds(cases: tuple[tuple[int | None, str], ...]) -> tuple[tuple[int | None, str], ...]:
    """Each fold with the SHA-256 of its training set, and None with that of all folds, by the cases' folds and files.

    Kept, because a cross-validation asks for each of its runs, and hashing N sets of N cases takes N².
    """
    folds = sorted({fold for fold, _ in cases if fold is not None})
    return tuple(
        (held_out, sha256_of_cases(files for fold, files in cases if fold != held_out)) for held_out in (None, *folds)
    )


def _images(store: Store) -> frozenset[str]:
    return frozenset(_image(store.manifest.cases[name]) for name in store.names("train"))


def _image(record: CaseRecord) -> str:
    return record.sha256["image.npy"]


def refuse_seen_before(folder: RunFolder, view: Store) -> None:
    """Raise BadInputError where the weights that a run began with had been trained on cases that it holds out.

    Where that is not known it is said. `view` is the store as the run's training saw it.
    """
    before = StartedFrom.read(folder)
    if before is None:
        return
    seen = seen_before(before.trained_on, view)
    if seen.cases:
        raise BadInputError(
            f"{folder.path}: it began with the weights of {before.run}, which had been trained on {seen.text} that it "
            "holds out. Train it again from weights that have not seen them."
        )
    if not seen.nothing and not before.held_out_unseen:
        log.warning(
            "%s: it began with the weights of %s. Whether these had been trained on cases that it holds out is not "
            "known: what is measured on them may be too good.",
            *(folder.path, before.run),
        )
