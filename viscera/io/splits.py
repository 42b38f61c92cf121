"""Which cases of a store are for training, validation and test, and in which fold each is."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.wording import agreeing, counted, listed
from viscera.io.layouts.split_files import GivenSplit
from viscera.io.manifest import Split
from viscera.io.store import Store

_FOLDS = 1  # stream of random numbers, beside that of the split
log = logging.getLogger(__name__)


def split_sizes(store: Store) -> dict[Split, int]:
    """How many cases each part has, as the store, or a training of a fold (`Store.of_fold`), sees them."""
    return {split: len(store.names(split)) for split in get_args(Split)}


def evenly_spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of some cases, evenly spaced over their list."""
    return [names[at] for at in np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))]


def sizes_text(sizes: Mapping[Split, int], fold: int | Literal["all"] | None = None) -> str:
    """For people: `5 training, 3 validation (fold 0), 1 test case`."""
    held = "" if fold is None else " (no fold is held out)" if fold == "all" else f" (fold {fold})"
    return f"{sizes['train']} training, {sizes['validation']} validation{held}, {counted(sizes['test'], 'test case')}"


def draw_split(unassigned: Sequence[str], already: dict[str, Split], config: PrepareConfig) -> dict[str, Split]:
    """Assign new cases at random so that the whole store comes as close to the fractions as it can.

    Assigned cases stay where they are. A fraction above 0 gives at least one case. A pure function of its arguments.
    """
    names = np.random.default_rng(config.seed).permutation(sorted(unassigned)).tolist()
    total = len(names) + len(already)
    splits: dict[str, Split] = {}
    wanted: dict[Split, float] = {"test": config.test_fraction, "validation": config.validation_fraction}
    for split, fraction in wanted.items():
        target = max(1, round(fraction * total)) if fraction > 0 else 0
        missing = max(0, target - sum(value == split for value in already.values()))
        splits.update(dict.fromkeys(names[:missing], split))
        names = names[missing:]
    return splits | dict.fromkeys(names, "train")


def draw_folds(unassigned: Sequence[str], already: Mapping[str, int], config: PrepareConfig) -> dict[str, int]:
    """Assign new cases at random to the folds that have fewest; a pure function of its arguments.

    Assigned cases stay where they are.
    """
    sizes = Counter(already.values())
    folds: dict[str, int] = {}
    for name in np.random.default_rng((config.seed, _FOLDS)).permutation(sorted(unassigned)).tolist():
        folds[name] = min(range(config.folds), key=lambda fold: (sizes[fold], fold))
        sizes[folds[name]] += 1
    return folds


def refuse_moves(store: Store, given: GivenSplit, coming: Sequence[str]) -> None:
    """Refuse a file of somebody's own that leaves cases out or moves them, before anything is prepared.

    One that gives folds says which cases are for testing; that fold 0 is its validation set moves none of the others.
    """
    if not given.is_wanted:
        return
    already = _assigned(store)
    unlisted = sorted({*store.manifest.cases, *coming} - {*already, *given.splits})
    if unlisted:
        raise BadInputError(f"{given.path}: names no split for {listed(unlisted)}. Add them and run again.")
    wanted = {name: given.splits.get(name, split) for name, split in already.items()}
    moved = [
        name
        for name, split in already.items()
        if split != wanted[name] and ("test" in {split, wanted[name]} or not given.folds)
    ]
    if moved:
        raise BadInputError(
            f"{store.path}: the split file {given.path} moves {listed(moved)}, but models may have been trained on "
            "the present split. Prepare a new store."
        )


def _assigned(store: Store) -> dict[str, Split]:
    return {name: record.split for name, record in store.manifest.cases.items() if record.split is not None}


def assign_split(store: Store, config: PrepareConfig, given: GivenSplit) -> None:
    """Write into the manifest where each new case belongs: as `given`, or else drawn."""
    already = _assigned(store)
    unassigned = [name for name in store.manifest.cases if name not in already]
    if unassigned:
        store.assign(_split_of(unassigned, already, config, given))
    if not store.names("train"):
        log.warning("%s: no case is for training. Give --test-fraction 0, a --split FILE, or more cases.", store.path)
    if config.folds or store.manifest.prepare.folds:  # those that it has are for new cases, too
        _assign_folds(store, config.model_copy(update={"folds": config.folds or store.manifest.prepare.folds}), given)


