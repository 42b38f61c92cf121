"""What lies at a path, as cases to look at: a scan, a label map, a folder of either, a data set, a store, a study."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from viscera.core.errors import BadInputError, UsageError
from viscera.io.dicom import is_dicom
from viscera.io.dicom.archive import is_archive
from viscera.io.files import reading
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.nifti import read_volume
from viscera.io.nifti_header import Placement, is_nifti, stores_bytes
from viscera.io.predictions import read_record
from viscera.io.store import Store
from viscera.view.corrections import finish_corrections, folder_of, root_of_corrections
from viscera.view.gallery import Gallery, LabelLayer, Layer, ScanLayer, ShownCase, by_distrust, confined
from viscera.view.given_beside import (
    Beside,
    corrected_layer,
    is_store,
    label_maps_of,
    predictions_of,
    references_at,
    scans_of,
    store_scan,
)
from viscera.view.study_gallery import study_gallery

_TRAINED = ("last.pt", "fusion.yaml")
_ONE = 1


def open_gallery(path: Path, beside: Beside | None = None) -> Gallery:
    """Find what to show.

    Raises BadInputError where there is nothing at the path that can be shown, and UsageError for what was given beside
    something that it does not go with.
    """
    beside = beside or Beside()
    with reading(path):
        if not path.exists():
            raise BadInputError(f"{path}: there is no such file or folder.")
        for each in (path, beside.labels):
            finish_corrections(each)
        gallery = confined(_opener(path)(path, beside))
        for each in filter(None, (path, beside.scans, beside.labels)):
            _refuse_what_is_no_scan(each)
        return gallery


def _refuse_what_is_no_scan(path: Path) -> None:
    """Raise BadInputError for a single file that is neither NIfTI nor DICOM; of folders the page says it by case."""
    if path.is_file() and not is_dicom(path) and not is_archive(path):
        Placement.read(path)


def _opener(path: Path) -> Callable[[Path, Beside], Gallery]:
    if (path / "study.yaml").exists():
        return study_gallery
    if is_store(path):
        return _of_store
    if any((path / name).exists() for name in _TRAINED):
        raise BadInputError(
            f"{path}: this is a trained model. Apply it with `viscera predict {path} SCANS OUT`, and look at OUT."
        )
    if path.is_file() and is_nifti(path) and _is_label_map(path):
        return _of_predictions
    niftis = sorted(filter(is_nifti, path.iterdir())) if path.is_dir() else []
    if niftis and all(map(_is_label_map, niftis)) and not _has_dicom(path):
        return _of_predictions
    if path.is_dir() and not niftis:
        with suppress(BadInputError):
            find_cases(path, partial=True)
            return _of_data_set
    return _of_scans


def _has_dicom(folder: Path) -> bool:
    """Whether DICOM images lie in a folder; what `predict` writes beside label maps is not looked into."""
    files = (
        each for each in sorted(folder.iterdir()) if each.is_file() and each.suffix not in {".json", ".csv", ".gz"}
    )
    return any(map(is_dicom, files))


def _is_label_map(path: Path) -> bool:
    """By what `predict` wrote beside it, or by a header of bytes, in which no CT is kept."""
    if read_record(path.with_name(f"{case_name(path)}.json")):
        return True
    with suppress(BadInputError):
        return stores_bytes(path)
    return False


def _of_predictions(path: Path, beside: Beside) -> Gallery:
    _refuse_given("--labels", beside.labels, "it goes with scans, and these are label maps. Use --references?")
    files = label_maps_of(path)
    classes = beside.classes_of(next(iter(files.values())))
    table = beside.scores or (path / "scores.csv" if path.is_dir() else None)
    layers = predictions_of(files, classes, table, "prediction")
    truths = beside.called(references_at(beside.references, classes, beside)) if beside.references else {}
    scans = beside.called(scans_of(beside.scans)) if beside.scans else {}
    if not scans and beside.references and beside.references.is_dir():
        with suppress(BadInputError):  # a folder of label maps alone
            scans = (
                beside.called(scans_of(beside.references))
                if not any(map(is_nifti, beside.references.iterdir()))
                else {}
            )
    mended = folder_of(path)
    cases = [
        ShownCase(
            name,
            _of(name, scans, layers),
            (layer, *corrected_layer(mended, name, classes), *_each(_of(name, truths, layers))),
        )
        for name, layer in layers.items()
    ]
    roots = (path.resolve(), *([root_of_corrections(mended)] if mended else []), *beside.roots)
    return Gallery("predictions", path, roots, classes, by_distrust(cases), corrections=mended)


def _of_scans(path: Path, beside: Beside) -> Gallery:
    _refuse_given("--scans", beside.scans, "it goes with label maps, and these are scans.")
    scans = beside.called(scans_of(path))
    files = label_maps_of(beside.labels) if beside.labels else {}
    classes = beside.classes_of(next(iter(files.values()), None))
    layers = predictions_of(files, classes, beside.scores, "prediction") if files else {}
    truths = beside.called(references_at(beside.references, classes, beside)) if beside.references else {}
    mended = folder_of(beside.labels) if beside.labels else None
    cases = [
        ShownCase(
            name,
            scan,
            (
                *_each(layer := _of(name, layers, scans)),
                *(corrected_layer(mended, name, classes) if layer else ()),
                *_each(_of(name, truths, scans)),
            ),
        )
        for name, scan in scans.items()
    ]
    roots = (path.resolve(), *([root_of_corrections(mended)] if mended else []), *beside.roots)
    return Gallery("scans", path, roots, classes, by_distrust(cases), corrections=mended)


def _of_data_set(path: Path, beside: Beside) -> Gallery:
    _refuse_given("--scans", beside.scans, "a data set has its own.")
    _refuse_given("--references", beside.references, "a data set has its own.")
    table, numbers = beside.classes_of(None), beside.classes.numbers if beside.classes else None
    found = find_cases(path, beside.layout, table=table, partial=True, numbers=numbers)
    files = label_maps_of(beside.labels) if beside.labels else {}
    layers = predictions_of(files, table, beside.scores, "prediction") if files else {}
    cases = tuple(
        ShownCase(
            case.name,
            ScanLayer((case.image,), partial(read_volume, case.image)),
            (
                *_each(layers.get(case.name)),
                LabelLayer(
                    *("reference", "reference", tuple(case.masks) or (case.labels,), case.read_labels),
                    unlabelled=case.numbers.unlabelled,
                ),
            ),
            case.split or "",
        )
        for case in found
    )
    return Gallery("data set", path, (path.resolve(), *beside.roots), table, cases)


def _of_store(path: Path, beside: Beside) -> Gallery:
    for option, given in (("--scans", beside.scans), ("--references", beside.references), ("--labels", beside.labels)):
        _refuse_given(option, given, "a store has its own.")
    store = Store.open(path)
    cases = tuple(
        ShownCase(
            name,
            store_scan(store, name),
            (
                LabelLayer(
                    *("labels", "reference", (path / "cases" / name / "labels.npy",), partial(store.label_map, name)),
                    unlabelled=record.unlabelled,
                ),
            ),
            record.split or "",
        )
        for name, record in sorted(store.manifest.cases.items())
    )
    return Gallery("store", path, (path.resolve(),), store.classes, cases, store)


def _of(
    name: str, found: dict[str, Layer], cases: dict[str, object] | dict[str, LabelLayer] | dict[str, ScanLayer]
) -> Layer | None:
    """What belongs to a case by its name; where one thing was given for one case, whatever it is called."""
    only = next(iter(found.values())) if len(found) == len(cases) == _ONE else None
    return found.get(name, only)


def _each(layer: LabelLayer | None) -> tuple[LabelLayer, ...]:
    return () if layer is None else (layer,)


def _refuse_given(option: str, given: Path | None, why: str) -> None:
    if given is not None:
        raise UsageError(f"{option} {given}: {why}")
