"""Small records in and out: JSON, YAML and CSV, as UTF-8; a byte order mark, or UTF-16 with one, is understood."""

import csv
import functools
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from viscera.core.errors import BadInputError
from viscera.core.plain_yaml import plain_yaml
from viscera.core.safe_names import as_cell, from_cell
from viscera.io.files import open_file, reading, write_text
from viscera.io.seals import (
    KEY,
    Seal,
    damaged,
    json_seal,
    sealed_json,
    sealed_yaml,
    sum_path,
    table_seal,
    unsealed,
    write_summed,
    yaml_seal,
)

log = logging.getLogger(__name__)
Value = TypeVar("Value")
# no float is as large: whatever computes with it would fail
_LONG_NUMBER = re.compile(r"(?<![0-9a-zA-Z.\"])[0-9]{310}")
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # by the byte order mark; without one of them UTF-8


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a text file; raises BadInputError where it is missing, cannot be read, or is no text.

    `errors="surrogateescape"` keeps bytes that are no UTF-8, of file names.
    """
    return _decoded(path, _content(path), errors)


def _content(path: Path) -> bytes:
    with open_file(path, streams=True) as file, reading(path):
        return file.read()


def _decoded(path: Path, content: bytes, errors: str = "strict") -> str:
    try:
        return content.decode(_ENCODINGS.get(content[:2], "utf-8-sig"), errors)
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: this is not UTF-8 text ({error}). Save it as UTF-8.") from error


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Read JSON; raises BadInputError where it is missing, cannot be read, is none, or gives a name twice.

    Also where it has a checksum (`io.seals`), which is left out, that does not fit.
    """
    value, seal = read_sealed(path)
    if seal is Seal.BROKEN:
        raise damaged(path, f"key `{KEY}`")
    return value


def read_sealed(path: Path) -> tuple[Any, Seal]:
    """Read JSON as `read_json`, and what its checksum says, for who has to look at its content first."""
    content = _content(path)
    text = _decoded(path, content)
    try:
        _refuse_long_numbers(text)
        return unsealed(json.loads(text, object_pairs_hook=_object)), json_seal(content)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path}: this is not valid JSON ({error}). Repair it, or write it again.") from error


def _refuse_long_numbers(text: str) -> None:
    if _LONG_NUMBER.search(text):
        raise ValueError("a number of hundreds of digits")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"'{twice}' is there twice")
    return result


def write_json(path: Path, value: Any, *, allow_nan: bool = False) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Write JSON, indented, atomically; NaN is refused unless a reader is known to want it, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=allow_nan) + "\n")


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON of our own, which has a key or more, with its checksum in it, atomically."""
    write_text(path, sealed_json(json.dumps(value, indent=1, allow_nan=False) + "\n"))


class _Dumper(yaml.SafeDumper):
    """As `yaml.safe_dump`, but names of files that are no UTF-8 can be read again."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """As it is, or in bytes: YAML has no place for the code points by which Python means these."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return self.represent_binary(text.encode(errors="surrogateescape"))
        return self.represent_str(text)


_Dumper.add_representer(str, _Dumper.represent_text)


def read_yaml(path: Path, *, ours: bool = False) -> dict[str, Any]:
    """Read a YAML mapping; raises BadInputError where it is missing, is none, or gives a key twice.

    Of a file of `ours` also where its checksum does not fit; people may copy and edit it to give it with --config.
    """
    content = _content(path)
    text = _decoded(path, content)
    if ours and yaml_seal(content) is Seal.BROKEN:
        raise damaged(path, "first line")
    try:
        value = plain_yaml(text)
    except ValueError as error:
        raise BadInputError(f"{path}: this is not valid YAML ({error}).") from error
    if not isinstance(value, dict):
        raise BadInputError(f"{path}: a mapping of settings was expected, as `viscera config show` prints it.")
    return value


def write_yaml(path: Path, value: dict[str, Any]) -> None:
    """Write a mapping as YAML, in its order, with its checksum in it, atomically."""
    write_text(path, sealed_yaml(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)))


def read_csv(path: Path, errors: str = "surrogateescape") -> list[dict[str, str]]:
    """Read a table, separated by comma, semicolon or tab: a row per line, by the names in the first.

    A row that is cut short lacks the last names. A checksum beside it that does not fit is warned of. Raises
    BadInputError as `read_text`, and for what is no table.
    """
    text = read_text(path, errors)
    if sum_path(path).exists() and table_seal(path)[0] is Seal.BROKEN:
        log.warning(
            "%s: damaged, or edited: %s does not fit. `viscera verify %s` says how to make it again; if you edited it "
            "on purpose, delete %s.",
            *(path, sum_path(path).name, path.parent, sum_path(path).name),
        )
    header = text.partition("\n")[0]
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)))
    except csv.Error as error:
        raise BadInputError(f"{path}: this is not a table ({error}). Save it as CSV.") from error
    if "'" in text:
        lines = [list(map(from_cell, line)) for line in lines]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[1:] if line]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, checksum: bool = False) -> None:
    """Write a table, atomically, with its checksum beside it where wanted; one that says the same is left alone.

    Texts that a spreadsheet would take for formulas begin with `'`, which `read_csv` takes away again.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(as_cell, header))
    writer.writerows(map(as_cell, row) for row in rows)
    if checksum:
        write_summed(path, text.getvalue())
    elif not path.exists() or path.read_bytes() != text.getvalue().encode(errors="surrogateescape"):
        write_text(path, text.getvalue())


def is_table(path: Path, header: Sequence[str]) -> bool:
    """Whether a file begins with these columns; raises BadInputError where it cannot be read."""
    first, _, _ = read_text(path, errors="surrogateescape").partition("\n")
    return first.rstrip("\r").split(",")[: len(header)] == list(header)


def refuse_other_table(path: Path, header: Sequence[str]) -> None:
    """Raise BadInputError where a file is there that does not begin with these columns."""
    if path.exists() and not is_table(path, header):
        raise BadInputError(f"{path}: exists, and viscera did not write it. Move it away, or choose another folder.")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - any type
    """What checks values of a type: it takes a hundredth of a second to make, and a study has hundreds of records."""
    return TypeAdapter(kind)


def validated(kind: type[Value], value: object, path: Path, what_to_do: str) -> Value:
    """What was read from a file of ours as the type that it should be; raises BadInputError where it is not that."""
    try:
        return cast("Value", _adapter(kind).validate_python(value))  # type: ignore[arg-type] # types can be hashed
    except ValidationError as error:
        raise BadInputError(f"{path}: damaged ({error.error_count()} fields). {what_to_do}") from error
