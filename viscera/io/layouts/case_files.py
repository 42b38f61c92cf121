"""What an entry of the table of layouts says, and the files of the cases in a folder by its patterns."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_file_name
from viscera.io.layouts.dataset_tables import CHANNEL_0, case_name, channel_0_of, dataset_json
from viscera.io.manifest import Split


@dataclass(frozen=True)
class Place:
    """Where the files of cases lie, relative to the data set's folder, and how they are called.

    `*` stands for the case and is the same in all of them; `.nii` or `.nii.gz` follows. `[_0000]` may be there or not.
    """

    scan: str  # the CT, for example `imagesTr/amos_*`. The part that holds `*` names the case.
    labels: str = ""  # its label map; empty if there is none
    masks: str = ""  # a folder of one mask file an organ, called as the organ; empty if there is none
    split: Split | None = None  # the part of the official split that these cases are; None: the data set does not say


@dataclass(frozen=True)
class Layout:
    """One public data set, or one convention for folders."""

    name: str  # as `--layout` takes it
    # of its cases, all of them taken; without any, the layout is a preset for other folders' label numbers
    places: tuple[Place, ...] = ()
    numbers: Mapping[str, int] | None = None  # names to label numbers. None: the data set names its labels itself.
    names_in: tuple[str, ...] = ()  # the file that does so, in the data set's folder; the first that is there counts
    # the largest number that its label maps show lies in this range; tells data sets in equal folders apart
    shown: range | None = None
    ids: range | None = None  # case numbers that are taken; None: all
    scans_optional: bool = False  # fits a folder without scans too (which can serve as references)
    lists_files: bool = False  # its `dataset.json` may list the files of its cases itself, wherever they lie

    @property
    def is_data_set(self) -> bool:
        """Whether it is one data set; those are taken before conventions for folders."""
        return self.numbers is not None


@dataclass(frozen=True)
class Refusal:
    """A known data set that cannot be learned from."""

    title: str  # for people
    marks: tuple[str, ...]  # file patterns, relative to the data set's folder, one of which gives it away
    reason: str  # why not, and what to do instead


def in_order(*names: str) -> dict[str, int]:
    """Names to the numbers from 1 on, in their order; a text may hold several, with spaces between."""
    return {name: number for number, name in enumerate(" ".join(names).split(), start=1)}


_ENDING = r"\.(?i:nii(?:\.(?:gz|bz2|xz|zst))?)"
_ANY_NIFTI = ".[nN][iI][iI]*"
_OPTIONAL = f"[{CHANNEL_0}]"


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of one case are, or where they would be."""

    name: str
    scan: Path
    labels: Path | None  # its label map; None where the layout has none
    masks: Path | None = None  # the folder of its mask files; None where the layout has none
    split: Split | None = None  # of the official split
    refusal: str = ""  # of two files that may be meant; empty where there is one

    @property
    def mask_files(self) -> list[Path]:
        """Those that are there, in order."""
        return sorted(_visible(self.masks, f"*{_ANY_NIFTI}")) if self.masks else []

    @property
    def has_map(self) -> bool:
        """Whether the label map is there."""
        return self.labels is not None and self.labels.is_file()

    @property
    def is_labelled(self) -> bool:
        """Whether masks or a label map are there."""
        return bool(self.mask_files) or self.has_map

    @property
    def is_whole(self) -> bool:
        """Whether scan and labels are there."""
        return self.scan.is_file() and self.is_labelled


def list_cases(folder: Path, layout: Layout, places: tuple[Place, ...] | None = None) -> dict[str, CaseFiles]:
    """Cases by name, also those that lack a file; a place without any label is no labelled part and is left out.

    `places` to look in are by default the layout's. Raises BadInputError for a list of files in `dataset.json` that is
    none.
    """
    cases = {case.name: case for case in _listed_files(folder)} if layout.lists_files and places is None else {}
    for place in layout.places if places is None else places:
        found = _list_place(folder, place, layout.ids)
        if any(case.is_labelled for case in found):
            for case in found:
                twin = cases.setdefault(case.name, case)
                if twin is not case:
                    refusal = f"{case.scan}: {twin.scan} is of the same case. Keep one of them, or rename it."
                    cases[case.name] = replace(twin, refusal=refusal)
    odd = "the name of a case becomes that of a folder, and this has a line break, a backslash or the like. Rename it."
    return {name: case if is_file_name(name) else replace(case, refusal=odd) for name, case in cases.items()}


class _ListedFiles(BaseModel):
    images: str | Annotated[list[str], Field(min_length=1)]
    label: str


