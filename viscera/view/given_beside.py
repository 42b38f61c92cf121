"""What was given beside the path that is looked at: scans, labels, the truth, scores; by the names of cases."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable, LabelNumbers
from viscera.core.errors import BadInputError
from viscera.io.classes import ClassFile
from viscera.io.layouts.dataset_tables import case_name, scan_case_name
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.nifti import read_labels
from viscera.io.nifti_header import files_of, is_nifti
from viscera.io.predictions import Measured, read_measurements
from viscera.io.probability_maps import is_map
from viscera.io.pseudonyms import Pseudonyms
from viscera.io.references import (
    Meaning,
    Reference,
    classes_beside,
    label_maps_in,
    read_predictions,
    reference_file,
    references_of,
)
from viscera.io.remote.mirror_index import Seen
from viscera.io.scans import open_scans
from viscera.io.scans import read_volume as read_any_scan
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.view.corrections import newest
from viscera.view.gallery import LabelLayer, Layer, ScanLayer

PREPARED = "The scan is shown as the store holds it, on the grid that the network sees."


@dataclass(frozen=True)
class Beside:
    """What else was given, each a file or a folder."""

    scans: Path | None = None  # of the label maps at the path: scans, a data set, or a store
    labels: Path | None = None  # of the scans at the path
    references: Path | None = None  # the truth: label maps, a data set, or a store
    scores: Path | None = None  # table of scores; by default the one in the folder of predictions
    layout: str = "auto"  # of the references' data set
    classes: ClassFile | None = None  # of label maps that nothing explains
    keys: Pseudonyms | None = None  # by which label maps are called, and scans and references are not

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where these lie, links followed."""
        given = (self.scans, self.labels, self.references, self.scores)
        return tuple(each.resolve() for each in given if each is not None)

    def called(self, found: dict[str, Layer]) -> dict[str, Layer]:
        """What has names, by the pseudonyms of label maps where these have some."""
        return self.keys.renamed(found) if self.keys else found

    def classes_of(self, label_map: Path | None) -> ClassTable:
        """What the numbers of label maps stand for: as `predict` says beside one, else the classes file, or ours."""
        beside = classes_beside(label_map) if label_map else None
        return beside or (self.classes.table if self.classes else ABDOMEN)


def is_store(path: Path) -> bool:
    """Whether a folder is a store."""
    return (path / "manifest.json").exists()


def scans_of(path: Path) -> dict[str, ScanLayer]:
    """The scans of a file, folder, data set, DICOM folder or store, by case.

    Raises BadInputError for none, or two of one case.
    """
    if is_store(path):
        store = Store.open(path)
        return {name: store_scan(store, name) for name in store.names()}
    if path.is_dir() and not any(map(is_nifti, path.iterdir())):
        with suppress(BadInputError):
            cases = find_cases(path, table=ABDOMEN, partial=True)
            return {case.name: ScanLayer((case.image,), partial(read_any_scan, case.image)) for case in cases}
    found: dict[str, ScanLayer] = {}
    with open_scans(path) as scans:
        for scan in scans:
            if scan.name in found:
                other = found[scan.name].files[0].name
                raise BadInputError(f"{scan.path}: {other} is of the same case. Keep one of them.")
            if scan.series is None:
                found[scan.name] = ScanLayer(files_of(scan.path), scan.read)
            elif path.is_dir():
                found[scan.name] = ScanLayer(tuple(dict.fromkeys(scan.series.sources)), scan.read)
            else:  # of a zip file the images are gone afterwards
                found[scan.name] = ScanLayer((path,), partial(read_any_scan, path))
    if not found:
        raise BadInputError(f"{path}: no scan in it. Give a NIfTI file, a folder of them, or a folder of DICOM images.")
    return found


def store_scan(store: Store, name: str) -> ScanLayer:
    """A case's scan on the prepared grid."""
    return ScanLayer((store.path / "cases" / name / "image.npy",), partial(store.volume, name), PREPARED)


def label_maps_of(path: Path) -> dict[str, Path]:
    """The label maps of a file or folder, by case, maps of probabilities left out.

    Raises BadInputError for none, or two of one case.
    """
    found = label_maps_in(path) if path.is_dir() else {}
    if path.is_file() and is_nifti(path) and not is_map(path):
        found = {case_name(path): path}
    if not found:
        raise BadInputError(f"{path}: no label map (.nii.gz) in it. Give a file, or a folder of them.")
    return found


def predictions_of(
    files: Mapping[str, Path], classes: ClassTable, scores: Path | None, title: str
) -> dict[str, LabelLayer]:
    """Label maps as layers, with what was measured of them, and their Dice of a table of scores."""
    readers, dice, table = read_predictions(files, classes), dice_of(scores), Seen.of(scores) if scores else None
    return {
        name: LabelLayer(
            *(title, "prediction", files_of(path), readers[name]),
            measured=measured_beside(path),
            dice=dice.get(name, {}),
            is_newer_than_dice=table is not None and (Seen.of(path) or table).mtime_ns > table.mtime_ns,
        )
        for name, path in files.items()
    }


def measured_beside(label_map: Path) -> dict[str, Measured]:
    """What `predict` measured; nothing where its record is not there, or damaged."""
    with suppress(BadInputError):
        return read_measurements(label_map.with_name(f"{case_name(label_map)}.json"))
    return {}


def references_at(path: Path, classes: ClassTable, beside: Beside) -> dict[str, LabelLayer]:
    """The truths at a path, by case."""
    meaning = Meaning(classes, beside.layout, beside.classes.numbers if beside.classes else None)
    if path.is_file():
        return {scan_case_name(path): reference_layer(reference_file(path, meaning))}
    store = Store.open(path) if is_store(path) else None
    return {name: reference_layer(each) for name, each in references_of(path, store, None, meaning).items()}


def own_numbers(classes: ClassTable) -> LabelNumbers:
    """The numbers of label maps that viscera wrote, voxels that nobody labelled among them."""
    return LabelNumbers({label: label for label in range(len(classes))}, ignored=IGNORED)


def corrected_layer(folder: Path | None, name: str, classes: ClassTable) -> tuple[LabelLayer, ...]:
    """The newest correction of a case, where there is one."""
    path = newest(folder, name)
    if path is None:
        return ()
    return (LabelLayer("correction", "correction", (path,), partial(read_labels, path, own_numbers(classes))),)


def reference_layer(reference: Reference) -> LabelLayer:
    """The truth of a case."""
    return LabelLayer("reference", "reference", (reference.path,), reference.read, unlabelled=reference.unlabelled)


def dice_of(table: Path | None) -> dict[str, dict[str, float | None]]:
    """Dice by case and organ, on the original grid where that was scored; nothing without a table."""
    rows: list[ScoreRow] = read_scores(table) if table is not None and table.exists() else []
    rows = [row for row in rows if row.metric == "dice"]
    found: dict[str, dict[str, float | None]] = {}
    for row in sorted(rows, key=lambda row: row.grid == "original"):  # which comes last, and stays
        found.setdefault(row.case, {})[row.organ] = row.value
    return found
