"""What lies at a path: a store, a run, a study, a data set, its images or labels, predictions; told by few files.

For messages to somebody who gave one thing where another was expected, and so never an error itself.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from viscera.core.errors import BadInputError
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.nifti_header import is_nifti
from viscera.io.predictions import read_record
from viscera.io.probability_maps import is_map
from viscera.io.records import read_yaml
from viscera.io.runlog import RunFolder, StudyFolder, runs_in

Kind = Literal[
    "store", "run", "runs", "study", "report", "checkpoint", "data set", "images", "labels", "predictions", "scans"
]
TITLES: dict[Kind, str] = {
    "store": "a store",
    "run": "a run, a trained model",
    "runs": "a folder of runs",
    "study": "a study",
    "report": "the report of a study",
    "checkpoint": "a checkpoint, a file of a run",
    "data set": "a data set, scans with labels",
    "images": "the images of a data set",
    "labels": "the labels of a data set",
    "predictions": "label maps that viscera predicted",
    "scans": "a scan, or a folder of scans",
}
SEVERAL: frozenset[Kind] = frozenset({"images", "labels", "predictions"})  # of which one says `these are`
_IMAGES, _LABELS = ("imagesTr", "imagesTs", "images", "img"), ("labelsTr", "labelsTs", "labels", "label")
_LOOKED_AT = 5  # files or folders


@dataclass(frozen=True)
class Found:
    """What a path holds."""

    kind: Kind
    whole: Path  # the folder that it belongs to: of a checkpoint the run, of images the data set; else itself


def what_is(path: Path) -> Found | None:
    """What lies there; None where nothing does, or it is something else, or cannot be looked at."""
    with suppress(OSError, BadInputError):
        if path.is_dir():
            return next(_of_folder(path), None)
        if path.is_file():
            return next(_of_file(path), None)
    return None


def _of_folder(path: Path) -> Iterator[Found]:
    run = RunFolder(path)
    if (path / "manifest.json").exists():
        yield Found("store", path)
    if _is_study(path):
        yield Found("study", path)
    if run.has_begun or run.fusion.exists() or run.curve_path.exists() or (path / "model.safetensors").exists():
        yield Found("run", path)
    if path.name == "report" and _is_study(path.parent):
        yield Found("report", path.parent)
    if runs_in(path) or (path.name == "arms" and _is_study(path.parent)):
        yield Found("runs", next(filter(_is_study, path.parents[:2]), path))
    if path.name in {*_IMAGES, *_LABELS} and _is_data_set(path.parent):
        yield Found("images" if path.name in _IMAGES else "labels", path.parent)
    if _are_predictions(path):
        yield Found("predictions", path)
    if _is_data_set(path):
        yield Found("data set", path)
    if any(map(is_nifti, path.iterdir())):
        yield Found("scans", path)


def _of_file(path: Path) -> Iterator[Found]:
    if path.suffix == ".pt":
        yield Found("checkpoint", path.parent)
    if path.name == "index.html" and _is_study(path.parent.parent):
        yield Found("report", path.parent.parent)
    if path.name == "manifest.json":
        yield Found("store", path.parent)
    if path.name == "study.yaml":
        yield Found("study", path.parent)
    if is_nifti(path) and path.parent.name in _LABELS and _is_data_set(path.parent.parent):
        yield Found("labels", path.parent.parent)
    if is_nifti(path):
        yield Found("predictions" if _is_predicted(path) else "scans", path)


def _is_study(folder: Path) -> bool:
    return StudyFolder(folder).record_path.exists()


def _is_data_set(folder: Path) -> bool:
    """Whether it has images and labels beside each other, or a folder for each case."""
    if any((folder / name).is_dir() for name in _IMAGES) and any((folder / name).is_dir() for name in _LABELS):
        return True
    cases = islice((each for each in folder.iterdir() if each.is_dir()), _LOOKED_AT)
    return any((case / f"ct.nii{zipped}").exists() for case in cases for zipped in ("", ".gz"))


def _are_predictions(folder: Path) -> bool:
    """Whether viscera wrote something beside each of the first few files, maps left out: none of them is a scan."""
    found = sorted(path for path in folder.iterdir() if is_nifti(path) and not is_map(path))[:_LOOKED_AT]
    return bool(found) and all(map(_is_predicted, found))


def _is_predicted(path: Path) -> bool:
    return bool(read_record(path.with_name(f"{case_name(path)}.json")))


def images_of(data_set: Path) -> Path | None:
    """The folder of a data set's images."""
    return next((data_set / name for name in _IMAGES if (data_set / name).is_dir()), None)


def store_of(study: Path) -> str | None:
    """The store that a study was run on, as its record says."""
    with suppress(BadInputError, AttributeError):
        store = read_yaml(StudyFolder(study).record_path).get("store")
        return store if isinstance(store, str) else None
    return None


def a_run_of(folder: Path) -> Path | None:
    """The first run of a study, or of a folder of runs."""
    return next(
        (path.parent for path in sorted(folder.glob("arms/*/seed_*/last.pt"))), next(iter(runs_in(folder)), None)
    )