def _listed_files(folder: Path) -> Iterator[CaseFiles]:
    """The cases under `dataset` in nnU-Net's `dataset.json`; paths are absolute, or relative to it, also of Windows."""
    listed = dataset_json(folder).get("dataset")
    for name, files in listed.items() if isinstance(listed, dict) else ():
        try:
            its = _ListedFiles.model_validate(files)
        except ValidationError:
            wanted = "`images` (a list of paths) and `label` were expected."
            raise BadInputError(f"{folder / 'dataset.json'}: `dataset`: {name}: {wanted}") from None
        if not is_file_name(name):
            wanted = "the name of a case becomes that of a file, and this cannot be one"
            raise BadInputError(f"{folder / 'dataset.json'}: `dataset`: {name!r}: {wanted}. Rename it.")
        scan = its.images if isinstance(its.images, str) else its.images[0]
        yield CaseFiles(_composed(name), _listed_file(folder, scan), _listed_file(folder, its.label))


def _listed_file(folder: Path, listed: str) -> Path:
    """Where a listed file is: anywhere, as nnU-Net allows it, also by names of environment variables.

    What these hold is seen where it leads to a file, and else in no message: a list may have come from anybody.
    """
    plain, whole = (each.replace("\\", "/") for each in (listed, os.path.expandvars(listed)))
    try:
        return folder / (whole if (folder / whole).is_file() else plain)
    except (OSError, ValueError):  # no name of a file
        return folder / plain


def has_scans(folder: Path, place: Place) -> bool:
    """Whether the folder of a place's scans holds any NIfTI file, whatever its name."""
    return any(_visible(folder, str(Path(place.scan).parent / f"*{_ANY_NIFTI}")))


def describe(place: Place) -> str:
    """The files that a place wants, for people."""
    masks = f"{place.masks.replace('*', 'CASE')}/ORGAN.nii.gz" if place.masks else ""
    scan, labels = (f"{each.replace('*', 'CASE')}.nii.gz" if each else "" for each in (place.scan, place.labels))
    return f"{scan} with {' or '.join(filter(None, (masks, labels)))}"


def _list_place(folder: Path, place: Place, ids: range | None) -> list[CaseFiles]:
    pattern = place.scan.replace(_OPTIONAL, "")
    labels, scans = (_by_id(folder, each, _ENDING) for each in (place.labels, pattern))
    masks = _by_id(folder, place.masks, "")
    if _OPTIONAL in place.scan:
        for i in [i for i in scans if i.endswith(CHANNEL_0) and i != CHANNEL_0 and i not in labels]:
            scans.setdefault(i.removesuffix(CHANNEL_0), []).extend(scans.pop(i))
    if CHANNEL_0 in place.scan:
        names = {case_name(path) for paths in scans.values() for path in paths}
        scans = {i: paths for i, paths in scans.items() if i in labels or channel_0_of(i) not in names}
    part = next(part for part in Path(pattern).parts if "*" in part).removesuffix(CHANNEL_0)

    def of(i: str) -> CaseFiles:
        scan, label_map = (folder / f"{each.replace('*', i)}.nii.gz" for each in (pattern, place.labels))
        mask_folder = folder / place.masks.replace("*", i)
        twins = next((found[i] for found in (labels, scans, masks) if len(found.get(i, ())) > 1), None)
        return CaseFiles(
            part.replace("*", i),
            scans.get(i, [scan])[0],
            labels.get(i, [label_map])[0] if place.labels else None,
            masks.get(i, [mask_folder])[0] if place.masks else None,
            place.split,
            f"{twins[1]}: {twins[0].name} is of the same case. Keep one of them." if twins else "",
        )

    return [of(i) for i in sorted({*scans, *labels, *masks}) if ids is None or _number(i) in ids]


def _number(identifier: str) -> int:
    """The number that an identifier ends with, before nnU-Net's channel; 0 if it ends with none."""
    digits = re.search(r"\d*$", identifier.removesuffix(CHANNEL_0))
    return int(digits[0]) if digits and digits[0] else 0


def _by_id(folder: Path, pattern: str, ending: str) -> dict[str, list[Path]]:
    """Files or folders by what `*` stands for in a pattern."""
    if not pattern:
        return {}
    files: dict[str, list[Path]] = {}
    expression = re.compile("([^/]+?)".join(map(re.escape, pattern.split("*"))) + ending)
    for path in sorted(_visible(folder, pattern + (_ANY_NIFTI if ending else ""))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match:
            files.setdefault(_composed(match[1]), []).append(path)
    return files


def _composed(name: str) -> str:
    """With accented letters as one character each: a Mac writes them as two."""
    return unicodedata.normalize("NFC", name)


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    return (p for p in folder.glob(pattern) if not any(part.startswith(".") for part in p.relative_to(folder).parts))
