"""From a data set's folder to its layout and its labelled cases.

The layout is never a guess: two that fit, or none, are told to the user.
"""

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from viscera.core.anatomy import ABDOMEN, ClassTable, LabelNumbers, label_numbers, means_ignored, squeezed
from viscera.core.errors import BadInputError, UsageError
from viscera.core.suggestions import did_you_mean
from viscera.core.wording import agreeing, listed
from viscera.io.files import is_occupied
from viscera.io.layouts.case_files import CaseFiles, Layout, describe, has_scans, list_cases
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import case_name, read_label_file, scan_channel
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS
from viscera.io.nifti import label_numbers_in

log = logging.getLogger(__name__)
_OTHER_THAN_CT = re.compile(r"\b(mri?|t1\w*|t2\w*|flair|adc|dwi|pet|suv|spect|us|ultrasound|x-?ray)\b", re.IGNORECASE)
_TUMOURS = {"cancer", "tumor", "tumour"}
_LOOKED_AT = 5  # cases whose label numbers tell data sets apart
_SUBFOLDERS = 20


def find_cases(
    folder: Path,
    layout: str = "auto",
    table: ClassTable = ABDOMEN,  # the classes to learn
    partial: bool = False,  # whether cases may lack classes; then each says which are `unlabelled`
    numbers: Mapping[str, int] | None = None,  # names to label numbers, for label maps that nothing else explains
) -> list[CaseSource]:
    """List the labelled cases of a data set, sorted by name.

    `layout` is a name in `LAYOUTS`, or "auto" to find out. The name of a data set also explains the label numbers of a
    folder that is arranged otherwise, as plain pairs or as in nnU-Net. A case that lacks a file, or one of several
    masks, is listed too; reading it says what is wrong.

    Raises BadInputError where there is no such folder; no layout fits, or several do; nothing explains the label
    numbers, or two tables do and differ; no case labels a class, unless partial; there is no case, or no CT.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: there is no such folder.")
    chosen = detect_layout(folder, numbers) if layout == "auto" else named_layout(layout)
    if layout == "auto":
        _refuse_contradiction(folder, chosen, table, numbers)
    channel = scan_channel(folder)
    if _OTHER_THAN_CT.search(channel):
        raise BadInputError(
            f"{folder / 'dataset.json'}: channel 0 is {channel}, and viscera reads CT from it. Where another channel "
            "is the CT, give a folder with that one as channel 0 (file names that end in _0000)."
        )
    cases = list_cases(folder, chosen)
    if chosen.is_data_set and not any(case.is_whole for case in cases.values()):
        conventions = [each for each in fitting(folder) if each.names_in]  # by which somebody may have arranged it
        cases = (list_cases(folder, chosen, conventions[0].places) if conventions else {}) or cases
    if not cases:
        wanted = " or ".join(describe(place) for place in chosen.places) or "images/ and labels/"
        of_ids = f" of the numbers up to {chosen.ids[-1]}" if chosen.ids else ""
        raise BadInputError(f"{folder}: {chosen.name} without a case in it. It needs {wanted}{of_ids}.")
    maps = any(case.has_map and not case.mask_files for case in cases.values())
    meaning = _meaning(folder, chosen, table, partial=partial, numbers=numbers) if maps else LabelNumbers({})
    sources = [_source(case, meaning, table) for _, case in sorted(cases.items())]
    return _complete(folder, chosen, sources, table, partial=partial)


def name_other_organs(folder: Path, cases: Sequence[CaseSource]) -> None:
    """Warn of what becomes background though it is labelled: somebody may have wanted to learn it."""
    others = list(dict.fromkeys(name for case in cases for name in case.numbers.others))
    if others:
        log.warning(
            "%s: %s %s labelled, but not among the classes to learn: these voxels become background. To learn other "
            "organs, make a store with --classes FILE.",
            *(folder, listed(others), agreeing(len(others))),
        )


def names_of_no_class(
    folder: Path, layout: str = "auto", table: ClassTable = ABDOMEN, numbers: Mapping[str, int] | None = None
) -> list[str]:
    """Names of a data set's own table, or of the numbers given, which stand for none of ours: `Milz`.

    Their voxels are background. A layout whose numbers are known has no table that somebody could misspell.
    """
    chosen = detect_layout(folder, numbers) if layout == "auto" else named_layout(layout)
    if chosen.numbers is not None:
        return []
    tables = _tables(folder, chosen.names_in)
    names = read_label_file(tables[0]) if tables else numbers or {}
    known = {*_TUMOURS, "background"}
    return [
        name
        for name, number in names.items()
        if number and not table.label_of(name) and not means_ignored(name) and name.lower() not in known
    ]


def _refuse_contradiction(folder: Path, layout: Layout, table: ClassTable, numbers: Mapping[str, int] | None) -> None:
    """Refuse files that are called as those of a data set, beside a table that gives the numbers another meaning."""
    said = {"the classes file": numbers} if numbers else {}
    for path in _tables(folder) if layout.is_data_set else ():
        with suppress(BadInputError):  # some data sets bring a dataset.json of another kind
            said[str(path)] = read_label_file(path)
    known = {table.label_of(name): number for name, number in (layout.numbers or {}).items()}
    for at, names in said.items():
        for label, number in ((table.label_of(name), number) for name, number in names.items()):
            if label and known.get(label, number) != number:
                raise BadInputError(
                    f"{folder}: its files are called as those of {layout.name}, where {table.names[label]} is "
                    f"{known[label]}; by {at} it is {number}. Say which is right: --layout {layout.name}, or nnunet, "
                    f"msd or pairs to go by {at}."
                )


def _meaning(
    folder: Path, layout: Layout, table: ClassTable, *, partial: bool, numbers: Mapping[str, int] | None
) -> LabelNumbers:
    """What the numbers in the label maps mean: by the data set, a file beside them, or the classes file."""
    if layout.numbers is not None:
        own = {**layout.numbers, **_ignore_beside(folder, numbers)}
        return label_numbers(own, found_in=f"{folder} ({layout.name})", table=table, partial=True)
    tables = _tables(folder, layout.names_in)
    if tables:
        return _by_table(tables[0], table, partial=partial)
    if numbers:
        return label_numbers(numbers, found_in=f"{folder} (numbers of the classes file)", table=table, partial=partial)
    raise BadInputError(
        f"{folder}: nothing says which organs the numbers in its label maps are. Add {' or '.join(layout.names_in)} "
        'with {"labels": {"background": 0, "liver": 1, …}}, or give a classes file, or --layout with the data set that '
        f"they are numbered like, one of {', '.join(each.name for each in LAYOUTS.values() if each.numbers)}."
    )


def _ignore_beside(folder: Path, numbers: Mapping[str, int] | None) -> dict[str, int]:
    """The number of `ignore`, which somebody has added to a data set: in the classes file, or in a table beside it."""
    found = [numbers or {}]
    for path in _tables(folder):
        with suppress(BadInputError):
            found.append(read_label_file(path))
    return next((own for each in found if (own := {n: its for n, its in each.items() if means_ignored(n)})), {})


def _tables(folder: Path, names: Sequence[str] = ("dataset.json", "labels.json")) -> list[Path]:
    """The tables of names and label numbers that are in a folder."""
    return [path for name in names if (path := folder / name).exists()]


def _by_table(path: Path, table: ClassTable, *, partial: bool) -> LabelNumbers:
    """What such a table says; of one organ and its tumours, as in the Decathlon, the tumour counts to the organ."""
    names = read_label_file(path)
    meaning = label_numbers(names, found_in=str(path), table=table, partial=partial)
    tumours = [name for name in names if name.lower() in _TUMOURS]
    organs = [name for name in names if name not in tumours and names[name] != 0 and not means_ignored(name)]
    if not tumours or len(organs) != 1:
        return meaning
    inside = {names[tumour]: meaning.mapping[names[organs[0]]] for tumour in tumours}
    others = tuple(name for name in meaning.others if name not in tumours or not meaning.mapping[names[organs[0]]])
    return replace(meaning, mapping={**meaning.mapping, **inside}, others=others)


def _source(case: CaseFiles, meaning: LabelNumbers, table: ClassTable) -> CaseSource:
    if case.masks is not None and (case.mask_files or not case.has_map):
        return _source_of_masks(case, case.masks, table)
    return CaseSource(case.name, case.scan, case.labels or case.scan, meaning, split=case.split, refusal=case.refusal)


def _source_of_masks(case: CaseFiles, folder: Path, table: ClassTable) -> CaseSource:
    files = {case_name(path): path for path in case.mask_files}
    doubled = next((path for path in case.mask_files if files[case_name(path)] != path), None)
    source = CaseSource(case.name, case.scan, folder, LabelNumbers({}), split=case.split, refusal=case.refusal)
    if case.refusal:
        return source
    if doubled is not None:
        other = files[case_name(doubled)].name
        return replace(source, refusal=f"{doubled}: {other} is of the same organ. Keep one of them.")
    if not any(map(table.label_of, files)):
        lacks = "has no mask of an organ that is wanted" if files else "is missing or empty"
        refusal = f"{folder} {lacks}. Add the masks, or leave the case out."
        return replace(source, numbers=LabelNumbers({}, table.names[1:]), refusal=refusal)
    try:
        numbers = {name: number for number, name in enumerate(files, start=1)}
        meaning = label_numbers(numbers, found_in=str(folder), table=table, partial=True)
    except BadInputError as error:
        return replace(source, refusal=str(error))
    masks = {path: label for name, path in files.items() if (label := table.label_of(name))}
    return replace(source, masks=masks, numbers=LabelNumbers({}, meaning.unlabelled, others=meaning.others))


def _complete(
    folder: Path, layout: Layout, sources: list[CaseSource], table: ClassTable, *, partial: bool
) -> list[CaseSource]:
    """Refuse a data set that lacks a class throughout, and single cases that do, unless that is wanted."""
    lacking = set.intersection(*(set(source.numbers.unlabelled) for source in sources))
    if partial and len(lacking) < len(table.organs):
        return sources
    if lacking:
        raise BadInputError(
            f"{folder}: {layout.name} does not label {', '.join(o.name for o in table.organs if o.name in lacking)}. "
            f"Training needs {', '.join(o.name for o in table.organs)}. "
            f"Name the organs to learn with --classes FILE, "
            f"{'' if partial else 'take it as it is with --partial, '}or leave it out."
        )
    refusal = "{} has no {}. Add it, or use --partial."
    return [
        replace(each, refusal=refusal.format(each.labels, ", ".join(each.numbers.unlabelled)))
        if each.numbers.unlabelled and not each.refusal
        else each
        for each in sources
    ]


def explained_by(folder: Path) -> Path | None:
    """The data set that a folder of label maps belongs to, if that says what their numbers mean; else None."""
    folder = folder.resolve()
    try:
        layouts = fitting(folder.parent)
    except BadInputError:  # what merely lies beside may be in any state
        return None
    for layout in layouts:
        has_names = layout.is_data_set or _tables(folder.parent, layout.names_in)
        if has_names and any(Path(place.labels).parent.name == folder.name for place in layout.places if place.labels):
            return folder.parent
    return None


def numbers_beside(folders: Sequence[Path], table: ClassTable, what: str) -> LabelNumbers | None:
    """By the first table of names in these folders, and a warning of `what` it explains; None where there is none.

    Raises BadInputError for a table in the first folder that is none, or that names no class of ours.
    """
    for path in itertools.chain(*map(_tables, folders)):
        try:
            known = _by_table(path, table, partial=True)
        except BadInputError:
            if path.parent == folders[0]:
                raise
        else:
            log.warning("%s: the %s are taken to mean what %s says.", folders[0], what, path)
            return known
    return None


def named_layout(name: str) -> Layout:
    """The layout of a name; case, `-`, `_` and `.` do not matter. Raises UsageError where there is none."""
    known = {squeezed(each): layout for each, layout in LAYOUTS.items()}
    if squeezed(name) not in known:
        likely = did_you_mean(name, ["auto", *LAYOUTS])
        raise UsageError(f"There is no layout '{name}'. There are: auto, {', '.join(LAYOUTS)}.{likely}")
    return known[squeezed(name)]


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

    def fits(layout: Layout) -> bool:
        cases = list_cases(folder, layout).values()
        without_scans = layout.scans_optional and not any(has_scans(folder, place) for place in layout.places)
        return any(case.is_whole or without_scans for case in cases)

    return list(filter(fits, LAYOUTS.values()))


def _shows_its_numbers(folder: Path, layout: Layout) -> bool:
    if layout.shown is None:
        return True
    labelled = [case for case in list_cases(folder, layout).values() if case.is_labelled]
    ignored = [*_ignore_beside(folder, None).values()]
    return max(_largest_number(case, layout, ignored) for case in labelled[:_LOOKED_AT]) in layout.shown


def _largest_number(case: CaseFiles, layout: Layout, ignored: Sequence[int]) -> int:
    """The largest number that a case shows, or whose mask it has; 0 if its label map cannot be read."""
    numbers = layout.numbers or {}
    if case.mask_files:
        return max(numbers.get(case_name(path), len(numbers) + 1) for path in case.mask_files)
    try:
        shown = label_numbers_in(case.labels) if case.labels is not None else []
        return max((number for number in shown if number not in ignored), default=0)
    except BadInputError:
        return 0


def _nothing_fits(folder: Path) -> str:
    if not is_occupied(folder):
        return f"{folder}: the folder is empty. Give the folder that holds scans and labels."
    conventions = [layout for layout in LAYOUTS.values() if layout.places and not layout.is_data_set]
    files = "; ".join(f"{each.name}: {' or '.join(map(describe, each.places))}" for each in conventions)
    data_sets = ", ".join(layout.name for layout in LAYOUTS.values() if layout.places and layout.is_data_set)
    children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    inside = next((child for child in children[:_SUBFOLDERS] if fitting(child)), None)
    hint = f" {inside} is one; give that folder." if inside else ""
    return (
        f"{folder}: no known layout of a labelled data set.{hint} There are {files}; and the data sets {data_sets}, "
        "each with the files it comes in (docs/reference/layouts.md)."
    )
