"""Which layout a folder is of. Never a guess: two that fit, or none, are told to the user."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.io.layouts.case_files import CaseFiles, Layout, describe, has_scans, list_cases, mask_files
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS
from viscera.io.nifti import label_numbers_in

_LOOKED_AT = 5  # cases whose label numbers tell data sets apart
_SUBFOLDERS = 20


def named_layout(name: str) -> Layout:
    """The layout of a name; case, `-`, `_` and `.` do not matter. Raises BadInputError where there is none."""
    known = {_squeezed(each): layout for each, layout in LAYOUTS.items()}
    if _squeezed(name) not in known:
        raise BadInputError(f"There is no layout '{name}'. There are: auto, {', '.join(LAYOUTS)}.")
    return known[_squeezed(name)]


def detect_layout(folder: Path, numbers: Mapping[str, int] | None = None) -> Layout:
    """The layout of a folder; `numbers` (of names) decide where several layouts of the same files fit.

    Raises BadInputError where none fits, several do, or for a data set that cannot be learned from.
    """
    for refusal in REFUSALS:
        if any(next(folder.glob(mark), None) for mark in refusal.marks):
            raise BadInputError(f"{folder}: this is {refusal.title}: {refusal.reason}")
    shaped = fitting(folder)
    told_apart = [layout for layout in shaped if _shows_its_numbers(folder, layout)]
    data_sets = [layout for layout in told_apart if layout.is_data_set]
    candidates = data_sets or told_apart
    if len(candidates) == 1:
        return candidates[0]
    if numbers and shaped:
        return replace((candidates or shaped)[0], numbers=numbers)
    if not shaped:
        raise BadInputError(_nothing_fits(folder))
    names = " and ".join(layout.name for layout in candidates or shaped)
    raise BadInputError(
        (
            f"{folder}: files and label numbers fit {names}, which mean different organs by them. "
            if candidates
            else f"{folder}: files fit {names}, but the label maps do not show the numbers that would tell which. "
        )
        + "Say which it is with --layout NAME, or give the numbers with --classes FILE."
    )


def fitting(folder: Path) -> list[Layout]:
    """All layouts whose files a folder holds, whatever its label numbers."""
    return [layout for layout in LAYOUTS.values() if _fits(folder, layout)]


def _fits(folder: Path, layout: Layout) -> bool:
    cases = list_cases(folder, layout).values()
    if any(case.is_whole for case in cases):
        return True
    return bool(layout.scans_optional and cases and not any(has_scans(folder, place) for place in layout.places))


def _shows_its_numbers(folder: Path, layout: Layout) -> bool:
    if layout.shown is None:
        return True
    labelled = [case for case in list_cases(folder, layout).values() if case.has_masks or case.has_map]
    return max(_largest_number(case, layout) for case in labelled[:_LOOKED_AT]) in layout.shown


def _largest_number(case: CaseFiles, layout: Layout) -> int:
    """The largest number that a case shows, or whose mask it has; 0 if its label map cannot be read."""
    numbers = layout.numbers or {}
    if case.masks is not None and case.has_masks:
        names = [case_name(path) for path in mask_files(case.masks)]
        return max((numbers.get(name, len(numbers) + 1) for name in names), default=0)
    try:
        return label_numbers_in(case.labels)[-1] if case.labels is not None else 0
    except BadInputError:
        return 0


def _nothing_fits(folder: Path) -> str:
    conventions = [layout for layout in LAYOUTS.values() if layout.places and not layout.is_data_set]
    files = "; ".join(f"{each.name}: {' or '.join(map(describe, each.places))}" for each in conventions)
    data_sets = ", ".join(layout.name for layout in LAYOUTS.values() if layout.places and layout.is_data_set)
    children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    inside = next((child for child in children[:_SUBFOLDERS] if fitting(child)), None)
    hint = f" {inside} is one; give that folder." if inside else ""
    return (
        f"{folder}: no known layout of a labelled data set.{hint} There are {files}; and the data sets {data_sets}, "
        "each with the files it comes in (docs/howto/data.md)."
    )


def _squeezed(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())
