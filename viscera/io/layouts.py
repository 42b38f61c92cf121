"""The folder layouts that data sets come in: from a folder to the files of its cases.

A layout is one function, listed in `LAYOUTS`: it returns the cases of a folder, or None if the folder is not its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.core.anatomy import ABDOMEN, ClassTable, label_numbers
from viscera.core.errors import BadInputError
from viscera.core.scan import Case
from viscera.io.files import read_json
from viscera.io.nifti import read_labels, read_volume


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a data set.

    Attributes:
        table: the classes to learn.
        numbers: names to label numbers, for label maps that have no table of their own.
        partial: whether a data set may lack organs.
    """

    table: ClassTable
    numbers: Mapping[str, int]
    partial: bool


@dataclass(frozen=True)
class CaseSource:
    """The files of one labelled case, not yet read.

    Attributes:
        name: of the case, as its label file is called.
        image: the CT.
        labels: its label map.
        mapping: the data set's label numbers to class numbers.
        unlabelled: names of the classes that the data set does not label.
    """

    name: str
    image: Path
    labels: Path
    mapping: dict[int, int]
    unlabelled: tuple[str, ...] = ()

    def read(self) -> Case:
        """Read both files; raises BadInputError as the readers and `Case` do."""
        for path in (self.image, self.labels):
            if not path.exists():
                raise BadInputError(f"{self.name}: {path} is missing. Add the file, or leave the case out.")
        return Case(self.name, read_volume(self.image), read_labels(self.labels, self.mapping), self.unlabelled)


def find_cases(
    folder: Path,
    layout: str = "auto",
    *,
    table: ClassTable = ABDOMEN,
    partial: bool = False,
    numbers: Mapping[str, int] | None = None,
) -> list[CaseSource]:
    """List the labelled cases of a data set, sorted by name.

    Args:
        folder: the data set's folder.
        layout: a name in `LAYOUTS`, or "auto" to take the first that fits.
        table: the classes to learn.
        partial: whether the data set may lack organs.
        numbers: names to label numbers, for layouts whose label maps have no table of their own.

    Raises:
        BadInputError: no such folder; no layout fits; the table of labels lacks an organ; no case in it.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: there is no such folder.")
    if layout != "auto" and layout not in LAYOUTS:
        raise BadInputError(f"There is no layout '{layout}'. There are: {', '.join(LAYOUTS)}.")
    for name, find in LAYOUTS.items():
        if layout in {"auto", name}:
            cases = find(folder, Wanted(table, numbers or {}, partial))
            if cases is not None:
                if not cases:
                    raise BadInputError(f"{folder}: an {name} folder without a case in it. Put scans and labels there.")
                return sorted(cases, key=lambda case: case.name)
    raise BadInputError(
        f"{folder}: no known layout of a labelled data set ({', '.join(LAYOUTS)}). For nnU-Net raw it needs "
        "dataset.json, imagesTr/NAME_0000.nii.gz and labelsTr/NAME.nii.gz."
    )


def case_name(path: Path, ending: str = "") -> str:
    """A label file's case name: the file name without its ending."""
    for known in (ending, ".nii.gz", ".nii"):
        if known and path.name.endswith(known):
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


def nnunet_labels(folder: Path) -> dict[str, int]:
    """The `labels` table of an nnU-Net `dataset.json`: version 2 (name to number) or version 1 (number to name).

    Raises:
        BadInputError: no such table, or regions instead of labels.
    """
    path = folder / "dataset.json"
    description = read_json(path)
    table: Any = description.get("labels") if isinstance(description, dict) else None
    if not isinstance(table, dict) or not table:
        raise BadInputError(f'{path}: it has no table `labels`. Add one, for example {{"background": 0, "liver": 1}}.')
    try:
        if all(isinstance(value, str) for value in table.values()):
            return {value: int(key) for key, value in table.items()}
        return {str(key): int(value) for key, value in table.items()}
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"{path}: `labels` must give one whole number a name ({error}); region-based labels are not supported."
        ) from error


def _nnunet_raw(folder: Path, wanted: Wanted) -> list[CaseSource] | None:
    if not (folder / "dataset.json").exists() or not (folder / "labelsTr").is_dir():
        return None
    path = folder / "dataset.json"
    numbers = label_numbers(nnunet_labels(folder), found_in=str(path), table=wanted.table, partial=wanted.partial)
    ending = str(read_json(path).get("file_ending", ".nii.gz"))
    if ending not in {".nii.gz", ".nii"}:
        raise BadInputError(f"{path}: file_ending '{ending}'; only .nii.gz and .nii are read. Convert the files first.")
    return [
        CaseSource(
            name, folder / "imagesTr" / f"{name}_0000{ending}", labels, dict(numbers.mapping), numbers.unlabelled
        )
        for labels in (folder / "labelsTr").glob(f"*{ending}")
        if not labels.name.startswith(".") and (name := case_name(labels, ending))
    ]


LAYOUTS: dict[str, Callable[[Path, Wanted], list[CaseSource] | None]] = {"nnunet": _nnunet_raw}
