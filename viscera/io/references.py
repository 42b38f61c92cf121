"""Predicted label maps, and the truths that they are scored against: which files, and what their numbers mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from viscera.core.anatomy import ClassTable, LabelNumbers, label_numbers
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.files import sha256
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.layouts.labelled_cases import explained_by, find_cases, named_layout, numbers_beside
from viscera.io.manifest import Split
from viscera.io.nifti import read_labels
from viscera.io.nifti_header import is_nifti
from viscera.io.predictions import is_of_dicom, read_record
from viscera.io.probability_maps import is_map
from viscera.io.pseudonyms import Pseudonyms
from viscera.io.store import Store


class Reference(NamedTuple):
    """The truth of one case, not yet read."""

    path: Path  # its file
    read: Callable[[], LabelMap]  # reads it
    unlabelled: tuple[str, ...] = ()  # names of the classes that it does not label
    # checksums of its scan, as a file or as a store holds it; empty where nothing says
    scans: Callable[[], Sequence[str]] = tuple
    may_be_seen: bool = False  # whether a model may have been trained on it, of a data set that does not say


@dataclass(frozen=True)
class Meaning:
    """What the numbers of references mean."""

    classes: ClassTable  # ours
    layout: str = "auto"  # of a data set, see `io.layouts`; "auto": it is looked for
    numbers: Mapping[str, int] | None = None  # names to label numbers, of label maps that nothing else explains
    keys: Pseudonyms | None = None  # of predictions that are called by pseudonyms; None: by the names of these


def classes_beside(label_map: Path) -> ClassTable | None:
    """The classes that `viscera predict` wrote beside a label map; None where it wrote nothing.

    Raises BadInputError where what stands there are no names of classes.
    """
    path, record = _record(label_map)
    names = record.get("classes")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInputError(f"{path}: damaged (`classes` is not a list of names). Predict again.")
    return ClassTable.of_names(names)


def model_of(label_map: Path) -> str:
    """Checksum of the model that `viscera predict` made a label map with; empty where nothing says it."""
    return str(_record(label_map)[1].get("run_sha256", "")) if label_map.exists() else ""


def refuse_other_scan(prediction: Path, reference: Reference) -> None:
    """Raise BadInputError for the prediction of another scan than the reference's, which only has the same name.

    What `viscera predict` wrote beside the prediction holds the checksum of its scan. Without that, and where the
    reference does not say which scan it is of, or the prediction is of a DICOM series or of a store, nothing is known.
    """
    path, record = _record(prediction)
    made_from, digest = str(record.get("input")), record.get("input_sha256")
    if not isinstance(digest, str) or is_of_dicom(record):
        return
    known = reference.scans()
    if not known or digest in known or made_from.endswith("/image.npy"):
        return
    raise BadInputError(
        f"{prediction}: made from {made_from} (SHA-256 {digest[:12]}…), and {reference.path} is the truth of another "
        f"scan (SHA-256 {known[0][:12]}…) that only has the same name. Predict that scan. If it is the same one, saved "
        f"again, move {path} away."
    )


def _record(label_map: Path) -> tuple[Path, dict[str, Any]]:
    """Where `viscera predict` says what it made of a label map, and what it says."""
    path = label_map.with_name(f"{case_name(label_map)}.json")
    return path, read_record(path) or {}


def prediction_files(predictions: Path, references: Path, keys: Pseudonyms | None = None) -> dict[str, Path]:
    """The label maps to score, by case: a file where both are files, or those of a folder.

    Raises BadInputError for a file and a folder, one that does not exist, or a folder without a label map; and for
    names where pseudonyms are expected.
    """
    if predictions.is_file() and references.is_file():
        return {case_name(predictions): predictions}
    if not predictions.is_dir() or not references.is_dir():
        for path in (predictions, references):
            if not path.exists():
                raise BadInputError(f"{path}: there is no such file or folder.")
        raise BadInputError(
            f"{predictions}, {references}: a file and a folder; give two label maps, or two folders. A store and a "
            "data set are folders, and go with a folder of predictions."
        )
    files = label_maps_in(predictions)
    if not files:
        raise BadInputError(f"{predictions}: no .nii or .nii.gz file in this folder. Give the folder of predictions.")
    if keys:
        keys.refuse_others(files)
    return files


def read_predictions(files: Mapping[str, Path], classes: ClassTable) -> dict[str, Callable[[], LabelMap]]:
    """How to read each prediction: by our numbers, or by those of nnU-Net's `dataset.json` beside it.

    Raises BadInputError for a `dataset.json` that names none of ours; reading does, for a prediction of other classes.
    """
    known: dict[Path, LabelNumbers | None] = {}  # by nnU-Net, in the folder of its predictions, or of its validation
    for folder in dict.fromkeys(path.resolve().parent for path in files.values() if "classes" not in _record(path)[1]):
        above = [each for each in folder.parents[:2] if (each / "plans.json").exists()]
        known[folder] = numbers_beside((folder, *above), classes, "predicted label numbers")
    return {
        name: partial(_read_prediction, path, classes, known.get(path.resolve().parent)) for name, path in files.items()
    }


def _read_prediction(path: Path, classes: ClassTable, known: LabelNumbers | None) -> LabelMap:
    found = classes_beside(path)
    if found is not None and found != classes:
        raise BadInputError(
            f"{path}: its labels stand for {', '.join(found.names)}; the references have {', '.join(classes.names)}. "
            "Give references of the same classes."
        )
    return read_labels(path, None if found else known, classes=classes)


def references_of(path: Path, store: Store | None, split: Split | None, meaning: Meaning) -> dict[str, Reference]:
    """The truths by case: of a store or a part of it, of a data set of any layout, or of a folder of label maps."""
    if store is None and meaning.keys is not None:
        return meaning.keys.of_files(_of_folder(path, meaning))
    if store is None:
        return _of_folder(path, meaning)
    return {name: _of_stored(store, name) for name in store.names(split)}


def _checksum_of(scan: Path) -> list[str]:
    return [sha256(scan)] if scan.is_file() else []


def _of_stored(store: Store, name: str) -> Reference:
    case = store.manifest.cases[name]
    made_from = [source.sha256 for source in case.sources.values()][:1]
    scans = [*made_from, case.sha256["image.npy"]]
    path = store.original_labels_path(name)
    return Reference(path, partial(store.original_labels, name), case.unlabelled, partial(tuple, scans))


def reference_file(path: Path, meaning: Meaning) -> Reference:
    """The truth in one file, which may belong to a data set."""
    data_set = explained_by(path.parent) if meaning.numbers is None else None
    for case in find_cases(data_set, meaning.layout, table=meaning.classes, partial=True) if data_set else ():
        if case.labels.resolve() == path.resolve():
            return _of_case(case)
    return _of_label_map(path, meaning, _explained(path.resolve().parent, meaning))


def _of_folder(folder: Path, meaning: Meaning) -> dict[str, Reference]:
    label_maps = label_maps_in(folder)
    data_set = explained_by(folder) if label_maps else folder
    if data_set is None:
        known = _explained(folder.resolve(), meaning)
        return {name: _of_label_map(path, meaning, known) for name, path in label_maps.items()}
    cases = find_cases(data_set, meaning.layout, table=meaning.classes, partial=True, numbers=meaning.numbers)
    return {case.name: _of_case(case) for case in cases}


def _of_case(case: CaseSource) -> Reference:
    """The truth in a data set, whose scan need not be there."""
    scans = partial(_checksum_of, case.image)
    return Reference(case.labels, case.read_labels, case.numbers.unlabelled, scans, case.split in {None, "train"})


def _explained(folder: Path, meaning: Meaning) -> LabelNumbers | None:
    """What the label maps of a folder mean, if anything says so: what was given, or a table there or one folder up."""
    named = named_layout(meaning.layout) if meaning.layout != "auto" else None
    numbers = meaning.numbers or (named.numbers if named else None)
    if not numbers:
        return numbers_beside((folder, folder.parent), meaning.classes, "label numbers")
    found_in = "the numbers given" if meaning.numbers or not named else named.name
    return label_numbers(numbers, found_in=found_in, table=meaning.classes, partial=True)


def _of_label_map(path: Path, meaning: Meaning, known: LabelNumbers | None) -> Reference:
    """Of the numbers that are known; of viscera's own where it predicted the label map, or where nothing is known."""
    known = None if classes_beside(path) else known
    read = partial(read_labels, path, known, classes=meaning.classes)
    return Reference(path, read, known.unlabelled if known else ())


def label_maps_in(folder: Path) -> dict[str, Path]:
    """The label maps of a folder, by case, maps of probabilities left out; raises BadInputError for two of one case."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_nifti(path) and not is_map(path):
            if case_name(path) in files:
                raise BadInputError(f"{path}: {files[case_name(path)].name} is of the same case. Keep one of them.")
            files[case_name(path)] = path
    return files
