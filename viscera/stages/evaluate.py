"""`viscera evaluate`: from predictions and references to scores."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from viscera.core.anatomy import ABDOMEN, ClassTable, label_numbers
from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.core.tolerances import OTHER, TOLERANCES_MM
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.files import write_json
from viscera.io.layouts import case_name, explained_by, find_cases
from viscera.io.nifti import read_labels
from viscera.io.predictions import read_record
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Split, Store
from viscera.metrics.nnunet_summary import CountedCase, nnunet_summary
from viscera.metrics.scores import Pair

_NIFTI = (".nii.gz", ".nii")
_Grid = Literal["original", "prepared"]
log = logging.getLogger(__name__)


def evaluate(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    predictions: Path,
    references: Path,
    out: Path,
    config: EvaluateConfig | None = None,
    *,
    layout: str = "auto",
    classes: ClassTable | None = None,
    numbers: Mapping[str, int] | None = None,
    split: Split = "test",
    summary: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda _done, _total, _name: None,
) -> list[ScoreRow]:
    """Score label maps against their references.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, a folder of them, a data set of any layout, or a Store. An organ that a case does not
            label has no score there.
        out: the table of scores.
        config: metrics and grid; "prepared" and "both" need a Store.
        layout: of a data set, see `io.layouts`.
        classes: what the labels stand for; by default as the Store, or else what lies beside the predictions, says, and
            the paper's eight where nothing does.
        numbers: names to the label numbers of references that nothing else explains.
        split: the part of a Store of which every case must have a prediction.
        summary: also write nnU-Net's `summary.json` there; of the original grid where that is scored.
        progress: called with done, total, case name.

    Returns:
        The rows that were written: by case, grid, metric and class.

    Raises:
        BadInputError: a prediction without a reference, cases of the Store's part without a prediction, label maps of
            different grids, predictions of other classes, or a tolerance for an organ that there is not.
    """
    config = config or EvaluateConfig()
    store = Store.open(references) if (references / "manifest.json").exists() else None
    if store is not None and classes not in {None, store.classes}:
        raise BadInputError(f"{references}: a store of other classes ({', '.join(store.classes.names)}).")
    files = _prediction_files(predictions, references)
    classes = classes or (store.classes if store else _classes_beside(next(iter(files.values())))) or ABDOMEN
    _refuse_unknown_organs(config, classes)
    jobs = _jobs(files, references, store, _Wanted(split, layout, classes, numbers))
    if store is None and config.grid != "original":
        raise BadInputError(f"{references}: scores on the prepared grid need a store as the references.")
    rows: list[ScoreRow] = []
    counted: list[CountedCase] = []
    for done, job in enumerate(jobs):
        progress(done, len(jobs), job.case)
        pairs = _pairs(job, store, classes, config)
        for grid, pair in pairs.items():
            scores = pair.scores(config.metrics, config.tolerance_mm, config.absent)
            rows += [ScoreRow(job.case, each.organ, grid, each.metric, each.value) for each in scores]
        first = next(iter(pairs.values()))
        counted.append(CountedCase(str(job.prediction), str(job.reference.path), first.confusion))
    progress(len(jobs), len(jobs), "")
    write_scores(out, rows)
    if summary is not None:
        write_json(summary, nnunet_summary(counted), allow_nan=True)
    return rows


class _Wanted(NamedTuple):
    """How references are to be taken."""

    split: Split
    layout: str
    classes: ClassTable
    numbers: Mapping[str, int] | None


class _Reference(NamedTuple):
    """The truth of one case, not yet read, its file, and the classes that it does not label."""

    path: Path
    read: Callable[[], LabelMap]
    unlabelled: tuple[str, ...] = ()


class _Job(NamedTuple):
    """A prediction, not yet read, and its reference."""

    case: str
    prediction: Path
    reference: _Reference


def _pairs(job: _Job, store: Store | None, classes: ClassTable, config: EvaluateConfig) -> dict[_Grid, Pair]:
    """Prediction and reference on each grid that is to be scored."""
    _refuse_other_classes(job.prediction, classes)
    prediction = read_labels(job.prediction, classes=classes).canonical()
    if store is not None:
        store.verify([job.case])
    pairs: dict[_Grid, Pair] = {}
    try:
        if config.grid in {"original", "both"}:
            truth = job.reference.read().canonical()
            pairs["original"] = Pair.of(prediction, truth, classes, job.reference.unlabelled)
        if store is not None and config.grid in {"prepared", "both"}:
            change = GridChange.prepared(prediction.geometry, store.manifest.prepare)
            on_grid = coarsen_labels(prediction, change, store.manifest.prepare.label_downsampling)
            pairs["prepared"] = Pair.of(on_grid, store.label_map(job.case), classes, job.reference.unlabelled)
    except BadInputError as error:
        raise BadInputError(f"{job.prediction}: {error}") from error
    return pairs


def _refuse_unknown_organs(config: EvaluateConfig, classes: ClassTable) -> None:
    if isinstance(config.tolerance_mm, dict):
        unknown = [organ for organ in config.tolerance_mm if organ not in {*classes.names[1:], *TOLERANCES_MM}]
        if unknown:
            raise BadInputError(
                f"evaluate.tolerance_mm: there is no {', '.join(unknown)}. There are: {', '.join(classes.names[1:])}, "
                f"and {OTHER} for the rest."
            )


def _classes_beside(prediction: Path) -> ClassTable | None:
    """The classes that `viscera predict` wrote beside a label map; None where it wrote nothing."""
    written = read_record(prediction.with_name(f"{case_name(prediction)}.json")) or {}
    return ClassTable.of_names(written["classes"]) if "classes" in written else None


def _refuse_other_classes(prediction: Path, classes: ClassTable) -> None:
    found = _classes_beside(prediction)
    if found is not None and found != classes:
        raise BadInputError(
            f"{prediction}: its labels stand for {', '.join(found.names)}; the references have "
            f"{', '.join(classes.names)}. Give references of the same classes."
        )


def _prediction_files(predictions: Path, references: Path) -> dict[str, Path]:
    """The label maps to score, by case."""
    if predictions.is_file() and references.is_file():
        return {case_name(predictions): predictions}
    if not predictions.is_dir() or not references.is_dir():
        missing = predictions if not predictions.exists() else references
        raise BadInputError(f"{missing}: give two label maps, or two folders.")
    files = _by_name(predictions)
    if not files:
        raise BadInputError(f"{predictions}: no .nii or .nii.gz file in this folder. Give the folder of predictions.")
    return files


def _jobs(files: dict[str, Path], references: Path, store: Store | None, wanted: _Wanted) -> list[_Job]:
    if references.is_file():
        reference = _of_file(references, wanted)
        return [_Job(name, path, reference) for name, path in files.items()]
    known = _of_store(store, files, wanted) if store else _of_folder(references, files, wanted)
    strangers = sorted(set(files) - set(known))
    if strangers:
        raise BadInputError(f"{references}: there is no reference for {', '.join(strangers[:5])}.")
    return [_Job(name, files[name], known[name]) for name in sorted(files)]


def _of_store(store: Store, files: dict[str, Path], wanted: _Wanted) -> dict[str, _Reference]:
    unanswered = [name for name in store.names(wanted.split) if name not in files]
    if unanswered:
        raise BadInputError(
            f"{store.path}: its {wanted.split} cases {', '.join(unanswered[:5])} have no prediction. "
            "Predict them first: every model is scored on the same cases."
        )
    cases = store.manifest.cases
    return {
        name: _Reference(store.original_labels_path(name), _reader(store, name), cases[name].unlabelled)
        for name in store.names()
    }


def _of_folder(references: Path, files: dict[str, Path], wanted: _Wanted) -> dict[str, _Reference]:
    """A folder of label maps, or a data set, or the label folder of one."""
    label_maps = _by_name(references)
    data_set = explained_by(references) if label_maps else references
    if data_set is None:
        return {name: _of_file(path, wanted) for name, path in label_maps.items()}
    cases = find_cases(data_set, wanted.layout, table=wanted.classes, partial=True, numbers=wanted.numbers)
    unlabelled = dict.fromkeys(organ for case in cases if case.name in files for organ in case.unlabelled)
    if unlabelled:
        log.warning("%s: not labelled in every case, and without a score there: %s.", data_set, ", ".join(unlabelled))
    return {case.name: _Reference(case.labels, case.read_labels, case.unlabelled) for case in cases}


def _reader(store: Store, name: str) -> Callable[[], LabelMap]:
    return lambda: store.original_labels(name)


def _of_file(path: Path, wanted: _Wanted) -> _Reference:
    """A label map whose numbers are ours, unless others are given."""
    if not wanted.numbers:
        return _Reference(path, lambda: read_labels(path, classes=wanted.classes))
    said = label_numbers(wanted.numbers, found_in="the numbers given", table=wanted.classes, partial=True)
    return _Reference(path, lambda: read_labels(path, said.mapping), said.unlabelled)


def _by_name(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_NIFTI) and not path.name.startswith("."):
            if case_name(path) in files:
                raise BadInputError(f"{path}: {files[case_name(path)].name} is of the same case. Keep one of them.")
            files[case_name(path)] = path
    return files