def _split_of(
    unassigned: Sequence[str], already: dict[str, Split], config: PrepareConfig, given: GivenSplit
) -> dict[str, Split]:
    """Of new cases: as a file or their data set says, else drawn."""
    known = {name: given.splits[name] for name in unassigned if name in given.splits}
    return known | draw_split([name for name in unassigned if name not in known], already | known, config)


def with_folds(
    path: Path,
    store: Store | None,  # as it is so far
    coming: Sequence[str],
    config: PrepareConfig,
    given: GivenSplit,
) -> PrepareConfig:
    """The settings with as many folds as are given, if none are asked for.

    Raises BadInputError for folds that cannot be, before anything is written: too many, or of too few cases.
    """
    config = config.model_copy(update={"folds": config.folds or given.number})
    already = _assigned(store) if store else {}
    unassigned = sorted({*(store.manifest.cases if store else ()), *coming} - already.keys())
    in_all = len(already) + len(unassigned)
    if config.folds > in_all:
        raise BadInputError(
            f"{path}: {config.folds} folds of {counted(in_all, 'case')}, test cases among them. Give fewer --folds, "
            "or add cases."
        )
    if given.folds:
        _refuse_other_folds(path, store, unassigned, given)
    if config.folds and (not given.is_wanted or given.splits.keys() >= {*unassigned}):  # else it is refused later
        splits = already | _split_of(unassigned, already, config, given)
        _refuse_few_cases(path, config, sum(split != "test" for split in splits.values()))
    return config


def _refuse_other_folds(path: Path, store: Store | None, unassigned: Collection[str], given: GivenSplit) -> None:
    """Where a file lacks a case that must be held out once; or is somebody's own, and moves cases of the store."""
    folds, already = _folds_of(store) if store else {}, _assigned(store) if store else {}
    held_out = {name for name in {*already, *unassigned} if already.get(name, given.splits.get(name)) != "test"}
    if lacking := sorted(held_out - folds.keys() - given.folds.keys()):
        raise BadInputError(
            f"{given.path}: no fold of it holds out {listed(lacking)}, and each case that is no test case is held out "
            'once. Add what is missing, or give --split with {"folds": [[...], [...], …], "test": [...]}.'
        )
    if given.is_wanted and (moved := _moved(folds, given)):
        raise BadInputError(
            f"{path}: {given.path} holds out {listed(moved)} in another fold than the store does, but models may have "
            "been trained on the present folds. Prepare a new store."
        )


def _folds_of(store: Store) -> dict[str, int]:
    return {name: record.fold for name, record in store.manifest.cases.items() if record.fold is not None}


def _moved(folds: Mapping[str, int], given: GivenSplit) -> list[str]:
    return [name for name, fold in folds.items() if given.folds.get(name, fold) != fold]


def _refuse_few_cases(path: Path, config: PrepareConfig, cases: int) -> None:
    if cases < config.folds:
        raise BadInputError(
            f"{path}: {config.folds} folds of {counted(cases, 'case')} outside the test set. Give fewer --folds, or "
            "add cases."
        )


def _assign_folds(store: Store, config: PrepareConfig, given: GivenSplit) -> None:
    """Of cases that have none: those of a file, else drawn; a case keeps the fold that it has."""
    names = [name for name, record in store.manifest.cases.items() if record.split != "test"]
    _refuse_few_cases(store.path, config, len(names))
    already = _folds_of(store)
    unassigned = [name for name in names if name not in already]
    known = {name: given.folds[name] for name in unassigned if name in given.folds}
    others = [name for name in unassigned if name not in known]
    store.assign_folds(known | draw_folds(others, already | known, config), config.folds)
    if known:
        log.warning("%s: the folds are those of %s; no case of it is drawn for testing.", store.path, given.path)
    if moved := _moved(already, given):
        log.warning(
            "%s: keeps the folds of its cases, also of %s, which %s has in others. For its folds prepare a new store.",
            *(store.path, listed(moved), given.path),
        )
    if tests := [name for name in store.names("test") if name in given.folds]:
        log.warning(
            "%s: %s %s in no fold of the store, though in one of %s: test cases stay test cases.",
            *(store.path, listed(tests), agreeing(len(tests)), given.path),
        )
