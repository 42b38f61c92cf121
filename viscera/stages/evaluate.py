"""`viscera evaluate`: from predictions and references to scores."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError, CaseBarrier, VisceraError
from viscera.core.processes import for_each, watched
from viscera.core.progress import OnProgress, unseen
from viscera.core.scan import LabelMap
from viscera.core.shard import Shard
from viscera.core.wording import agreeing, counted, listed
from viscera.engine.case_reliability import ClassReliability, case_reliability, probability_map_of
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io import quarantine
from viscera.io.confusion_table import ConfusionRow
from viscera.io.disk.file_sets import together
from viscera.io.disk.folder_lock import alone_in
from viscera.io.job_parts import noted_part
from viscera.io.manifest import Split
from viscera.io.probability_maps import probabilities_beside
from viscera.io.pseudonyms import Pseudonyms, pseudonymous
from viscera.io.references import (
    Meaning,
    Reference,
    classes_beside,
    prediction_files,
    read_predictions,
    reference_file,
    references_of,
    refuse_other_scan,
)
from viscera.io.reliability_table import ReliabilityRow
from viscera.io.remote.mirror_index import address_of
from viscera.io.score_files import ScoreFiles
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.metrics.calibration import Reliability
from viscera.metrics.nnunet_summary import CountedCase, nnunet_summary
from viscera.metrics.scoring import Pair, refuse_other_tolerances

_Grid = Literal["original", "prepared"]
log = logging.getLogger(__name__)


def evaluate(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    predictions: Path,  # a label map, or a folder of them
    references: Path,  # likewise, or a data set of any layout, or a Store; what a case does not label has no score
    out: Path,  # the table of scores, in place of an earlier one; beside it `quarantine.csv` says which cases were left
    # out, and why; where calibration is measured, of the probabilities beside the label maps, also `reliability.csv`
    config: EvaluateConfig | None = None,  # metrics and grid; "prepared" and "both" need a Store
    *,
    layout: str = "auto",  # of a data set, see `io.layouts`
    classes: ClassTable | None = None,  # by default of the Store, or beside the predictions, or else the paper's eight
    numbers: Mapping[str, int] | None = None,  # names to the label numbers of references that nothing else explains
    split: Split | None = None,  # of a Store, scored alone; by default all that is predicted, with every test case
    # of a Store with folds: `split` is as a training of it saw them; by default the held out, which of "all" are all
    fold: int | Literal["all"] | None = None,
    pseudonyms: Path | None = None,  # key file, see `io.pseudonyms`, of predictions that were made with it
    summary: Path | None = None,  # nnU-Net's `summary.json`, to be written; of the original grid where that is scored
    confusion: Path | None = None,  # likewise, a table of which class the voxels of each class are called
    all_or_none: bool = False,  # write nothing where a case cannot be scored: models are compared on the same cases
    jobs: int = 1,  # processes that work at the same time
    shard: Shard | None = None,  # score this part of the cases alone, into an `out` in a folder of its own
    progress: OnProgress = unseen,  # called before each case, or with several `jobs` after it; and at the end
) -> list[ScoreRow]:
    """Score label maps against their references; the rows that were written, by case, grid, metric and class.

    Raises:
        BadInputError: before anything is scored, where predictions and references do not belong together or the outputs
            cannot be written; after all else is done, where cases were left out.
        DefectError: likewise, where a case was left out by a defect of ours.
    """
    config = config or EvaluateConfig()
    keys = Pseudonyms.open(pseudonyms, [predictions], is_there=True) if pseudonyms is not None else None
    with pseudonymous(keys, references):
        store = _store_of(references, config, classes, split, fold)
        split = split or (None if fold is None else "train" if fold == "all" else "validation")
        outputs = ScoreFiles(out, summary, confusion)
        outputs.refuse_others(calibration=bool(config.calibration))
        files = prediction_files(predictions, references, keys)
        classes = classes or (store.classes if store else classes_beside(next(iter(files.values())))) or ABDOMEN
        refuse_other_tolerances(config.tolerance_mm, classes)
        files, known = _paired(files, references, store, split, Meaning(classes, layout, numbers, keys))
        readers = read_predictions(files, classes)
        own = shard.of(sorted(files)) if shard else sorted(files)
        if shard:
            _refuse_another_part(out, own)
        tasks = [_Task(name, files[name], readers[name], known[name]) for name in own]
        _refuse_without_probabilities(predictions, tasks, config)
        outputs.refuse_unwritable()
        barrier, opened = CaseBarrier(), partial(_opened, *((references, store.fingerprint) if store else (None, "")))
        load, told = opened if jobs > 1 else lambda: store, keys.told if keys else str
        with alone_in(out.parent, "evaluation"), noted_part(out.parent, "evaluate", shard, sorted(files)):
            scored = _scored(tasks, barrier, partial(_score, load, classes, config), jobs, progress)
            with together(out.parent):
                rows = _write(outputs, scored, classes, config, told=told, all_or_none=all_or_none)
                quarantine.write_quarantine(out.parent, barrier.reasons, own, [predictions, references], told)
        barrier.finish(len(tasks), out.parent / quarantine.NAME)
    return rows


def _write(
    outputs: ScoreFiles,
    scored: "Sequence[_Scored]",
    classes: ClassTable,
    config: EvaluateConfig,
    *,
    told: Callable[[str], str],
    all_or_none: bool,
) -> list[ScoreRow]:
    """Write what was scored, or take an earlier table away; the rows."""
    rows, counted = _rows_and_counts(scored, warn=not all_or_none)  # a study would say so of every run
    counted = [CountedCase(told(each[0]), told(each[1]), each[2]) for each in counted]
    if (counted or not scored) and not (all_or_none and any(each.why for each in scored)):  # a part may have no case
        bins = [row for each in scored for row in each.reliability] if config.calibration else None
        outputs.write(rows, bins, nnunet_summary(counted) if counted else None, _called(scored, classes))
    elif outputs.remove():
        log.warning("%s: was of an earlier evaluation, and is removed: there are no scores of these.", outputs.scores)
    return rows


def _refuse_another_part(out: Path, own: Sequence[str]) -> None:
    """Before a part of a job array is scored: a table that another part wrote would be replaced."""
    others = sorted({row.case for row in read_scores(out)} - set(own)) if out.exists() and out.stat().st_size else []
    if others:
        raise BadInputError(
            f"{out}: it has the scores of another part ({listed(others, 3)}). Give each part a folder of its own, "
            "with --out, and join the tables with `viscera merge`."
        )


def _store_of(
    references: Path,
    config: EvaluateConfig,
    classes: ClassTable | None,
    split: Split | None,
    fold: int | Literal["all"] | None,
) -> Store | None:
    """The references as a store; None where they are none, and nothing asks for one."""
    store = Store.open(references) if (references / "manifest.json").exists() else None
    if store is not None and classes not in {None, store.classes}:
        raise BadInputError(f"{references}: a store of other classes ({', '.join(store.classes.names)}).")
    if store is None and (config.grid != "original" or split is not None):
        what = "scores on the prepared grid need" if split is None else f"--split {split} needs"
        raise BadInputError(f"{references}: {what} a store as the references.")
    if store is None and fold is not None:
        raise BadInputError(f"{references}: --fold {fold} needs a store as the references.")
    if store is not None and store.manifest.prepare.folds and fold is None and split in {"train", "validation"}:
        log.warning(
            "%s: --split %s is the store's own; a model that was trained with --fold has seen other cases. Give that "
            "--fold here, too.",
            *(references, split),
        )
    return store.of_fold(fold) if store is not None else None


class _Task(NamedTuple):
    """A prediction, not yet read, and its reference."""

    case: str
    prediction: Path
    read: Callable[[], LabelMap]
    reference: Reference


class _Scored(NamedTuple):
    """What became of a prediction: its scores, and the voxels behind them on the first grid; or why it has none."""

    case: str
    rows: list[ScoreRow]
    reliability: list[ReliabilityRow]
    counted: CountedCase | None
    why: VisceraError | None = None
    ignored: int = 0  # voxels that the reference does not label, on the first grid


def _scored(
    tasks: Sequence[_Task],
    barrier: CaseBarrier,
    score: Callable[[_Task], _Scored],
    jobs: int,
    progress: OnProgress,
) -> list[_Scored]:
    """All cases in their order; a case that cannot be scored has neither rows nor counts."""
    names = [task.case for task in tasks]
    with closing(for_each(score, tasks, jobs)) as outcomes:
        seen = watched("evaluate", names, outcomes, lambda each: each.case, progress, in_order=jobs == 1)
        found = {each.case: each for each in seen}
    in_order = [found[name] for name in names]
    barrier.left_out.update({each.case: each.why for each in in_order if each.why is not None})
    return in_order


def _rows_and_counts(scored: Sequence[_Scored], *, warn: bool) -> tuple[list[ScoreRow], list[CountedCase]]:
    """Of all cases together; where wanted with a warning of voxels that the references do not label."""
    partly = [each.case for each in scored if each.ignored]
    if partly and warn:
        log.warning(
            "%d of %s %s voxels that nobody labelled (`ignore`; %s): they are in no score or volume.",
            *(len(partly), counted(len(scored), "reference"), agreeing(len(partly), "has", "have")),
            listed(partly, 3),
        )
    return [row for each in scored for row in each.rows], [each.counted for each in scored if each.counted]


def _called(scored: Sequence[_Scored], classes: ClassTable) -> Iterator[ConfusionRow]:
    """Which class the voxels of each class are called, case by case."""
    for each in scored:
        if each.counted is not None:
            yield from ConfusionRow.of_matrix(each.case, each.counted.confusion, classes.names)


@lru_cache(maxsize=1)
def _opened(path: Path | None, _fingerprint: str) -> Store | None:
    """In a process of several: once for all its cases, for as long as it is the same."""
    return Store.open(path) if path else None


def _score(load: Callable[[], Store | None], classes: ClassTable, config: EvaluateConfig, task: _Task) -> _Scored:
    """Score one case, in whichever process."""
    barrier, rows, reliability = CaseBarrier(), list[ScoreRow](), list[ReliabilityRow]()
    counted, ignored = None, 0
    with barrier.around(task.case):
        pairs = _pairs(task, load(), classes, config)
        for grid, pair in pairs.items():
            scores = pair.scores(config.of_labels, config.tolerance_mm, config.absent)
            rows += [ScoreRow(task.case, each.organ, grid, each.metric, each.value) for each in scores]
            if grid == "original" and config.calibration:
                calibration, reliability = _calibration(task, classes, config)
                rows += calibration
        first = next(iter(pairs.values()))
        counted = CountedCase(address_of(task.prediction), address_of(task.reference.path), first.confusion)
        ignored = first.ignored
    why = barrier.left_out.get(task.case)
    return _Scored(task.case, [] if why else rows, [] if why else reliability, counted, why, ignored)


def _calibration(
    task: _Task, classes: ClassTable, config: EvaluateConfig
) -> tuple[list[ScoreRow], list[ReliabilityRow]]:
    """Calibration errors and bins of a case; without probabilities the former are undefined."""
    path = probability_map_of(task.prediction)
    found = [ClassReliability(name, None) for name in classes.names]
    if path is not None:
        found = case_reliability(path, task.read(), task.reference.read(), classes, task.reference.unlabelled)
    errors = {"ece": Reliability.expected_error, "ace": Reliability.average_error}
    rows = [
        ScoreRow(task.case, each.name, "original", metric, errors[metric](each.found) if each.found else None)
        for metric in config.calibration
        for each in found
    ]
    return rows, [row for each in found for row in each.rows(task.case)]


def _pairs(task: _Task, store: Store | None, classes: ClassTable, config: EvaluateConfig) -> dict[_Grid, Pair]:
    """Prediction and reference on each grid that is to be scored."""
    refuse_other_scan(task.prediction, task.reference)
    prediction = task.read().canonical()
    if store is not None:
        store.verify([task.case])
    pairs: dict[_Grid, Pair] = {}
    try:
        if config.grid in {"original", "both"}:
            truth = task.reference.read().canonical()
            pairs["original"] = Pair.of(prediction, truth, classes, task.reference.unlabelled)
        if store is not None and config.grid in {"prepared", "both"}:
            change = GridChange.prepared(prediction.geometry, store.manifest.prepare)
            on_grid = coarsen_labels(prediction, change, store.manifest.prepare.label_downsampling)
            pairs["prepared"] = Pair.of(on_grid, store.label_map(task.case), classes, task.reference.unlabelled)
    except BadInputError as error:
        raise BadInputError(f"{task.prediction}: {error}") from error
    return pairs


def _paired(
    files: dict[str, Path], references: Path, store: Store | None, split: Split | None, meaning: Meaning
) -> tuple[dict[str, Path], Mapping[str, Reference]]:
    """Which predictions are scored against what: all, or of a store those of a part."""
    if references.is_file():
        return files, dict.fromkeys(files, reference_file(references, meaning))
    known = references_of(references, store, split, meaning)
    strangers = sorted(set(files) - set(store.names() if store else known))
    if strangers:
        raise BadInputError(f"{references}: there is no reference for {listed(strangers)}.")
    scored = {name: path for name, path in files.items() if name in known}
    if store is not None:
        _refuse_unanswered(store, split, scored)
        seen = [name for name in scored if name not in store.names("test")]
        if split is None and store.names("test") and seen:
            log.warning(
                "%s: %d of %s %s not in the test set, but in the means; --split test scores it alone.",
                *(references, len(seen), counted(len(scored), "scored case"), agreeing(len(seen))),
            )
        return scored, known
    may_be_seen = [name for name in scored if known[name].may_be_seen]
    if may_be_seen:
        log.warning(
            "%s: %d of %s may be training cases, whose scores are too good; a data set does not say "
            "which ones a model was trained on. With the store that it was trained on as the references, only test "
            "cases need be scored.",
            *(references, len(may_be_seen), counted(len(scored), "scored case")),
        )
    unlabelled = dict.fromkeys(organ for name in scored for organ in known[name].unlabelled)
    if unlabelled:
        log.warning("%s: not labelled in every case, and without a score there: %s.", references, ", ".join(unlabelled))
    return scored, known


def _refuse_unanswered(store: Store, split: Split | None, files: Mapping[str, Path]) -> None:
    may_be_out_of_fold = split is None and store.manifest.prepare.folds and not set(files) & set(store.names("test"))
    split, out_of_fold = split or "test", " Of folds, as --out-of-fold predicts them, give --fold all."
    if not files:
        parts = ", ".join(f"{len(store.names(part))} {part}" for part in get_args(Split))
        raise BadInputError(f"{store.path}: none of the predictions is of a {split} case. It has {parts}.")
    unanswered = [name for name in store.names(split) if name not in files]
    if unanswered:
        case, have = ("case", "has") if len(unanswered) == 1 else ("cases", "have")
        raise BadInputError(
            f"{store.path}: its {split} {case} {listed(unanswered)} {have} no prediction. "
            f"Predict them first: every model is scored on the same cases." + out_of_fold * bool(may_be_out_of_fold)
        )


def _refuse_without_probabilities(predictions: Path, tasks: Sequence[_Task], config: EvaluateConfig) -> None:
    """Where calibration is asked for, and there is nothing to measure it by; a warning where some cases lack it."""
    if not config.calibration:
        return
    what = " and ".join(config.calibration)
    if config.grid == "prepared":
        raise BadInputError(
            f"{predictions}: {what} are measured on the scans' own grids. Give --grid original or both."
        )
    without = [each.case for each in tasks if not probabilities_beside(each.prediction, each.case).exists()]
    if without and len(without) == len(tasks):
        raise BadInputError(
            f"{predictions}: {what} need the probabilities of each class beside the label maps, and there are none. "
            "Predict with --format nifti,probabilities."
        )
    if without:
        log.warning(
            "%s: %d of %s %s no probabilities beside their label map, and no %s: %s.",
            *(predictions, len(without), counted(len(tasks), "case"), agreeing(len(without), "has", "have"), what),
            listed(without),
        )
