"""`viscera prepare`: from labelled scans to a Store."""

import contextlib
import logging
import math
from collections.abc import Sequence
from functools import partial as partial_of
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable, title_of
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError, CaseBarrier, VisceraError
from viscera.core.geometry import AxisOrder
from viscera.core.processes import Spread, for_each
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.settings import differences
from viscera.core.shard import Shard
from viscera.core.wording import agreeing, counted, listed
from viscera.imaging.resample import GridChange, coarsen_labels, coarsen_volume
from viscera.io import quarantine
from viscera.io.classes import ClassFile
from viscera.io.disk.folder_lock import TURN_S, exclusive
from viscera.io.files import PARTS, is_unwritable, sha256
from viscera.io.job_parts import alone_with_part, begin_part, forget_parts
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import dataset_licence, dataset_title
from viscera.io.layouts.labelled_cases import find_cases, name_other_organs
from viscera.io.layouts.split_files import GivenSplit, own_split, read_split
from viscera.io.manifest import CaseRecord, SourceRecord
from viscera.io.prepared_case import PreparedCase, write_case
from viscera.io.pseudonyms import Pseudonyms, pseudonymous
from viscera.io.splits import assign_split, refuse_moves, sizes_text, split_sizes, with_folds
from viscera.io.store import Store, refuse_foreign

MUCH_LOST = 0.2  # of an organ's volume
_FINE_MM = 3.0  # what the paper's factor 4 makes of its scans, or so
_GRID = ("shape", "spacing_mm")
_LOST = ("organ", "cases", "vanishes in", "loses a fifth or more in")
_NOT_STATED = "not stated"
log = logging.getLogger(__name__)


def prepare(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    source: Path,  # folder of a labelled data set
    store_path: Path,  # new, empty, or a store of the same settings; its `quarantine.csv` says what was left out
    config: PrepareConfig,  # grid and split
    *,
    layout: str = "auto",  # of the source, see `io.layouts`
    classes: ClassFile | None = None,  # to learn; by default those of the store, or the paper's eight in a new one
    partial: bool = False,  # whether the data set may lack organs
    split_file: Path | None = None,  # JSON, see `io.layouts.split_files`; instead of the data set's own split
    without_folds: bool = False,  # a store that has some is refused, and none of a file are taken
    pseudonyms: Path | None = None,  # key file, see `io.pseudonyms`: no name of a case, file or folder is told
    jobs: int = 1,  # processes that work at the same time, where the machine allows several
    spread: Spread | None = None,  # over other machines instead, which reach the same files
    shard: Shard | None = None,  # this part of the cases alone, beside others; whichever ends last draws the split
    progress: OnProgress = unseen,  # called before the first case, and after each
) -> Store:
    """Build a store, or add to it the cases that are new.

    Raises:
        BadInputError: nothing that could be prepared; a store of other settings, classes or pseudonyms; a full disk;
            or, after all else is done, cases that were left out.
        DefectError: likewise, where a case was left out by a defect of ours.
        RunFailedError: a process was killed.
    """
    source = source if spread is None else source.absolute()  # other machines stand elsewhere
    before = Store.open(store_path) if (store_path / "manifest.json").exists() else None
    keys = _keys_of(store_path, before, pseudonyms)
    with pseudonymous(keys, source), contextlib.ExitStack() as held:
        folds = config.folds or (0 if without_folds else None)
        found = _found(source, layout, before, classes, split_file, keys, folds=folds, partial=partial)
        names = [case.name for case in found.cases]
        refuse_foreign(store_path)
        config = with_folds(store_path, before, names, config, found.given)
        quarantine.refuse_other_quarantine(store_path)
        own = shard.of(found.cases) if shard else found.cases
        beside = exclusive(store_path, lock=PARTS, beside_others=shard is not None)
        with beside, alone_with_part(store_path, "prepare", shard):
            held.enter_context(exclusive(store_path, wait_s=TURN_S if shard else 0))
            store = _open_or_create(store_path, config, source, found.table, keys, without_folds=without_folds)
            refuse_moves(store, found.given, names)
            if shard:
                begin_part(store_path, "prepare", shard, names)
                held.close()  # to the others
            else:
                store.remove_leftovers()
            spread = spread or partial_of(for_each, jobs=jobs)
            barrier = _add_cases(store, own, config, spread, progress, beside_others=shard is not None)
            if shard:
                held.enter_context(exclusive(store_path, wait_s=TURN_S))
                store.reload()
            if before is not None and set(store.names()) > set(before.names()) and before.names():
                _state_licence(store, dataset_licence(source))
            taken, told = [case.name for case in own], keys.told if keys else str
            quarantine.write_quarantine(store_path, barrier.reasons, taken, [source], told)
            if {*names} <= {*store.names(), *quarantine.left_out_of(store_path)}:
                forget_parts(store_path, "prepare")
                assign_split(store, config, found.given)
                _warn_of_losses(store, says_rest=bool(barrier.left_out))
        barrier.finish(len(own), store_path / quarantine.NAME)
    return store


