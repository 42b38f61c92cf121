"""A case as a Store holds it: its files, and what the manifest says of them."""

import hashlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap, Volume
from viscera.io.files import make_folder, put_folder, temporary_beside, writing
from viscera.io.manifest import CaseRecord, GeometryRecord, SourceRecord
from viscera.io.nifti import nifti_bytes


@dataclass(frozen=True)
class PreparedCase:
    """A case ready to be stored; both arrays on one canonical grid. `unlabelled`, `meaning`: as of `CaseRecord`."""

    name: str
    volume: Volume
    label_map: LabelMap
    original: LabelMap
    sources: dict[str, SourceRecord]
    unlabelled: tuple[str, ...] = ()
    meaning: dict[str, int] | None = None


def write_case(path: Path, case: PreparedCase, classes: ClassTable, before: CaseRecord | None) -> CaseRecord:
    """Write the files of one case, in place of those before, and return what the manifest is to say of it.

    Interrupted at any point, the folder of the case is as before or complete. Safe in several processes at once, for
    different cases of one store. Raises BadInputError where it cannot be written, or the file system takes its name for
    that of another case.
    """
    folder = path / "cases" / case.name
    with writing(folder):
        if before is None and folder.exists() and all(each.name != folder.name for each in folder.parent.iterdir()):
            raise BadInputError(
                f"{folder}: a case is there whose name differs from this one in capitals alone, and this file system "
                "takes them for the same. Rename one of them."
            )
    temporary = temporary_beside(folder)
    contents = {
        "image.npy": _npy(case.volume.hu),
        "labels.npy": _npy(case.label_map.labels),
        "labels_original.nii.gz": nifti_bytes(case.original, "viscera label map"),
    }
    try:
        with writing(folder):
            make_folder(temporary)
            for file, content in contents.items():
                (temporary / file).write_bytes(content)
            put_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    prepared, original = (each.voxel_counts(len(classes)) for each in (case.label_map, case.original))
    prepared_ml = prepared * case.label_map.geometry.voxel_volume_ml
    original_ml = original * case.original.geometry.voxel_volume_ml
    return CaseRecord(
        prepared=GeometryRecord.model_validate(case.volume.geometry.to_json()),
        original=GeometryRecord.model_validate(case.original.geometry.to_json()),
        voxel_counts_prepared=tuple(prepared.tolist()),
        voxel_counts_original=tuple(original.tolist()),
        ignored_prepared=case.label_map.ignored,
        ignored_original=case.original.ignored,
        volume_change=tuple(
            float(now / then - 1) if then > 0 else None for now, then in zip(prepared_ml, original_ml, strict=True)
        ),
        sha256={file: hashlib.sha256(content).hexdigest() for file, content in contents.items()},
        sources=case.sources,
        unlabelled=case.unlabelled,
        meaning=case.meaning,
        split=before.split if before else None,
        fold=before.fold if before else None,
    )


def _npy(array: npt.NDArray[Any]) -> bytes:
    """A whole `.npy` file; `np.save` itself does not say so when the disk is full."""
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array))
    return content.getvalue()
