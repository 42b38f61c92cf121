"""The class file of `viscera prepare --classes`: what is learnt, and the numbers of label maps without a table.

classes: [liver, left kidney]              names, in label order; background is 0 and may be left out
labels: {liver: 6, left kidney: 3}         optional: the data set's names and numbers
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from viscera.core.anatomy import ClassTable, means_ignored
from viscera.core.errors import BadInputError
from viscera.io.layouts.dataset_tables import names_to_numbers
from viscera.io.records import read_yaml

log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BETWEEN_WORDS = re.compile(r"[\s\-./,;:()&+]+")  # in the names of the field's own tables: "right kidney"
_MOST = 2**16 - 1
_ROWS_OF_TABLE_1 = {"AVG", "MAX", "MIN", "FOREGROUND"}
_EXAMPLE = "Write, for example, `classes: [liver, kidney_left]` and `labels: {liver: 6, kidney_left: 3}`."


class ClassFile(NamedTuple):
    """What a class file says."""

    table: ClassTable  # the classes to learn
    # names to numbers, for label maps that have no table of their own; empty where the file gives none
    numbers: Mapping[str, int]


def read_class_file(path: Path) -> ClassFile:
    """Read a class file.

    Raises BadInputError for no such file or no YAML mapping; an unknown key; no organ; a name that stands twice or is
    none; numbers that are no whole numbers from 0 on, or that several names share.
    """
    content = read_yaml(path)
    unknown = [str(key) for key in content if key not in {"classes", "labels"}]
    if unknown:
        raise BadInputError(f"{path}: there is no key '{unknown[0]}'; there are classes and labels. {_EXAMPLE}")
    return ClassFile(_table(path, content.get("classes")), _numbers(path, content.get("labels") or {}))


def _table(path: Path, names: Any) -> ClassTable:  # noqa: ANN401 - whatever YAML can hold
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInputError(f"{path}: `classes` must be a list of names. {_EXAMPLE}")
    if names.index("background") if "background" in names else 0:
        raise BadInputError(f"{path}: background is always class 0. Put it first, or leave it out.")
    _refuse_doubles(path, "class", names)
    organs = {name: _BETWEEN_WORDS.sub("_", name).strip("_") for name in names if name != "background"}
    for given, name in organs.items():
        if means_ignored(name):
            raise BadInputError(
                f"{path}: '{given}' stands for voxels that nobody labelled, not for a class. Leave it out."
            )
        if not _NAME.fullmatch(name) or name in _ROWS_OF_TABLE_1:
            raise BadInputError(
                f"{path}: '{given}' is not a valid name of a class. Letters, digits and _, as in kidney_left."
            )
        twins = [other for other, its in organs.items() if its == name]
        if len(twins) > 1:
            raise BadInputError(f"{path}: '{twins[0]}' and '{twins[1]}' are both called {name}. Keep one of them.")
    if not organs:
        raise BadInputError(f"{path}: `classes` names no organ. {_EXAMPLE}")
    renamed = [f"'{given}' is called {name}" for given, name in organs.items() if given != name]
    if renamed:
        log.warning("%s: %s in files and tables.", path, ", ".join(renamed))
    try:
        return ClassTable.of_names(["background", *organs.values()])
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from error


def _numbers(path: Path, labels: Any) -> dict[str, int]:  # noqa: ANN401 - whatever YAML can hold
    if not isinstance(labels, dict):
        raise BadInputError(f"{path}: `labels` must give each name a number. {_EXAMPLE}")
    numbers = names_to_numbers(labels, f"{path}: `labels`")
    for name, number in numbers.items():
        if not 0 <= number <= _MOST:
            raise BadInputError(f"{path}: `labels`: {name}: {number}; numbers run from 0 to {_MOST}.")
    _refuse_doubles(path, "number", numbers.values())
    return numbers


def _refuse_doubles(path: Path, what: str, values: Iterable[object]) -> None:
    doubled = [value for value, times in Counter(values).items() if times > 1]
    if doubled:
        raise BadInputError(f"{path}: {what} {doubled[0]} stands there twice. Keep one of them.")