class _Found(NamedTuple):
    """What is to be prepared; cases by their pseudonyms where they have some."""

    table: ClassTable
    cases: Sequence[CaseSource]
    given: GivenSplit


def _found(  # noqa: PLR0913 - as the stage
    source: Path,
    layout: str,
    before: Store | None,
    classes: ClassFile | None,
    split_file: Path | None,
    keys: Pseudonyms | None,
    *,
    folds: int | None,  # how many are asked for; 0: none; None: as the store has, or else a file of somebody's own
    partial: bool,
) -> _Found:
    table, numbers = (classes.table, classes.numbers) if classes else (before.classes if before else ABDOMEN, None)
    cases = find_cases(source, layout, table=table, partial=partial, numbers=numbers)
    if classes is None:
        name_other_organs(source, cases)
    shown = keys.of_cases(cases) if keys else cases  # from here on messages hide their names
    if before is not None and folds is None:
        folds = before.manifest.prepare.folds or None
    given = read_split(split_file, cases, folds) if split_file else own_split(source, cases, folds or 0)
    if keys:
        given = given._replace(splits=keys.renamed(given.splits), folds=keys.renamed(given.folds))
    return _Found(table, shown, given)


def _keys_of(store_path: Path, before: Store | None, key_file: Path | None) -> Pseudonyms | None:
    """The pseudonyms of a store; all of its cases have some, of one key file, or none has."""
    held = before.manifest.pseudonyms if before is not None and before.manifest.cases else None
    if held and key_file is None:
        raise BadInputError(
            f"{store_path}: its cases have pseudonyms. Give the key file that they are from (key {held}), with "
            "--pseudonyms, or another folder."
        )
    if held == "" and key_file is not None:
        raise BadInputError(f"{store_path}: its cases have their own names. Give another folder, or no --pseudonyms.")
    return Pseudonyms.open(key_file, [store_path], held) if key_file is not None else None


def _state_licence(store: Store, licence: str) -> None:
    """Of a store that takes cases of a further data set: the licences of all of them, each once."""
    known = (store.manifest.licence or _NOT_STATED).split("; ")
    if (licence or _NOT_STATED) not in known:
        _write_licence(store, "; ".join([*known, licence or _NOT_STATED]))


def _write_licence(store: Store, licence: str) -> None:
    store.manifest = store.manifest.model_copy(update={"licence": licence})
    store.assign({})  # writes the manifest


def grids_text(store: Store) -> str:
    """From which grid to which, as the median case has them: `48×48×36 voxels of 8×8×8 mm become 12×12×9 of …`."""
    names = store.names()
    before, after = ([grid(name) for name in names] for grid in (store.original_geometry, store.geometry))
    # a scan's own axes can run in any order; the store's are canonical
    before = [AxisOrder.to_canonical(each).apply_to_geometry(each) for each in before]

    def median(values: Sequence[Sequence[float]]) -> str:
        return "×".join(f"{value:.3g}" for value in np.median(values, axis=0))

    shapes, spacings = ([median([getattr(g, what) for g in grids]) for grids in (before, after)] for what in _GRID)
    of = f" (median of {len(names)} cases)" if len({(g.shape, g.spacing_mm) for g in before}) > 1 else ""
    return f"{shapes[0]} voxels of {spacings[0]} mm become {shapes[1]} of {spacings[1]} mm{of}"


