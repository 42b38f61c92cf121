"""Which cases of a store are for training, validation and test, and in which fold each is."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError

from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.wording import counted, listed
from viscera.io.layouts.dataset_tables import case_of
from viscera.io.manifest import Split
from viscera.io.records import read_json
from viscera.io.store import Store

_FOLDS = 1  # stream of random numbers, beside that of the split
_SPLIT_FILE = TypeAdapter(dict[Split, list[str]])
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


def read_split(path: Path, cases: Sequence[str]) -> dict[str, Split]:
    """The split of a JSON file; raises BadInputError for something else, and for a case that is named twice."""
    try:
        lists = _SPLIT_FILE.validate_python(read_json(path), strict=True)
    except ValidationError as error:
        raise BadInputError(f'{path}: {{"train": [...], "validation": [...], "test": [...]}} was expected.') from error
    splits: dict[str, Split] = {}
    for split in get_args(Split):
        for name in (case_of(entry, cases) for entry in lists.get(split, [])):
            if name in splits:
                raise BadInputError(f"{path}: {name} is in {splits[name]} and in {split}. Keep one of them.")
            splits[name] = split
    return splits


def refuse_moves(store: Store, wanted: dict[str, Split], path: Path | None, coming: Sequence[str]) -> None:
    """Refuse a split file that leaves cases out or moves them, before anything is prepared."""
    already = _assigned(store)
    unlisted = sorted({*store.manifest.cases, *coming} - {*already, *wanted})
    if unlisted:
        raise BadInputError(f"{path}: names no split for {listed(unlisted)}. Add them and run again.")
    moved = [name for name in already if wanted.get(name, already[name]) != already[name]]
    if moved:
        raise BadInputError(
            f"{store.path}: the split file {path} moves {listed(moved)}, but models may have been trained on "
            "the present split. Prepare a new store."
        )


def _assigned(store: Store) -> dict[str, Split]:
    return {name: record.split for name, record in store.manifest.cases.items() if record.split is not None}


def assign_split(
    store: Store, config: PrepareConfig, wanted: dict[str, Split] | None, proposed: dict[str, Split]
) -> None:
    """Write into the manifest where each new case belongs: as `wanted` of a file, else as its data set proposes."""
    already = _assigned(store)
    unassigned = [name for name in store.manifest.cases if name not in already]
    if unassigned or wanted is not None:
        store.assign(_split_of(unassigned, already, config, wanted, proposed))
    if not store.names("train"):
        log.warning("%s: no case is for training. Give --test-fraction 0, a --split FILE, or more cases.", store.path)
    if config.folds or store.manifest.prepare.folds:  # those that it has are for new cases, too
        _assign_folds(store, config.model_copy(update={"folds": config.folds or store.manifest.prepare.folds}))


def _split_of(
    unassigned: Sequence[str],
    already: dict[str, Split],
    config: PrepareConfig,
    wanted: dict[str, Split] | None,
    proposed: dict[str, Split],
) -> dict[str, Split]:
    """Of new cases: as a file says, else as their data set proposes, else drawn."""
    if wanted is not None:
        return {name: wanted[name] for name in unassigned}
    given = {name: proposed[name] for name in unassigned if name in proposed}
    return given | draw_split([name for name in unassigned if name not in given], already | given, config)


def refuse_many_folds(
    path: Path,
    store: Store | None,  # as it is so far
    coming: Sequence[str],
    config: PrepareConfig,
    wanted: dict[str, Split] | None,
    proposed: dict[str, Split],
) -> None:
    """Raise BadInputError for more folds than there will be cases for them, before anything is written."""
    already = _assigned(store) if store else {}
    unassigned = sorted({*(store.manifest.cases if store else ()), *coming} - already.keys())
    in_all = len(already) + len(unassigned)
    if config.folds > in_all:
        raise BadInputError(
            f"{path}: {config.folds} folds of {in_all} cases, test cases among them. Give fewer --folds, or add cases."
        )
    if config.folds and (wanted is None or wanted.keys() >= {*unassigned}):  # what it does not name is refused later
        splits = already | _split_of(unassigned, already, config, wanted, proposed)
        _refuse_few_cases(path, config, sum(split != "test" for split in splits.values()))


def _refuse_few_cases(path: Path, config: PrepareConfig, cases: int) -> None:
    if cases < config.folds:
        raise BadInputError(
            f"{path}: {config.folds} folds of {counted(cases, 'case')} outside the test set. Give fewer --folds, or "
            "add cases."
        )


def _assign_folds(store: Store, config: PrepareConfig) -> None:
    records = {name: record for name, record in store.manifest.cases.items() if record.split != "test"}
    _refuse_few_cases(store.path, config, len(records))
    already = {name: record.fold for name, record in records.items() if record.fold is not None}
    store.assign_folds(draw_folds([name for name in records if name not in already], already, config), config.folds)
