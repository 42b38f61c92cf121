"""Labels that a person mended, kept beside those that they were made from: a data set to train on.

corrections/dataset.json              names and numbers, as nnU-Net has them
corrections/imagesTr/NAME_0000.nii.gz the scan
corrections/labelsTr/NAME.nii.gz      the newest correction
corrections/history/NAME.N.nii.gz     every correction, none ever replaced
corrections/history/NAME.N.json       who, when, of what, and which organs it changed
"""

import getpass
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import viscera
from viscera.core.anatomy import IGNORED, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, LabelMap, Volume, value_counts
from viscera.io.disk.file_sets import finish, notes_in, together
from viscera.io.disk.folder_lock import TURN_S, exclusive
from viscera.io.files import make_folder, sha256, write_bytes
from viscera.io.layouts.dataset_tables import dataset_json
from viscera.io.nifti import nifti_bytes, read_volume
from viscera.io.nifti_header import Placement, is_nifti
from viscera.io.records import write_json, write_record
from viscera.io.remote.mirror_index import address_of
from viscera.view.gallery import ShownCase

FOLDER = "corrections"
MOST_ABOUT = 4096  # bytes of what is said of a correction
_LONGEST = 200  # characters of a name or a note


@dataclass(frozen=True)
class Correction:
    """What is kept of a correction beside its voxels."""

    case: str
    number: int  # of the case's corrections, from 1 on
    who: str
    when: str  # UTC, ISO 8601
    note: str
    made_from: str  # name of the label map
    made_from_sha256: str
    organs: dict[str, dict[str, int]]  # by name: voxels `before`, `after`, `added`, `removed`

    def to_json(self, written: str) -> dict[str, Any]:
        """As it is written, with the checksum of the label map."""
        return {"viscera": viscera.__version__, **self.__dict__, "sha256": written}


def folder_of(path: Path) -> Path | None:
    """Where corrections of label maps at a path go: beside them; nowhere where they are copies of what is at a URL."""
    if address_of(path) != str(path):
        return None
    return (path if path.is_dir() else path.parent) / FOLDER


def finish_corrections(path: Path | None) -> None:
    """Finish what a viewer that was killed could not, of corrections of label maps at a path, where it may."""
    folder = folder_of(path) if path is not None else None
    if folder is not None and notes_in(folder):
        with suppress(BadInputError):
            _refuse_links(folder)
            with exclusive(folder):
                finish(folder)


def newest(folder: Path | None, case: str) -> Path | None:
    """The newest correction of a case, if there is one."""
    if folder is None:
        return None
    path = folder / "labelsTr" / f"{case}.nii.gz"
    return path if path.exists() else None


def changes(before: LabelArray, after: LabelArray, classes: ClassTable) -> dict[str, dict[str, int]]:
    """Per organ that differs, its voxels before and after, and how many were added and removed.

    Raises BadInputError for labels that are no classes, and where nothing differs.
    """
    allowed = {*range(len(classes)), *([IGNORED] if (before == IGNORED).any() else [])}
    unknown = set(np.flatnonzero(value_counts(after)).tolist()) - allowed
    if unknown:
        raise BadInputError(f"label numbers {', '.join(map(str, sorted(unknown)))} stand for no organ here.")
    differs = before != after
    if not differs.any():
        raise BadInputError("nothing was changed, so there is nothing to save.")
    gone, come = value_counts(before[differs]), value_counts(after[differs])
    counts = value_counts(before)

    def of(label: int) -> dict[str, int]:
        had, removed, added = (int(each[label]) if label < len(each) else 0 for each in (counts, gone, come))
        return {"before": had, "after": had - removed + added, "added": added, "removed": removed}

    found = {organ.name: of(organ.label) for organ in classes.organs}
    return {name: each for name, each in found.items() if each["added"] or each["removed"]}


def save_correction(
    folder: Path,
    case: ShownCase,
    labels: LabelMap,  # on the case's own grid, axes as in the label map that it was made from
    volume: Volume,  # the scan on that grid
    about: Correction,
    classes: ClassTable,
) -> Correction:
    """Write a correction, and the data set that it is part of.

    Raises BadInputError where the folder holds something else, another process keeps it, or the newest correction was
    edited by another program since.
    """
    _refuse_links(folder)
    with exclusive(folder, wait_s=TURN_S):
        finish(folder)
        _refuse_others(folder, classes)
        history = folder / "history"
        make_folder(history)
        about = Correction(**{**about.__dict__, "number": _next(history, case.name)})
        current, name = folder / "labelsTr" / f"{case.name}.nii.gz", f"{case.name}.{about.number}"
        _refuse_edited(current, history)
        content = nifti_bytes(labels, "viscera correction", placement=_placement(case.layers[0].files[0]))
        with together(folder, is_held=True):
            write_bytes(history / f"{name}.nii.gz", content)
            write_record(history / f"{name}.json", about.to_json(hashlib.sha256(content).hexdigest()))
            _keep_scan(folder / "imagesTr" / f"{case.name}_0000.nii.gz", case, volume)
            write_bytes(current, content)
            write_json(folder / "dataset.json", _data_set(folder, classes, current.name))
    return about


