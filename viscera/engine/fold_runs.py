"""Which run of a folder held out which fold of a store: what out-of-fold predictions are made with.

The runs must be a cross-validation of that store as it is now: a case that a run has seen would be scored too well.
"""

import logging
from pathlib import Path
from typing import NamedTuple

from viscera.core.errors import BadInputError
from viscera.core.settings import ANOTHER_MODEL, differences
from viscera.core.wording import counted
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.runlog import RunFolder, runs_in
from viscera.io.started_from import refuse_seen_before
from viscera.io.store import Store
from viscera.io.training_data import was_trained_on

log = logging.getLogger(__name__)
_OF_A_FOLD = ("fold", "seed", "mean_hu", "sd_hu")  # in which the runs of a cross-validation may differ


class _FoldRun(NamedTuple):
    """A run of the folder, and what its checkpoint says."""

    path: Path
    fold: int
    checkpoint: Checkpoint


def runs_by_fold(folder: Path, store: Store) -> dict[int, Path]:
    """The run that held out each fold of a store, by fold.

    Raises BadInputError for a store without folds, a folder that is no folder of runs, folds without a finished run or
    with two, and runs of other classes or settings of preparation, or that were trained on other cases than those that
    the store has outside their fold.
    """
    store.of_fold("all")  # or say that it has no folds
    folds = store.manifest.prepare.folds
    runs: dict[int, _FoldRun] = {}
    for run in _runs(folder, store):
        if not 0 <= run.fold < folds:
            raise BadInputError(f"{run.path}: trained with fold {run.fold}; {store.path} has folds 0 to {folds - 1}.")
        if run.fold in runs:
            both = f"{runs[run.fold].path.name} and {run.path.name}"
            raise BadInputError(f"{folder}: {both} both held out fold {run.fold}. Keep one of them in this folder.")
        runs[run.fold] = run
    missing = [fold for fold in range(folds) if fold not in runs]
    if missing:
        named = ", ".join(f"fold_{fold}" for fold in missing)
        raise BadInputError(
            f"{folder}: no trained run of {named}; {store.path} has folds 0 to {folds - 1}. Train what is missing with "
            f"`viscera train {store.path} {folder / f'fold_{missing[0]}'} --fold {missing[0]}`."
        )
    for run in runs.values():
        _refuse_unfinished(run)
        _refuse_other_store(run, store)
    _warn_of_other_settings(folder, list(runs.values()))
    return {fold: runs[fold].path for fold in range(folds)}


def _runs(folder: Path, store: Store) -> list[_FoldRun]:
    """Those that held out a fold; others are passed over, which is said."""
    if not folder.is_dir():
        missing = FileNotFoundError(folder)
        raise BadInputError(
            f"{folder}: there is no such folder. Give the folder of the runs of all folds."
        ) from missing
    if RunFolder(folder).last.exists():
        raise BadInputError(
            f"{folder}: one run; the folder of several was expected, one for each fold of {store.path}. Give that."
        )
    found = []
    for path in runs_in(folder):
        checkpoint = load_checkpoint(RunFolder(path).last) if RunFolder(path).last.exists() else None
        fold = checkpoint.config.train.fold if checkpoint else None
        if checkpoint is None or fold is None or fold == "all":
            log.warning("%s: passed over; it held out no fold.", path)
        else:
            found.append(_FoldRun(path, fold, checkpoint))
    return found


def _refuse_unfinished(run: _FoldRun) -> None:
    if unfinished := RunFolder(run.path).unfinished(run.checkpoint.step):
        raise BadInputError(
            f"{run.path}: this run is {unfinished}. Finish it with `viscera train … --resume` first: a table of all "
            "folds is one of finished runs."
        )


def _refuse_other_store(run: _FoldRun, store: Store) -> None:
    """A run that may have seen what it is to predict, or that was made for other data."""
    checkpoint, seen = run.checkpoint, store.of_fold(run.fold)
    store.refuse_other_classes(run.path, checkpoint.classes)
    other = differences(checkpoint.config.prepare, store.manifest.prepare)
    if other:
        raise BadInputError(
            f"{run.path}: its cases were prepared with {', '.join(other)}. Give the store that it was trained on."
        )
    if not was_trained_on(RunFolder(run.path), checkpoint, seen):
        raise BadInputError(
            f"{run.path}: trained on other cases than those that {store.path} has outside fold {run.fold}: its folds "
            "were drawn again, or cases were added or changed. Give the store as it was, or train the folds again."
        )
    refuse_seen_before(RunFolder(run.path), seen)


def _warn_of_other_settings(folder: Path, runs: list[_FoldRun]) -> None:
    first, *others = runs
    for run in others:
        before, now = first.checkpoint.config.train, run.checkpoint.config.train
        other = differences(before, now, ANOTHER_MODEL, _OF_A_FOLD)
        if first.checkpoint.step != run.checkpoint.step:
            other.append(f"{counted(first.checkpoint.step, 'step')} (now {run.checkpoint.step})")
        if other:
            both = f"{first.path.name} and {run.path.name}"
            log.warning("%s: %s were not trained alike: %s.", folder, both, ", ".join(other))