def ignored_text(store: Store) -> str:
    """How many cases have voxels that nobody labelled, how much of these, and which all; empty where none has."""
    cases = store.manifest.cases
    records = [each for each in cases.values() if each.ignored_original]
    if not records:
        return ""
    empty = [name for name, each in cases.items() if each.ignored_prepared == math.prod(each.prepared.shape)]
    without = f"; nothing is labelled of {listed(empty, 3)}: nothing is learnt from it"
    share = sum(each.ignored_original for each in records) / sum(math.prod(each.original.shape) for each in records)
    has = agreeing(len(records), "has", "have")
    return (
        f"{len(records)} of {counted(len(store.names()), 'case')} {has} voxels that nobody labelled (`ignore`), "
        f"{share:.1%} of theirs; these are in no count, loss or score{without * bool(empty)}"
    )


def _warn_of_losses(store: Store, *, says_rest: bool) -> None:
    """Say which organs the prepared grid loses; and what the store holds, if asked to."""
    rows = []
    for label, organ in enumerate(store.classes.names[1:], start=1):
        changes = {name: record.volume_change[label] for name, record in store.manifest.cases.items()}
        there = {name: change for name, change in sorted(changes.items()) if change is not None}
        gone = [name for name, change in there.items() if change == -1]
        less = [name for name, change in there.items() if -1 < change <= -MUCH_LOST]
        if gone or less:
            rows.append((title_of(organ), len(there), _some(gone), _some(less)))
    if says_rest and store.names():
        log.warning("%s: %s; %s.", store.path, sizes_text(split_sizes(store)), grids_text(store))
    if rows:
        own_mm = min(min(store.original_geometry(name).spacing_mm) for name in store.names())
        log.warning(
            "%s: organs that its grid loses, which can then be neither learnt nor found. Give a finer one, for example "
            "--spacing-mm %g, or a smaller --downsample.\n%s",
            *(store.path, round(max(own_mm, _FINE_MM), 1), tabulate(rows, _LOST)),
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})" if names else "–"


class _Outcome(NamedTuple):
    """What became of a case."""

    name: str
    record: CaseRecord | None = None  # None: stored already, or left out
    why: VisceraError | None = None  # it was left out
    is_end: bool = False  # nothing more can be stored, of any case


def _add_cases(
    store: Store,
    cases: Sequence[CaseSource],
    config: PrepareConfig,
    spread: Spread,
    progress: OnProgress,
    *,
    beside_others: bool,
) -> CaseBarrier:
    """Store the cases that are new; a store that cannot be written to ends that, all else leaves out one case."""
    barrier = CaseBarrier()
    if not cases:
        return barrier
    known = [source.name for source in cases if source.name in store.manifest.cases]
    store.expect([name for name in known if not _folder_of(store.path, name).is_dir()], beside_others=beside_others)
    items = [(source, store.manifest.cases.get(source.name)) for source in cases]
    outcomes = spread(partial_of(_outcome, store.path.absolute(), store.classes, config), items)
    progress(Progress("prepare", 0, len(cases), cases[0].name))
    with contextlib.closing(outcomes), store.adding(beside_others=beside_others) as tell:
        for done, (name, record, why, is_end) in enumerate(outcomes, start=1):
            if why is not None and is_end:
                raise why
            if why is not None:
                barrier.left_out[name] = why
            elif record is not None:
                tell(name, record)
            progress(Progress("prepare", done, len(cases), name))
    left_out = [name for name in known if name in barrier.left_out and not _folder_of(store.path, name).is_dir()]
    store.expect(left_out, beside_others=beside_others, replaced=False)
    return barrier


