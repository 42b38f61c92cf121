"""What files and data sets are called, and what lies beside them: tables of label names, channels, official splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from viscera.core.errors import BadInputError
from viscera.io.layouts.case_source import CaseSource
from viscera.io.records import read_csv, read_json
from viscera.io.store import Split

ENDINGS = (".nii.gz", ".nii")


def case_name(path: Path, ending: str = "") -> str:
    """A label file's case name: the file name without its ending, in capitals or not."""
    for known in (ending, *ENDINGS):
        if known and path.name.lower().endswith(known.lower()):
            return path.name[: -len(known)]
    return path.name


def scan_case_name(path: Path) -> str:
    """A scan's case name: without its ending and without nnU-Net's channel number `_0000`."""
    return case_name(path).removesuffix("_0000")


def dataset_title(folder: Path) -> str:
    """What a data set calls itself: name and description of its `dataset.json`, or the folder's name."""
    path = folder / "dataset.json"
    value = read_json(path) if path.exists() else {}
    parts = [str(value[key]) for key in ("name", "description") if isinstance(value, dict) and value.get(key)]
    return ": ".join(parts) or folder.resolve().name


def read_label_file(path: Path) -> dict[str, int]:
    """Names to label numbers: the `labels` of a `dataset.json`, or a JSON that is such a table.

    Args:
        path: name to number (nnU-Net 2), or number to name (nnU-Net 1, Medical Segmentation Decathlon).

    Raises:
        BadInputError: no such table, regions instead of labels, or a file ending that is not read.
    """
    description = read_json(path)
    table: Any = description.get("labels") if isinstance(description, dict) else None
    if table is None and path.name != "dataset.json":
        table = description
    if not isinstance(table, dict) or not table:
        raise BadInputError(f'{path}: it has no table `labels`. Add one, for example {{"background": 0, "liver": 1}}.')
    ending = description.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        raise BadInputError(f"{path}: file_ending '{ending}'; only .nii.gz and .nii are read. Convert the files first.")
    try:
        if all(isinstance(value, str) for value in table.values()):
            return {value: int(key) for key, value in table.items()}
        return {str(key): _whole(value) for key, value in table.items()}
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"{path}: `labels` must give one whole number a name ({error}); region-based labels are not supported."
        ) from error


def scan_channel(folder: Path) -> str:
    """What the `dataset.json` of a folder (nnU-Net, Decathlon) calls channel 0; empty where it does not say."""
    path = folder / "dataset.json"
    value = read_json(path) if path.exists() else {}
    channels = (value.get("channel_names") or value.get("modality")) if isinstance(value, dict) else None
    return str(channels.get("0", "")) if isinstance(channels, dict) else ""


def _whole(value: Any) -> int:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} is no whole number")
    return int(value)


_META_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}


def own_split(folder: Path, cases: Sequence[CaseSource]) -> dict[str, Split]:
    """The cases that a data set itself puts into a part; the others may be drawn for any.

    Fold 0 of nnU-Net's `splits_final.json`, the `meta.csv` of TotalSegmentator, or the folders (WORD, AMOS22, nnU-Net's
    `labelsTs`). Training cases stay free to be drawn for testing where the data set has no test cases.

    Args:
        folder: the data set's.
        cases: of it.

    Raises:
        BadInputError: a `splits_final.json` that is none, or that names other cases; a `meta.csv` in another encoding.
    """
    names = [case.name for case in cases]
    of_folders = {case.name: case.split for case in cases if case.split is not None}
    path = _splits_final(folder)
    if path is not None:
        splits = of_folders | _fold_0(path, names)
    elif (folder / "meta.csv").exists():
        splits = {name: split for name, split in _meta_csv(folder / "meta.csv").items() if name in set(names)}
    else:
        splits = of_folders
    has_tests = "test" in splits.values()
    return {name: split for name, split in splits.items() if has_tests or split != "train"}


def _splits_final(folder: Path) -> Path | None:
    """In the data set's folder, or where nnU-Net keeps it: in nnUNet_preprocessed beside nnUNet_raw."""
    folder = folder.resolve()
    places = [folder]
    if folder.parent.name == "nnUNet_raw":
        places.append(folder.parents[1] / "nnUNet_preprocessed" / folder.name)
    return next((path for place in places if (path := place / "splits_final.json").exists()), None)


def _fold_0(path: Path, names: Sequence[str]) -> dict[str, Split]:
    value: Any = read_json(path)
    fold = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
    train, validation = fold.get("train"), fold.get("val")
    if not _are_names(train) or not _are_names(validation):
        raise BadInputError(f'{path}: [{{"train": [...], "val": [...]}}, …] was expected. Correct it, or give --split.')
    strangers = sorted({*train, *validation} - set(names))
    if strangers:
        raise BadInputError(f"{path}: names {', '.join(strangers[:5])}, no cases here. Correct it, or give --split.")
    splits: dict[str, Split] = dict.fromkeys(train, "train")
    return splits | dict.fromkeys(validation, "validation")


def _are_names(value: Any) -> TypeGuard[list[str]]:  # noqa: ANN401 - whatever JSON can hold
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _meta_csv(path: Path) -> dict[str, Split]:
    return {
        row["image_id"]: _META_SPLITS[row["split"]]
        for row in read_csv(path, errors="strict")
        if row.get("image_id") and row.get("split") in _META_SPLITS
    }
