"""What files and data sets are called, and the tables of label names that lie beside them."""

from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.io.records import read_json

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