def _folder_of(store: Path, name: str) -> Path:
    return store / "cases" / name


def _outcome(
    path: Path, table: ClassTable, config: PrepareConfig, item: tuple[CaseSource, CaseRecord | None]
) -> _Outcome:
    """Store one case, in whichever process, unless it is stored."""
    source, before = item
    barrier, record, unwritable = CaseBarrier(), None, None
    with barrier.around(source.name):
        if before is None or before.awaited or not _is_stored(path, table, source, before):
            case = _prepared(source, config)
            try:
                record = write_case(path, case, table, before)
            except BadInputError as error:
                if not is_unwritable(error.__cause__):
                    raise
                unwritable = error
    return _Outcome(source.name, record, unwritable or barrier.left_out.get(source.name), is_end=unwritable is not None)


def _open_or_create(
    path: Path, config: PrepareConfig, source: Path, table: ClassTable, keys: Pseudonyms | None, *, without_folds: bool
) -> Store:
    store = Store.open(path) if (path / "manifest.json").exists() else None
    if store is None or not store.manifest.cases:  # the latter is of a call that was refused
        without = config.model_copy(update={"folds": 0})  # none is drawn yet
        title = dataset_title(source, or_folder=keys is None)
        store = Store.create(path, without, title, table, keys.key_id if keys else "")
        if licence := dataset_licence(source):
            _write_licence(store, licence)
        return store
    if store.classes != table:
        raise BadInputError(
            f"{path}: prepared with the classes {', '.join(store.classes.names)} (now {', '.join(table.names)}). Give "
            "the same classes, or another folder."
        )
    either = not store.manifest.prepare.folds or not (config.folds or without_folds)  # drawn later, they stay
    may_differ = ("folds",) if either else ()
    other = differences(store.manifest.prepare, config, apart_from=may_differ, name_defaults=True)
    if other:
        raise BadInputError(f"{path}: prepared with {', '.join(other)}. Give the same settings, or another folder.")
    return store


def _is_stored(path: Path, table: ClassTable, source: CaseSource, record: CaseRecord) -> bool:
    folder = _folder_of(path, source.name)
    replacing = f"To replace the case, delete {folder} and prepare again"
    for name, file in source.files.items():
        known = record.sources.get(name)
        if known is None or not file.is_file() or file.stat().st_size != known.bytes or sha256(file) != known.sha256:
            made = f"{source.name}: {file} is not the file that the store's case was made from"
            cause = None if file.exists() else FileNotFoundError(file)
            raise BadInputError(f"{made}. {replacing}; or rename the new case.") from cause
    if record.unlabelled != source.numbers.unlabelled:
        both = record.unlabelled, source.numbers.unlabelled
        labels, now = (f"not {', '.join(names)}" if names else "everything" for names in both)
        raise BadInputError(f"{source.name}: the store's case labels {labels}, now {now}. {replacing}.")
    meaning = source.meaning_with(ignored=record.ignored_original > 0 or source.shows_ignored)
    if record.meaning is not None and record.meaning != meaning:
        names = {**dict(enumerate(table.names)), IGNORED: "ignore"}
        now, then = (
            ", ".join(f"{names[label]} {number}" for number, label in each.items())
            for each in (meaning, record.meaning)
        )
        raise BadInputError(
            f"{source.name}: its labels are taken to mean {now}; when it was stored, {then}. {replacing}."
        )
    return True


def _prepared(source: CaseSource, config: PrepareConfig) -> PreparedCase:
    case = source.read()
    volume, label_map = case.volume.canonical(), case.label_map.canonical()
    change = GridChange.prepared(volume.geometry, config)
    return PreparedCase(
        name=case.name,
        volume=coarsen_volume(volume, change),
        label_map=coarsen_labels(label_map, change, config.label_downsampling),
        original=case.label_map,
        sources={n: SourceRecord(bytes=p.stat().st_size, sha256=sha256(p)) for n, p in source.files.items()},
        unlabelled=case.unlabelled,
        meaning=source.meaning_with(ignored=case.label_map.ignored > 0),
    )
