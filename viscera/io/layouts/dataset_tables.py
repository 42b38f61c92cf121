"""What files and data sets are called, and what lies beside them: tables of label names, and channels."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from viscera.core.anatomy import means_ignored
from viscera.core.errors import BadInputError
from viscera.io.nifti_header import ENDINGS as NIFTI_ENDINGS
from viscera.io.records import read_json

ENDINGS = tuple(ending for ending in NIFTI_ENDINGS if ending.startswith(".nii"))  # of the files of a data set
CHANNEL_0 = "_0000"


def case_name(path: Path) -> str:
    """A label file's case name: the file name without its ending, in capitals or not.

    Accented letters come in one form: a Mac writes them as two characters, other systems as one.
    """
    name = unicodedata.normalize("NFC", path.name)
    ending = next(filter(name.lower().endswith, NIFTI_ENDINGS), "")
    return name[: len(name) - len(ending)]


def scan_case_name(path: Path) -> str:
    """A scan's case name: without its ending and without nnU-Net's channel number `_0000`."""
    return case_name(path).removesuffix(CHANNEL_0)


def channel_0_of(name: str) -> str:
    """`p_0000` for `p_0001`, which is another channel of one case where both are there (nnU-Net); else empty."""
    other = re.fullmatch(r"(.+)_(?!0000)\d{4}", name)
    return f"{other[1]}{CHANNEL_0}" if other else ""


def dataset_json(folder: Path) -> dict[str, Any]:
    """What the `dataset.json` of a folder (nnU-Net, Decathlon) says; nothing where it is not there or no object."""
    value = read_json(folder / "dataset.json") if (folder / "dataset.json").exists() else {}
    return value if isinstance(value, dict) else {}


def dataset_title(folder: Path, *, or_folder: bool = True) -> str:
    """What a data set calls itself: name and description of its `dataset.json`, or where wanted the folder's name."""
    said = dataset_json(folder)
    own = ": ".join(str(said[key]) for key in ("name", "description") if said.get(key))
    return own or (folder.resolve().name if or_folder else "")


def dataset_licence(folder: Path) -> str:
    """The licence that the `dataset.json` of a folder states; Decathlon's and nnU-Net's have both spellings."""
    said = dataset_json(folder)
    return next((str(said[key]).strip() for key in ("licence", "license") if said.get(key)), "")


def read_label_file(path: Path) -> dict[str, int]:
    """Names to label numbers: the `labels` of a `dataset.json`, or a JSON that is such a table.

    Raises BadInputError for no such table, a file ending that is not read, and as `names_to_numbers`.
    """
    description = read_json(path)
    table: Any = description.get("labels") if isinstance(description, dict) else None
    if table is None and path.name != "dataset.json":
        table = description
    if not isinstance(table, dict) or not table:
        raise BadInputError(f'{path}: it has no table `labels`. Add one, for example {{"background": 0, "liver": 1}}.')
    ending = str(description.get("file_ending", ".nii.gz")).lower()
    if f".{ending.removeprefix('.')}" not in ENDINGS:
        raise BadInputError(f"{path}: file_ending '{ending}'; only .nii.gz and .nii are read. Convert the files first.")
    return names_to_numbers(table, f"{path}: `labels`")


def names_to_numbers(table: Mapping[Any, Any], found_in: str) -> dict[str, int]:
    """A table of label numbers as people write it: `{"liver": 1}`, with `"1"` or `[1]`, or `{"1": "liver"}`.

    Raises BadInputError, which names `found_in` (file and key), for nnU-Net's regions of several numbers, what is no
    whole number, and a name of two numbers.
    """
    by_number = all(isinstance(value, str) for value in table.values()) and all(_is_whole(key) for key in table)
    pairs = [(value, key) if by_number else (key, value) for key, value in table.items()]
    numbers: dict[str, int] = {}
    for name, number in pairs:
        if isinstance(number, list | tuple):
            if len(number) != 1:
                raise BadInputError(_no_region(table, str(name), number, found_in))
            (number,) = number  # noqa: PLW2901 - as nnU-Net, which takes a region of one number as a plain label
        if not isinstance(name, str) or not _is_whole(number):
            raise BadInputError(f"{found_in}: {name}: {number}; a name and a whole number were expected.")
        if name in numbers:
            raise BadInputError(
                f"{found_in}: '{name}' has the numbers {numbers[name]} and {number}. Give each number its own name."
            )
        numbers[name] = int(float(number))
    return numbers


def _no_region(table: Mapping[Any, Any], name: str, region: Sequence[Any], found_in: str) -> str:
    """Why a table with regions is refused, and the table of classes that could stand in its place."""
    if means_ignored(name):
        has = f"has the numbers {', '.join(map(str, region))}" if region else "has no number"
        return f"{found_in}: '{name}' {has}, and one was expected: give the voxels that nobody labelled one number."
    listed = {name: its if isinstance(its, list | tuple) else [its] for name, its in table.items()}
    wholes = {str(name): [int(float(each)) for each in its if _is_whole(each)] for name, its in listed.items()}
    names = {its[0]: name for name, its in wholes.items() if len(its) == 1}
    numbers = sorted({number for its in wholes.values() for number in its})
    classes = ", ".join(f'"{names.get(n, f"part_{n}")}": {n}' for n in numbers)
    return (
        f"{found_in}: '{name}' is a region of the numbers {', '.join(map(str, region))}; region-based labels are not "
        f"supported, as each voxel is of one class here. Name each number once instead, for example {{{classes}}}, and "
        "leave out `regions_class_order`; a region is then several classes together."
    )


def scan_channel(folder: Path) -> str:
    """What the `dataset.json` of a folder calls channel 0; empty where it does not say."""
    said = dataset_json(folder)
    channels = said.get("channel_names") or said.get("modality")
    if isinstance(channels, list):
        channels = dict(enumerate(channels))
    named = channels.items() if isinstance(channels, dict) else ()  # by 0, "0" or "0000"
    return next((str(name) for number, name in named if _is_whole(number) and float(number) == 0), "")


def _is_whole(value: Any) -> bool:  # noqa: ANN401 - whatever JSON and YAML can hold
    try:
        return not isinstance(value, bool) and float(value).is_integer()
    except (TypeError, ValueError, OverflowError):
        return False
