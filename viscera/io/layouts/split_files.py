"""The split and the folds that a data set brings along, or that somebody's own file gives."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError

from viscera.core.config import MOST_FOLDS
from viscera.core.errors import BadInputError
from viscera.core.settings import Settings
from viscera.core.wording import counted, listed
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import scan_case_name
from viscera.io.manifest import Split
from viscera.io.records import read_csv, read_json


class _FoldLists(Settings):
    """Our own form of folds."""

    folds: tuple[tuple[str, ...], ...]
    test: tuple[str, ...] = ()


_NNUNET = TypeAdapter(list[dict[Literal["train", "val"], list[str]]])
_SPLIT = TypeAdapter(dict[Split, list[str]])
_META_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
_EXPECTED = (
    '{"train": [...], "validation": [...], "test": [...]}, {"folds": [[...], [...], …], "test": [...]}, or nnU-Net\'s '
    '[{"train": [...], "val": [...]}, …] was expected'
)


class GivenSplit(NamedTuple):
    """Where cases belong, as a file or the folders of a data set say; it need not name all of them."""

    splits: dict[str, Split]
    folds: dict[str, int] = {}  # noqa: RUF012 - by case; empty where no folds are given, or none are asked for
    number: int = 0  # of folds
    path: Path | None = None  # of the file that gives folds, or is somebody's own
    is_wanted: bool = False  # by somebody, with a file of their own


def own_split(folder: Path, cases: Sequence[CaseSource], folds: int = 0) -> GivenSplit:
    """The cases that a data set itself puts into a part; the others may be drawn for any.

    nnU-Net's `splits_final.json`, the `meta.csv` of TotalSegmentator, or the folders (WORD, AMOS22, nnU-Net's
    `labelsTs`). Of `splits_final.json` fold 0 is the validation set; where `folds` are asked for, as many, its folds
    are taken, and none of its cases is free to be drawn for testing. Else training cases are, where the data set has no
    test cases. Raises BadInputError for a `splits_final.json` that is none, that names other cases, or whose folds
    cannot be taken, and for a `meta.csv` in another encoding.
    """
    names = [case.name for case in cases]
    path = _splits_final(folder)
    if path is not None:
        given = _of_nnunet(path, read_json(path), cases, folds, ", or give --split")
        if strangers := sorted(given.splits.keys() - {*names}):
            raise BadInputError(f"{path}: names {listed(strangers)}, no cases here. Correct it, or give --split.")
        if given.folds:
            return given
        splits = given.splits
    elif (folder / "meta.csv").exists():
        rows = [row for row in read_csv(folder / "meta.csv", errors="strict") if row.get("image_id") in names]
        splits = {row["image_id"]: _META_SPLITS[row["split"]] for row in rows if row.get("split") in _META_SPLITS}
    else:
        splits = _by_folder(cases)
    has_tests = "test" in splits.values()
    return GivenSplit({name: split for name, split in splits.items() if has_tests or split != "train"})


def read_split(path: Path, cases: Sequence[CaseSource], folds: int | None = None) -> GivenSplit:
    """The split of a JSON file that somebody gives; it may name cases that are not of this data set.

    In nnU-Net's form the test cases are those that the folders say. `folds` is how many are asked for: by default as
    many as the file has, 0 for none. Raises BadInputError for something else, for a case that is named twice, and for
    folds that cannot be taken.
    """
    value, names = read_json(path), [case.name for case in cases]
    if isinstance(value, list):
        return _of_nnunet(path, value, cases, folds, "")._replace(path=path, is_wanted=True)
    is_of_folds = isinstance(value, dict) and "folds" in value
    try:
        if is_of_folds:
            lists = _FoldLists.model_validate(value)
            held = [_cases(each, names) for each in lists.folds]
            parts = {f"fold {fold}": each for fold, each in enumerate(held)} | {"test": _cases(lists.test, names)}
        else:
            parts = {split: _cases(each, names) for split, each in _SPLIT.validate_python(value, strict=True).items()}
    except ValidationError as error:
        raise BadInputError(f"{path}: {_EXPECTED}.") from error
    part_of = _each_once(path, parts)
    if not is_of_folds:
        splits: dict[str, Split] = {name: split for split in get_args(Split) for name in parts.get(split, ())}
        return GivenSplit(splits, path=path, is_wanted=True)
    splits = {name: "validation" if part == "fold 0" else "train" for name, part in part_of.items()}
    given = GivenSplit(splits | dict.fromkeys(parts["test"], "test"), path=path, is_wanted=True)
    return given if folds == 0 else _with_folds(given, held, len(held) if folds is None else folds)


def _splits_final(folder: Path) -> Path | None:
    """In the data set, or where nnU-Net keeps it."""
    raw, name = folder.resolve().parent, folder.resolve().name
    kept_by_nnunet = [raw.parent / "nnUNet_preprocessed" / name] if raw.name == "nnUNet_raw" else []
    paths = [each / "splits_final.json" for each in (folder, *kept_by_nnunet)]
    return next(filter(Path.exists, paths), None)


def _by_folder(cases: Sequence[CaseSource]) -> dict[str, Split]:
    return {case.name: case.split for case in cases if case.split is not None}


def _of_nnunet(
    path: Path,
    value: Any,  # noqa: ANN401 - whatever JSON can hold
    cases: Sequence[CaseSource],
    folds: int | None,  # None: all that there are, of several
    otherwise: str,  # what else can be done than to correct the file
) -> GivenSplit:
    """Fold 0 alone, or all folds: these must be a cross-validation, or a training of a fold saw other cases than here.

    nnU-Net itself takes folds that are none: with a case that two of them hold out, or that one leaves out.
    """
    names, of_folders = [case.name for case in cases], _by_folder(cases)
    correct = f"Correct it{otherwise}."
    try:
        parts = [
            (set(_cases(each["train"], names)), set(_cases(each["val"], names)))
            for each in _NNUNET.validate_python(value, strict=True)
        ]
        train, held_out = parts[0]
    except (ValidationError, IndexError, KeyError):
        expected = _EXPECTED if not otherwise else '[{"train": [...], "val": [...]}, …] was expected'
        raise BadInputError(f"{path}: {expected}. {correct}") from None
    wanted = (len(parts) if len(parts) > 1 else 0) if folds is None else folds
    splits = of_folders | dict.fromkeys(train, "train") | dict.fromkeys(held_out, "validation")
    given = GivenSplit(splits)
    if wanted:
        given = _with_folds(given._replace(path=path), [sorted(held) for _, held in parts], wanted)
    taken = parts if wanted else parts[:1]
    named = set().union(*(train | held for train, held in taken))
    for fold, (train, held) in enumerate(taken):
        if both := sorted(train & held):
            raise BadInputError(f"{path}: {listed(both)} in `train` and in `val` of fold {fold}. {correct}")
        if lacking := sorted(named - train - held):
            raise BadInputError(
                f"{path}: fold {fold} leaves out {listed(lacking)}, which other folds name; a fold is trained on all "
                f"cases that it does not hold out. {correct}"
            )
    if tests := sorted(name for name in named if of_folders.get(name) == "test"):
        raise BadInputError(f"{path}: names {listed(tests)}, test cases of the data set by their folder. {correct}")
    return given


def _with_folds(given: GivenSplit, held: Sequence[Sequence[str]], wanted: int) -> GivenSplit:
    """With the fold in which each case is held out."""
    number = len(held)
    if number != wanted:
        advice = f"Give --folds {number}" if number > 1 else "Leave --folds out"
        raise BadInputError(
            f"{given.path}: it gives {counted(number, 'fold')}, and {wanted} were expected, by --folds or as the store "
            f"has them. {advice}, or a file of {wanted} folds with --split."
        )
    if not 2 <= number <= MOST_FOLDS:
        raise BadInputError(f"{given.path}: it gives {counted(number, 'fold')}; 2 to {MOST_FOLDS} were expected.")
    if empty := [fold for fold, names in enumerate(held) if not names]:
        raise BadInputError(f"{given.path}: fold {empty[0]} holds out no case. Give each fold a case or more.")
    part_of = _each_once(given.path, {f"fold {fold}": names for fold, names in enumerate(held)})
    return given._replace(folds={name: int(part.split()[1]) for name, part in part_of.items()}, number=number)


def _each_once(path: Path | None, parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """In which part each case is; raises BadInputError for one that is named twice."""
    part_of: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in part_of:
                raise BadInputError(f"{path}: {name} is in {part_of[name]} and in {part}. Keep one of them.")
            part_of[name] = part
    return part_of


def _cases(entries: Sequence[str], names: Collection[str]) -> list[str]:
    return [case_of(entry, names) for entry in entries]


def case_of(entry: str, names: Collection[str]) -> str:
    """The case that a split names: as it is, or as a file, with its folders (also of Windows), ending and channel."""
    return entry if entry in names else scan_case_name(Path(entry.replace("\\", "/").rsplit("/", 1)[-1]))