def when() -> str:
    """Now."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Who uses this computer, as far as it knows."""
    with suppress(Exception):  # an account without a name
        return getpass.getuser()
    return ""


def said(text: Any) -> str:  # noqa: ANN401 - whatever the page sent
    """A name or a note: one line of text, not too long, without characters that a terminal would act on."""
    shown = "".join(each if each.isprintable() else " " for each in str(text or ""))
    return " ".join(shown.split())[:_LONGEST]


def read_upload(content: bytes, grid: Geometry) -> tuple[dict[str, Any], LabelArray]:
    """What the page sends: a 32-bit length, that much JSON, and one byte a voxel of the shown grid, I fastest.

    Raises BadInputError for anything else.
    """
    length = int.from_bytes(content[:4], "little")
    voxels = int(np.prod(grid.shape))
    if length > MOST_ABOUT or len(content) != 4 + length + voxels:
        raise BadInputError(f"{len(content)} bytes were sent; a label map of {voxels} voxels was expected.")
    try:
        about = json.loads(content[4 : 4 + length])
    except (ValueError, RecursionError) as error:
        raise BadInputError("what was sent beside the voxels is not JSON.") from error
    if not isinstance(about, dict):
        raise BadInputError("what was sent beside the voxels is not a JSON object.")
    return about, np.frombuffer(content, np.uint8, offset=4 + length).reshape(grid.shape, order="F")


def most_bytes(grid: Geometry) -> int:
    """The longest upload for a grid."""
    return 4 + MOST_ABOUT + int(np.prod(grid.shape))


def root_of_corrections(folder: Path) -> Path:
    """Where a folder of corrections lies, if it is no link itself: what a link leads to was not given."""
    return folder.parent.resolve() / folder.name


def _refuse_links(folder: Path) -> None:
    """A folder that somebody else made may have links in it, through which files elsewhere would be written."""
    root = root_of_corrections(folder)
    for name in ("", "history", "labelsTr", "imagesTr"):
        if (folder / name).resolve() != root / name:
            raise BadInputError(
                f"{folder / name}: this is a link to another place, and nothing is written there. Put a folder in its "
                "place."
            )


def _refuse_others(folder: Path, classes: ClassTable) -> None:
    path = folder / "dataset.json"
    if path.exists() and dataset_json(folder).get("labels") != {name: n for n, name in enumerate(classes.names)}:
        raise BadInputError(f"{path}: a data set of other classes. Move {folder} away.")


def _next(history: Path, case: str) -> int:
    numbered = (re.fullmatch(re.escape(case) + r"\.(\d+)\.(nii\.gz|json)", path.name) for path in history.iterdir())
    return 1 + max((int(found[1]) for found in numbered if found), default=0)


def _refuse_edited(current: Path, history: Path) -> None:
    """The newest correction is one of the history; else somebody edited it, and it is not replaced."""
    if not current.exists():
        return
    case, digest = current.name.removesuffix(".nii.gz"), sha256(current)
    if not any(sha256(path) == digest for path in history.glob(f"{_literal(case)}.*.nii.gz")):
        raise BadInputError(f"{current}: was edited by another program since. Move it away, then save again.")


def _literal(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _placement(label_map: Path) -> Placement | None:
    return Placement.read(label_map) if is_nifti(label_map) else None


def _keep_scan(path: Path, case: ShownCase, volume: Volume) -> None:
    """The scan of a correction, written anew: a copy of the file would carry whatever else its header says.

    One that is there stays, unless it is another scan: newest labels and scan are of one grid and one patient.
    """
    if case.scan is None or _holds(path, volume):
        return
    make_folder(path.parent)
    write_bytes(path, nifti_bytes(volume, "viscera", placement=_placement(case.layers[0].files[0])))


def _holds(path: Path, volume: Volume) -> bool:
    """Whether a file is there that holds this scan."""
    with suppress(BadInputError):
        kept = read_volume(path)
        return kept.geometry.fits(volume.geometry) and np.array_equal(kept.hu, volume.hu)
    return False


def _data_set(folder: Path, classes: ClassTable, added: str) -> dict[str, Any]:
    there = {path.name for path in (folder / "labelsTr").glob("*.nii.gz") if not path.name.startswith(".")}
    return {
        "name": f"corrections of {folder.resolve().parent.name}",
        "channel_names": {"0": "CT"},
        "labels": {name: number for number, name in enumerate(classes.names)},
        "file_ending": ".nii.gz",
        "numTraining": len({*there, added}),
    }
