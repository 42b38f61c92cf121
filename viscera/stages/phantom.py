"""`viscera phantom`: a procedural data set in nnU-Net raw layout."""

import math
from functools import partial
from pathlib import Path
from typing import Any

from viscera.core.anatomy import CLASSES
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3, size_text
from viscera.core.processes import for_each
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.imaging.phantom import phantom_case, phantom_name, spacing_for
from viscera.io.disk.folder_lock import alone_with
from viscera.io.nifti import write_nifti
from viscera.io.records import read_json, write_json

_ENDING = ".nii.gz"
_MOST_VOXELS = 32_767  # along one axis of a NIfTI file; its square, 2 GiB of HU, in all


def make_phantoms(  # noqa: PLR0913 - what identifies a set, and how to run
    out: Path,  # folder: new, empty, or of the same phantom set
    cases: int,  # how many the folder is to hold, at least; case N of a seed is always the same patient
    seed: int = 0,  # of the set
    shape: Index3 = (128, 128, 96),  # voxels to the right, to the front and up
    spacing_mm: float | None = None,  # isotropic; None: the whole abdomen fits into the shape
    *,
    progress: OnProgress = unseen,  # called after each case
    jobs: int = 1,  # processes that work at the same time, where the machine allows several
) -> int:
    """Write phantom cases as `dataset.json`, `imagesTr/NAME_0000.nii.gz` and `labelsTr/NAME.nii.gz`.

    Returns how many cases the folder holds then.

    Running it again, or with more cases, adds what is missing and leaves the rest as it is. `dataset.json` is written
    first and says which set this is; its `numTraining` counts the cases once they are complete.

    Raises:
        BadInputError: the folder holds something else; a number is out of range; a file cannot be written.
        RunFailedError: a process was killed.
    """
    _check_numbers(cases, seed, shape, spacing_mm)
    spacing = spacing_for(shape) if spacing_mm is None else float(spacing_mm)
    description = {
        "name": "viscera phantom",
        "description": "a procedural abdomen (phantom) in portal-venous CT; no patient, not for clinical use",
        "channel_names": {"0": "CT"},
        "labels": {c.name: c.label for c in CLASSES},
        "file_ending": _ENDING,
        "phantom": {"seed": seed, "shape": list(shape), "spacing_mm": spacing},
    }
    _check_folder(out, description)
    with alone_with(out):
        _check_folder(out, description)  # another process may have just made it
        missing = [number for number in range(cases) if not all(path.exists() for path in _files(out, number))]
        _describe(out, description)
        write = partial(_write_case, out, seed, shape, spacing_mm)
        for done, _ in enumerate(for_each(write, missing, jobs), start=cases - len(missing) + 1):
            progress(Progress("phantom", done, cases))
        return _describe(out, description)


def _check_numbers(cases: int, seed: int, shape: Index3, spacing_mm: float | None) -> None:
    if cases < 1 or seed < 0:
        raise BadInputError(f"{cases} phantom cases with seed {seed}: give at least one case and a seed from 0 on.")
    size = "" if spacing_mm is None else f" of {spacing_mm:g} mm"
    if min(shape) < 1 or (spacing_mm is not None and not 0 < spacing_mm < float("inf")):
        raise BadInputError(f"A phantom of {size_text(shape)} voxels{size}: numbers above 0 were expected.")
    if max(shape) > _MOST_VOXELS or math.prod(shape) > _MOST_VOXELS**2:
        raise BadInputError(
            f"A phantom of {size_text(shape)} voxels: no memory holds it. Give at most 512 along each axis."
        )


def _check_folder(out: Path, description: dict[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise BadInputError(f"{out}: this is a file; a folder for the phantoms was expected. Choose another name.")
    if not out.exists() or not any(path for path in out.iterdir() if not path.name.startswith(".")):
        return
    path = out / "dataset.json"
    found = read_json(path) if path.exists() else None
    known = found.get("phantom") if isinstance(found, dict) else None
    if known is None:
        raise BadInputError(f"{out}: the folder is not empty and holds no phantom set. Choose a new folder.")
    if known != description["phantom"]:
        raise BadInputError(
            f"{out}: holds another phantom set ({known}) than the one asked for ({description['phantom']}). "
            "Choose a new folder, or the same seed, shape and spacing."
        )


def _describe(out: Path, description: dict[str, Any]) -> int:
    """Write `dataset.json`, with the number of complete cases, and return that."""
    labels = (out / "labelsTr").glob(f"phantom_*{_ENDING}")
    complete = sum((out / "imagesTr" / f"{path.name.removesuffix(_ENDING)}_0000{_ENDING}").exists() for path in labels)
    content = description | {"numTraining": complete}
    path = out / "dataset.json"
    if not path.exists() or read_json(path) != content:
        write_json(path, content)
    return complete


def _files(out: Path, number: int) -> tuple[Path, Path]:
    name = phantom_name(number)
    return out / "imagesTr" / f"{name}_0000{_ENDING}", out / "labelsTr" / f"{name}{_ENDING}"


def _write_case(out: Path, seed: int, shape: Index3, spacing_mm: float | None, number: int) -> None:
    case = phantom_case(seed, number, shape, spacing_mm)
    image, labels = _files(out, number)
    description = f"viscera phantom, procedural, no patient; seed {seed}, case {number}"
    write_nifti(image, case.volume, description)
    write_nifti(labels, case.label_map, description)
