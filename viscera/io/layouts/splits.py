"""The splits that data sets bring along."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from viscera.core.errors import BadInputError
from viscera.io.layouts.case_source import CaseSource
from viscera.io.records import read_csv, read_json
from viscera.io.store import Split

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
