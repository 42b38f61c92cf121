"""`viscera evaluate`: from predictions and references to scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from viscera.core.anatomy import label_numbers
from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.layouts import case_name, nnunet_labels
from viscera.io.nifti import read_labels
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Split, Store
from viscera.metrics.overlap import score

_NIFTI = (".nii.gz", ".nii")


def evaluate(
    predictions: Path,
    references: Path,
    out: Path,
    config: EvaluateConfig | None = None,
    *,
    split: Split = "test",
    progress: Callable[[int, int, str], None] = lambda _done, _total, _name: None,
) -> list[ScoreRow]:
    """Score label maps against their references.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, a folder of them, an nnU-Net raw data set, or a Store.
        out: the table of scores.
        config: grid; "prepared" and "both" need a Store.
        split: the part of a Store of which every case must have a prediction.
        progress: called with done, total, case name.

    Returns:
        The rows that were written: by case, grid and class.

    Raises:
        BadInputError: a prediction without a reference, cases of the Store's part without a prediction, or label
            maps of different grids.
    """
    config = config or EvaluateConfig()
    grid = config.grid
    pairs = _pairs(predictions, references, split)
    store = Store.open(references) if (references / "manifest.json").exists() else None
    if store is None and grid != "original":
        raise BadInputError(f"{references}: scores on the prepared grid need a store as the references.")
    rows: list[ScoreRow] = []
    for done, (name, prediction_path, read_reference) in enumerate(pairs):
        progress(done, len(pairs), name)
        prediction = read_labels(prediction_path)
        if store is not None:
            store.verify([name])
        if grid in {"original", "both"}:
            rows += _rows(name, "original", prediction_path, (prediction, read_reference()), config.absent)
        if store is not None and grid in {"prepared", "both"}:
            canonical = prediction.canonical()
            change = GridChange.prepared(canonical.geometry, store.manifest.prepare)
            on_grid = coarsen_labels(canonical, change, store.manifest.prepare.label_downsampling)
            rows += _rows(name, "prepared", prediction_path, (on_grid, store.label_map(name)), config.absent)
    progress(len(pairs), len(pairs), "")
    write_scores(out, rows)
    return rows


_Pair = tuple[str, Path, Callable[[], LabelMap]]


def _pairs(predictions: Path, references: Path, split: Split) -> list[_Pair]:
    if predictions.is_file() and references.is_file():
        return [(case_name(predictions), predictions, lambda: read_labels(references))]
    if not predictions.is_dir() or not references.is_dir():
        missing = predictions if not predictions.exists() else references
        raise BadInputError(f"{missing}: give two label maps, or two folders.")
    files = _by_name(predictions)
    if not files:
        raise BadInputError(f"{predictions}: no .nii or .nii.gz file in this folder. Give the folder of predictions.")
    known = _reference_readers(references, files, split)
    strangers = sorted(set(files) - set(known))
    if strangers:
        raise BadInputError(f"{references}: there is no reference for {', '.join(strangers[:5])}.")
    return [(name, files[name], known[name]) for name in sorted(files)]


def _reference_readers(references: Path, files: dict[str, Path], split: Split) -> dict[str, Callable[[], LabelMap]]:
    if (references / "manifest.json").exists():
        store = Store.open(references)
        unanswered = [name for name in store.names(split) if name not in files]
        if unanswered:
            raise BadInputError(
                f"{references}: its {split} cases {', '.join(unanswered[:5])} have no prediction. "
                "Predict them first: every model is scored on the same cases."
            )
        return {name: _reader(store, name) for name in store.names()}
    mapping = None
    folder = references
    if (references / "dataset.json").exists():
        mapping = dict(label_numbers(nnunet_labels(references), found_in=str(references / "dataset.json")).mapping)
        folder = references / "labelsTr"
    if not folder.is_dir():
        raise BadInputError(f"{folder}: there is no such folder. Give a data set with its labels in labelsTr.")
    return {name: _file_reader(path, mapping) for name, path in _by_name(folder).items()}


def _reader(store: Store, name: str) -> Callable[[], LabelMap]:
    return lambda: store.original_labels(name)


def _file_reader(path: Path, mapping: dict[int, int] | None) -> Callable[[], LabelMap]:
    return lambda: read_labels(path, mapping)


def _by_name(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_NIFTI) and not path.name.startswith("."):
            if case_name(path) in files:
                raise BadInputError(f"{path}: {files[case_name(path)].name} is of the same case. Keep one of them.")
            files[case_name(path)] = path
    return files


def _rows(
    name: str,
    grid: Literal["original", "prepared"],
    path: Path,
    pair: tuple[LabelMap, LabelMap],
    absent: Literal["undefined", "one"],
) -> list[ScoreRow]:
    """Score a pair of prediction and reference."""
    prediction, reference = pair
    try:
        scores = score(prediction.canonical(), reference.canonical(), absent=absent)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from error
    return [ScoreRow(name, each.organ, grid, each.metric, each.value) for each in scores]
