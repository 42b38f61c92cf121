"""Checksums of small files of ours: within JSON, YAML and the lines of a curve, beside tables.

A file and a checksum within it are written by one rename, so that no crash can part them. Each is the SHA-256 of the
text as it would be without it, and stands where tools find it:

record.json   its last key, `"checksum": "sha256:HEX"`
record.yaml   its first line, `# sha256 of all lines below: HEX`, so that a file that was cut short is found as well
curve.jsonl   the last key of each line
table.csv     in `table.csv.sha256` beside it, as `sha256sum -c` reads it, because tables have no room for one, nor has
              nnU-Net's summary.json

What other programs or people have written anew has no such form any more; it is read as one without a checksum.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.io.files import discard, open_file, reading, sha256, write_text

KEY = "checksum"
_DIGITS = 64
_HEX = r"[0-9a-f]{64}"
_VALUE = re.compile(rf"sha256:{_HEX}")
_JSON_END = b"\n}\n"
_JSON_SEAL, _YAML_SEAL, _LINE_SEAL = (
    f',\n "{KEY}": "sha256:'.encode(),
    b"# sha256 of all lines below: ",
    f', "{KEY}": "',
)
_FEW = 3  # bytes, or digits, by which a damaged checksum differs from a whole one; any other text differs by more


class Seal(Enum):
    """What a checksum says of its file."""

    FITS = "fits"
    NONE = "none"  # there is none: of an earlier version, or written anew by somebody else
    BROKEN = "broken"


class DamagedFileError(BadInputError):
    """A file of ours is not as it was written."""


def sealed_json(text: str) -> str:
    """An indented JSON object, which ends with a newline, with its checksum as the last key."""
    if not text.endswith(_JSON_END.decode()) or text.startswith("{}"):
        raise ValueError("an indented JSON object with a key or more was expected")
    return text.removesuffix("\n}\n") + f"{_JSON_SEAL.decode()}{_hex(text.encode())}" + '"\n}\n'


def sealed_yaml(text: str) -> str:
    """YAML with its checksum as the first line."""
    return f"{_YAML_SEAL.decode()}{_hex(text.encode(errors='surrogateescape'))}\n{text}"


def sealed_line(value: Mapping[str, Any]) -> str:
    """A JSON object as a line, without the newline, with its checksum as the last key."""
    text = json.dumps({key: each for key, each in value.items() if key != KEY}, allow_nan=False)
    return f'{text[:-1]}{_LINE_SEAL}{_short(text)}"}}'


def json_seal(content: bytes) -> Seal:
    """Whether JSON is as `sealed_json` made it."""
    end = b'"' + _JSON_END
    at = len(content) - len(_JSON_SEAL) - _DIGITS - len(end)
    digits = content[at + len(_JSON_SEAL) : -len(end)] if at > 0 else b""
    unsealed = content[:at] + _JSON_END if at > 0 else b""
    return _seal(content[at : at + len(_JSON_SEAL)] + content[-len(end) :], _JSON_SEAL + end, digits, unsealed)


def yaml_seal(content: bytes) -> Seal:
    """Whether YAML is as `sealed_yaml` made it."""
    first, _, rest = content.partition(b"\n")
    return _seal(first[: len(_YAML_SEAL)], _YAML_SEAL, first[len(_YAML_SEAL) :], rest)


def line_seal(line: str) -> Seal:
    """Whether a line is as `sealed_line` made it."""
    at = len(line) - len(_LINE_SEAL) - len(_short("")) - len('"}')
    if at <= 0 or _differing(line[at:][: len(_LINE_SEAL)], _LINE_SEAL) > _FEW:
        return Seal.NONE
    return Seal.FITS if line == f'{line[:at]}{_LINE_SEAL}{_short(line[:at] + "}")}"}}' else Seal.BROKEN


def unsealed(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """What was read from JSON, without its checksum."""
    if isinstance(value, dict) and isinstance(value.get(KEY), str) and _VALUE.fullmatch(value[KEY]):
        return {key: each for key, each in value.items() if key != KEY}
    return value


def damaged(path: Path, where_it_stands: str) -> DamagedFileError:
    """What is said of a file whose checksum does not fit."""
    return DamagedFileError(
        f"{path}: damaged, or edited: the checksum in it does not fit. `viscera verify {path.parent}` says how to make "
        f"it again; if you edited it on purpose, delete its {where_it_stands}."
    )


def sum_path(table: Path) -> Path:
    """The checksum beside a table."""
    return table.with_name(f"{table.name}.sha256")


def write_summed(path: Path, text: str) -> None:
    """Write a table, with its checksum beside it.

    Where there is a table already, the checksum of the new one is added before that is written, and the old one taken
    away after it: whenever the process is killed, the table that is there has its checksum.
    """
    sums, line = sum_path(path), f"{_hex(text.encode(errors='surrogateescape'))}  {path.name}\n"
    known, before = (_text(sums) if sums.exists() else ""), (f"{sha256(path)}  {path.name}\n" if path.exists() else "")
    if before == line == known:
        return
    if known and before and before in known:
        write_text(sums, before + line)
    else:
        discard(sums)  # of a table that is gone, or is not as it was
    if not path.exists() or _text(path) != text:
        write_text(path, text)
    write_text(sums, line)


def copy_summed(source: Path, target: Path) -> None:
    """Copy a table, with a checksum of its own."""
    write_summed(target, _text(source))


def table_seal(path: Path) -> tuple[Seal, Path]:
    """Whether a table is as `write_summed` wrote it, and where not, which of the two files it is that is damaged."""
    first = _table_seal(path)
    # one of them may have been exchanged after the other was read; then both are of one state now
    return _table_seal(path) if first[0] is Seal.BROKEN else first


def _table_seal(path: Path) -> tuple[Seal, Path]:
    sums = sum_path(path)
    if not sums.exists():
        return Seal.NONE, path
    found = sha256(path)
    *lines, end = _text(sums).split("\n")
    is_whole = bool(lines) and not end and all(re.fullmatch(rf"{_HEX}  {re.escape(path.name)}", each) for each in lines)
    if is_whole and any(line.startswith(found) for line in lines):
        return Seal.FITS, path
    is_near = any(_differing(line[:_DIGITS], found) <= _FEW for line in lines)
    return Seal.BROKEN, path if is_whole and not is_near else sums


def _seal(fixed: bytes, expected: bytes, digits: bytes, text: bytes) -> Seal:
    differing = _differing(fixed, expected)
    if differing > _FEW:
        return Seal.NONE
    return Seal.FITS if differing == 0 and digits == _hex(text).encode() else Seal.BROKEN


def _differing(found: bytes | str, expected: bytes | str) -> int:
    return sum(a != b for a, b in zip(found, expected, strict=False)) + abs(len(found) - len(expected))


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(text: str) -> str:
    """Of a line: it is there to find damage, and a curve has thousands of lines."""
    return f"sha256:{_hex(text.encode(errors='surrogateescape'))[:16]}"


def _text(path: Path) -> str:
    with open_file(path) as file, reading(path):
        return file.read().decode(errors="surrogateescape")
