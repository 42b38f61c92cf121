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
from viscera.io.files import sha256
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.nifti_header import is_nifti
from viscera.io.predictions import read_record
from viscera.io.probability_maps import is_map
from viscera.io.records import read_json, read_yaml
from viscera.io.runlog import RunFolder, StudyFolder, runs_in

Kind = Literal[
    "store",
    "run",
    "runs",
    "weights",
    "export",
    "checkpoint",
    "study",
    "arm",
    "arms",
    "report",
    "data set",
    "images",
    "labels",
    "predictions",
    "scans",
]
TITLES: dict[Kind, str] = {
    "store": "a store",
    "run": "a run, a trained model",
    "runs": "a folder of runs",
    "weights": "the exported weights of a run",
    "export": "an export for other programs",
    "checkpoint": "a checkpoint, a file of a run",
    "study": "a study",
    "arm": "an arm of a study, a folder of runs",
    "arms": "the arms of a study",
    "report": "the report of a study",
    "data set": "a data set, scans with labels",
    "images": "the images of a data set",
    "labels": "the labels of a data set",
    "predictions": "label maps that viscera predicted",
    "scans": "a scan, or a folder of scans",
}
SEVERAL: frozenset[Kind] = frozenset(
    {"weights", "arms", "images", "labels", "predictions"}
)  # of which one says `these are`
_IMAGES, _LABELS = ("imagesTr", "imagesTs", "images", "img"), ("labelsTr", "labelsTs", "labels", "label")
_LOOKED_AT = 5  # files or folders
_HASHED = 10  # checkpoints


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
    if (path / "manifest.json").exists():
        yield Found("store", path)
    if _is_study(path):
        yield Found("study", path)
    yield from _of_models(path)
    if path.name == "report" and _is_study(path.parent):
        yield Found("report", path.parent)
    if path.name in {*_IMAGES, *_LABELS} and _is_data_set(path.parent):
        yield Found("images" if path.name in _IMAGES else "labels", path.parent)
    if _are_predictions(path):
        yield Found("predictions", path)
    if _is_data_set(path):
        yield Found("data set", path)
    if any(map(is_nifti, path.iterdir())):
        yield Found("scans", path)


def _of_models(path: Path) -> Iterator[Found]:
    """One model or several, here or of a study."""
    run, inside = RunFolder(path), runs_in(path)
    if run.has_begun or run.fusion.exists() or run.curve_path.exists():
        yield Found("run", path)
    if run.is_export or (inside and all(RunFolder(each).is_export for each in inside)):
        yield Found("weights", path)
    if path.name == "arms" and _is_study(path.parent):
        yield Found("arms", path.parent)
    if path.parent.name == "arms" and _is_study(path.parents[1]):
        yield Found("arm", path.parents[1])
    if inside:
        yield Found("runs", path)
    if _export_around(path) is not None:
        yield Found("export", path)


def _of_file(path: Path) -> Iterator[Found]:
    if path.suffix == ".pt" or RunFolder(path.parent).exported == path:
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


def study_of(path: Path) -> Path | None:
    """The study that a path is, or lies in."""
    return next(filter(_is_study, (path, *path.parents[:3])), None)


def store_of(path: Path) -> str | None:
    """The store that a study was run on, as its record says; also of what lies in it."""
    study = study_of(path)
    with suppress(BadInputError, AttributeError):
        store = read_yaml(StudyFolder(study).record_path).get("store") if study else None
        return store if isinstance(store, str) else None
    return None


def an_arm_of(study: Path) -> Path | None:
    """The first arm of a study that has weights."""
    return next((run.parent for run in _runs_of_arms(study)), None)


def a_run_of(folder: Path) -> Path | None:
    """The first run of a study, or of a folder of runs."""
    return next(iter(_runs_of_arms(folder) or runs_in(folder)), None)


def _runs_of_arms(study: Path) -> list[Path]:
    return [path.parent for path in sorted(study.glob("arms/*/seed_*/last.pt"))]


def source_of(export: Path) -> Path | None:
    """The run that an export was made from, or the folder of several, where it lies beside it; told by checksums."""
    around, members = _export_around(export) or export, runs_in(export)
    digests = source_checksums(export)
    with suppress(OSError, BadInputError):
        beside = (path for path in sorted(around.parent.iterdir()) if path.is_dir() and path.name != around.name)
        made = ((path, run) for path in beside for run in (path, *(path / each.name for each in members[:1])))
        weights = ((path, file) for path, run in made for file in (RunFolder(run).last, RunFolder(run).best))
        there = islice(((path, file) for path, file in weights if file.exists()), _HASHED)
        return next((path for path, file in there if sha256(file) in digests), None)
    return None


def source_checksums(export: Path) -> set[str]:
    """SHA-256 of the checkpoint that an export was made from, as its files say it; empty where they do not."""
    first = next(iter(runs_in(export)), export)
    records = [(RunFolder(first).export_config, "made_from_sha256")]
    if (around := _export_around(export)) is not None:
        records.append((RunFolder(around).export_record, "run_sha256"))
    found = set[str]()
    for path, key in records:
        with suppress(OSError, BadInputError, AttributeError):
            found.add(str(read_json(path).get(key)))
    return found - {"None"}


def _export_around(path: Path) -> Path | None:
    """The export that a path is, or one of whose formats it is."""
    return next((each for each in (path, path.parent) if RunFolder(each).export_record.exists()), None)
