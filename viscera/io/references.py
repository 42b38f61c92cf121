"""Predicted label maps, and the truths that they are scored against: which files, and what their numbers mean."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from viscera.core.anatomy import ClassTable, LabelNumbers, label_numbers
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.layouts import case_name, explained_by, find_cases, numbers_beside, numbers_of
from viscera.io.nifti import read_labels
from viscera.io.predictions import read_record
from viscera.io.store import Split, Store

_NIFTI = (".nii.gz", ".nii")
log = logging.getLogger(__name__)


class Reference(NamedTuple):
    """The truth of one case, not yet read, its file, and the classes that it does not label."""

    path: Path
    read: Callable[[], LabelMap]
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meaning:
    """What the numbers of references mean.

    Attributes:
        classes: ours.
        layout: of a data set, see `io.layouts`; "auto": it is looked for.
        numbers: names to label numbers, of label maps that nothing else explains.
    """

    classes: ClassTable
    layout: str = "auto"
    numbers: Mapping[str, int] | None = None


def classes_beside(label_map: Path) -> ClassTable | None:
    """The classes that `viscera predict` wrote beside a label map; None where it wrote nothing."""
    written = read_record(label_map.with_name(f"{case_name(label_map)}.json")) or {}
    return ClassTable.of_names(written["classes"]) if "classes" in written else None


def prediction_files(predictions: Path, references: Path) -> dict[str, Path]:
    """The label maps to score, by case: a file where both are files, or those of a folder.

    Raises:
        BadInputError: a file and a folder, one that does not exist, or a folder without a label map.
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
    files = _by_name(predictions)
    if not files:
        raise BadInputError(f"{predictions}: no .nii or .nii.gz file in this folder. Give the folder of predictions.")
    return files


def read_predictions(files: Mapping[str, Path], classes: ClassTable) -> dict[str, Callable[[], LabelMap]]:
    """How to read each prediction: by our numbers, or by those of nnU-Net's `dataset.json` beside it.

    Raises:
        BadInputError: a prediction of viscera of other classes; a `dataset.json` that names none of ours.
    """
    readers: dict[str, Callable[[], LabelMap]] = {}
    for name, path in files.items():
        found = classes_beside(path)
        if found is not None and found != classes:
            raise BadInputError(
                f"{path}: its labels stand for {', '.join(found.names)}; the references have "
                f"{', '.join(classes.names)}. Give references of the same classes."
            )
        readers[name] = _reader(path, classes, None if found else _of_nnunet(path.resolve().parent, classes))
    return readers


def references_of(path: Path, store: Store | None, split: Split | None, meaning: Meaning) -> dict[str, Reference]:
    """The truths by case: of a store or a part of it, of a data set of any layout, or of a folder of label maps."""
    if store is None:
        return _of_folder(path, meaning)
    cases = store.manifest.cases
    return {
        name: Reference(store.original_labels_path(name), _of_store(store, name), cases[name].unlabelled)
        for name in store.names(split)
    }


def reference_file(path: Path, meaning: Meaning) -> Reference:
    """The truth in one file, which may belong to a data set."""
    data_set = explained_by(path.parent) if meaning.numbers is None else None
    for case in find_cases(data_set, meaning.layout, table=meaning.classes, partial=True) if data_set else ():
        if case.labels.resolve() == path.resolve():
            return Reference(path, case.read_labels, case.unlabelled)
    return _of_label_map(path, meaning, _explained(path.resolve().parent, meaning))


def _of_folder(folder: Path, meaning: Meaning) -> dict[str, Reference]:
    label_maps = _by_name(folder)
    data_set = explained_by(folder) if label_maps else folder
    if data_set is None:
        known = _explained(folder.resolve(), meaning)
        return {name: _of_label_map(path, meaning, known) for name, path in label_maps.items()}
    cases = find_cases(data_set, meaning.layout, table=meaning.classes, partial=True, numbers=meaning.numbers)
    return {case.name: Reference(case.labels, case.read_labels, case.unlabelled) for case in cases}


def _explained(folder: Path, meaning: Meaning) -> LabelNumbers | None:
    """What the label maps of a folder mean, if anything says so: what was given, or a table there or one folder up."""
    if meaning.numbers:
        return label_numbers(meaning.numbers, found_in="the numbers given", table=meaning.classes, partial=True)
    if meaning.layout != "auto" and (known := numbers_of(meaning.layout, meaning.classes)) is not None:
        return known
    return _beside((folder, folder.parent), meaning.classes, "label numbers")


def _of_nnunet(folder: Path, classes: ClassTable) -> LabelNumbers | None:
    """By nnU-Net's `dataset.json`, in the folder of its predictions, or two above those of its validation."""
    above = [each for each in folder.parents[:2] if (each / "plans.json").exists()]
    return _beside((folder, *above), classes, "predicted label numbers")


def _beside(folders: Sequence[Path], classes: ClassTable, numbers: str) -> LabelNumbers | None:
    """By the first table of names in these folders, and a warning that says so; None where there is none."""
    found = numbers_beside(folders, classes)
    if found is None:
        return None
    log.warning("%s: the %s are taken to mean what %s says.", folders[0], numbers, found[0])
    return found[1]


def _of_label_map(path: Path, meaning: Meaning, known: LabelNumbers | None) -> Reference:
    """Of the numbers that are known; of viscera's own where it predicted the label map, or where nothing is known."""
    known = None if classes_beside(path) else known
    return Reference(path, _reader(path, meaning.classes, known), known.unlabelled if known else ())


def _reader(path: Path, classes: ClassTable, known: LabelNumbers | None) -> Callable[[], LabelMap]:
    return lambda: read_labels(path, known.mapping if known else None, classes=classes)


def _of_store(store: Store, name: str) -> Callable[[], LabelMap]:
    return lambda: store.original_labels(name)


def _by_name(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(_NIFTI) and not path.name.startswith("."):
            if case_name(path) in files:
                raise BadInputError(f"{path}: {files[case_name(path)].name} is of the same case. Keep one of them.")
            files[case_name(path)] = path
    return files
