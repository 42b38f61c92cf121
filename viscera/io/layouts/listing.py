"""The files of the cases in a folder, by the patterns of a layout."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.layouts.layout import Layout, Place
from viscera.io.store import Split

_ENDING = r"\.(?i:nii(?:\.gz)?)"
_ANY_NIFTI = ".[nN][iI][iI]*"
_OPTIONAL = re.compile(r"\[[^]]+\]")


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of one case are, or where they would be.

    Attributes:
        name: of the case.
        scan: the CT.
        labels: its label map; None where the layout has none.
        masks: the folder of its mask files; None where the layout has none.
        split: of the official split.
    """

    name: str
    scan: Path
    labels: Path | None
    masks: Path | None
    split: Split | None

    @property
    def has_masks(self) -> bool:
        """Whether the folder of masks is there and holds any."""
        return self.masks is not None and bool(mask_files(self.masks))

    @property
    def is_whole(self) -> bool:
        """Whether scan and labels are there."""
        return self.scan.is_file() and (self.has_masks or self.has_map)

    @property
    def has_map(self) -> bool:
        """Whether the label map is there."""
        return self.labels is not None and self.labels.is_file()


def mask_files(folder: Path) -> list[Path]:
    """The mask files of a case, in order."""
    return sorted(path for path in folder.glob(f"*{_ANY_NIFTI}") if not path.name.startswith("."))


def list_cases(folder: Path, layout: Layout, places: tuple[Place, ...] | None = None) -> dict[str, CaseFiles]:
    """Cases by name, also those that lack a file; a place without any label is no labelled part and is left out.

    Args:
        folder: the data set's.
        layout: whose `ids` are taken.
        places: to look in; by default the layout's.

    Raises:
        BadInputError: two files of one case.
    """
    cases: dict[str, CaseFiles] = {}
    for place in layout.places if places is None else places:
        found = _list_place(folder, place, layout.ids)
        if any(case.has_masks or case.has_map for case in found):
            for case in found:
                if case.name in cases:
                    raise BadInputError(
                        f"{case.scan}: {cases[case.name].scan} is of the same case. Keep one of them, or rename it."
                    )
                cases[case.name] = case
    return cases


def has_scans(folder: Path, place: Place) -> bool:
    """Whether the folder of a place's scans holds any NIfTI file, whatever its name."""
    return any(_visible(folder, str(Path(place.scan).parent / f"*{_ANY_NIFTI}")))


def describe(place: Place) -> str:
    """The files that a place wants, for people."""
    masks = f"{place.masks.replace('*', 'CASE')}/ORGAN.nii.gz" if place.masks else ""
    labels = _spelled(place.labels) if place.labels else ""
    return f"{_spelled(place.scan)} with {' or '.join(text for text in (masks, labels) if text)}"


def _spelled(pattern: str) -> str:
    return f"{pattern.replace('*', 'CASE')}.nii.gz"


def _list_place(folder: Path, place: Place, ids: range | None) -> list[CaseFiles]:
    labels = _by_id(folder, place.labels, _ENDING)
    scans = _by_id(folder, place.scan, _ENDING, whole=set(labels))
    masks = _by_id(folder, place.masks, "")
    return [
        CaseFiles(
            _case_name(place, i),
            scans.get(i, _expected(folder, place.scan, i)),
            labels.get(i, _expected(folder, place.labels, i)) if place.labels else None,
            masks.get(i, folder / place.masks.replace("*", i)) if place.masks else None,
            place.split,
        )
        for i in sorted({*scans, *labels, *masks})
        if ids is None or _number(i) in ids
    ]


def _number(identifier: str) -> int:
    """The number that an identifier ends with, before nnU-Net's channel; 0 if it ends with none."""
    digits = re.search(r"\d*$", identifier.removesuffix("_0000"))
    return int(digits[0]) if digits and digits[0] else 0


def _expected(folder: Path, pattern: str, identifier: str) -> Path:
    return folder / f"{_OPTIONAL.sub('', pattern).replace('*', identifier)}.nii.gz"


def _by_id(folder: Path, pattern: str, ending: str, whole: Collection[str] = ()) -> dict[str, Path]:
    """Files by identifier; those of `whole` identifiers keep what is optional in the pattern as part of them."""
    if not pattern:
        return {}
    expression, full_expression = (_expression(each, ending) for each in (pattern, _OPTIONAL.sub("", pattern)))
    files: dict[str, Path] = {}
    for path in _visible(folder, _OPTIONAL.sub("", pattern) + (_ANY_NIFTI if ending else "")):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match:
            full = full_expression.fullmatch(path.relative_to(folder).as_posix())
            identifier = full["id"] if full and full["id"] in whole else match["id"]
            if identifier in files:
                raise BadInputError(f"{path}: {files[identifier].name} is of the same case. Keep one of them.")
            files[identifier] = path
    return files


def _expression(pattern: str, ending: str) -> re.Pattern[str]:
    text = ""
    for part in re.split(r"(\*|\[[^]]+\])", pattern):
        if part == "*":
            text += "(?P<id>[^/]+?)"
        else:
            text += f"(?:{re.escape(part[1:-1])})?" if part.startswith("[") else re.escape(part)
    return re.compile(text + ending)


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    return (p for p in folder.glob(pattern) if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _case_name(place: Place, identifier: str) -> str:
    part = next(part for part in Path(_OPTIONAL.sub("", place.scan)).parts if "*" in part)
    return part.removesuffix("_0000").replace("*", identifier)
