"""How files are made hostile: bytes, fields of headers, values of JSON, YAML and tables, elements of DICOM, zip files.

Every function takes a source of chance and a whole file, and gives another one; the same chance gives the same bytes.
Those that need a file of a kind raise whatever they like for another one.
"""

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

import yaml

Mutation = Callable[[Random, bytes], bytes]
WHOLE: tuple[int, ...] = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    -32768,
    65535,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**53,
)
WHOLE += (2**63 - 1, 2**63, -(2**63), 2**64, 10**30)
REAL: tuple[float, ...] = (0.0, -0.0, 0.5, -1.5, 1e-300, 1e-45, 1e38, 1e300, -1e300, math.inf, -math.inf, math.nan)
NAMES: tuple[str, ...] = (
    *("", " ", ".", "..", "../../escaped", "/etc/passwd", "C:\\x", "a/b", "a\\b", "\0", "x\0y", "\n", "a\r\nb"),
    *("\ud800", "\udcff", "\u202eevil", "\x1b[31mred\x1b]0;title\x07", "x" * 300, "x" * 5000, "ä", "a\u0308"),
    *(
        "<script>alert(1)</script>",
        "=1+1",
        "@SUM(A1)",
        "-",
        "+1",
        "javascript:alert(1)",
        "{{7*7}}",
        "%s%n",
        "~",
        "$HOME",
    ),
    *("nan", "inf", "1e999", "0x10", "1_000", "true", "null", "[]", "{}", "background", "liver", "ignore"),
)
DEEP = 200  # levels of what is nested here and there; what is nested thousands deep is a bomb of its own


# ------------------------------------------------------------------------------------------ bytes


def mutated_bytes(chance: Random, content: bytes) -> bytes:
    """Flipped, cut, doubled, moved, overwritten, in one place or a few."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(_OF_BYTES)(chance, content)
    return content


def _flip(chance: Random, content: bytes) -> bytes:
    result = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8)) if result else 0):
        result[chance.randrange(len(result))] ^= 1 << chance.randrange(8)
    return bytes(result)


def _cut(chance: Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _part(chance: Random, content: bytes) -> tuple[int, int]:
    start = chance.randrange(len(content) + 1)
    return start, min(len(content), start + chance.choice((1, 2, 4, 8, 64, 512)))


def _delete(chance: Random, content: bytes) -> bytes:
    start, stop = _part(chance, content)
    return content[:start] + content[stop:]


def _double(chance: Random, content: bytes) -> bytes:
    start, stop = _part(chance, content)
    return content[:stop] + content[start:stop] * chance.choice((1, 2, 50)) + content[stop:]


def _move(chance: Random, content: bytes) -> bytes:
    (start, stop), to = _part(chance, content), chance.randrange(len(content) + 1)
    return content[:to] + content[start:stop] + content[to:]


def _insert(chance: Random, content: bytes) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.randbytes(chance.choice((1, 3, 16, 300))) + content[at:]


def _overwrite(chance: Random, content: bytes) -> bytes:
    start, stop = _part(chance, content)
    return content[:start] + bytes([chance.choice((0, 0xFF, 0x7F, 0x20))]) * (stop - start) + content[stop:]


def _number(chance: Random, content: bytes) -> bytes:
    """An extreme number over some bytes, of either byte order."""
    code = chance.choice("bhiqd")
    packed = _packed(chance, chance.choice("<>") + code)
    at = chance.randrange(max(1, len(content) - len(packed) + 1))
    return content[:at] + packed + content[at + len(packed) :]


def _packed(chance: Random, form: str) -> bytes:
    """An extreme value of one type of `struct`."""
    kind, size = form[-1], struct.calcsize(form)
    if kind in "fd":
        value = chance.choice(REAL)
        return struct.pack(form, value if kind == "d" or not abs(value) > 3e38 or math.isinf(value) else math.inf)
    number: int = chance.choice(WHOLE) % 256**size
    return number.to_bytes(size, "big" if form[0] == ">" else "little")


_OF_BYTES: tuple[Mutation, ...] = (_flip, _flip, _cut, _delete, _double, _move, _insert, _overwrite, _number)


def mutated_fields(fields: Sequence[tuple[int, str]]) -> Mutation:
    """Extremes in the fields of a header: where each begins, and its type as `struct` has it."""

    def mutated(chance: Random, content: bytes) -> bytes:
        result = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at, form = chance.choice(fields)
            packed = _packed(chance, form)
            if at + len(packed) <= len(result):
                result[at : at + len(packed)] = packed
        return bytes(result)

    return mutated


# ------------------------------------------------------------------------------------------ values


def mutated_value(chance: Random, value: Any) -> Any:  # noqa: ANN401, PLR0911 - what JSON can hold
    """One place of a nested value replaced, removed, renamed, doubled, or nested; the value itself stays as it is."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if (what := chance.random()) < 0.12:
            return {name: each for name, each in value.items() if name != key}
        if what < 0.2:
            return {(chance.choice(NAMES) if name == key else name): each for name, each in value.items()}
        if what < 0.25:
            return {**value, chance.choice(NAMES): _any(chance)}
        return {**value, key: mutated_value(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        if (what := chance.random()) < 0.15:
            return value[:at] + value[at + 1 :]
        if what < 0.3:
            return value[:at] + [value[at]] * chance.choice((2, 3, 100)) + value[at + 1 :]
        return [*value[:at], mutated_value(chance, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and chance.random() < 0.4:
        return _mutated_text(chance, value)
    return _any(chance)


def _mutated_text(chance: Random, text: str) -> str:
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        (text[:at], text[:at] + chance.choice(NAMES) + text[at:], text.upper(), text * 2, f"../{text}", f"/{text}")
    )


def _any(chance: Random) -> Any:  # noqa: ANN401 - what JSON can hold
    kind = chance.randrange(9)
    if kind < 2:
        return chance.choice(WHOLE)
    if kind < 4:
        return chance.choice(REAL)
    if kind < 6:
        return chance.choice(NAMES)
    if kind == 6:
        return chance.choice((None, True, False, [], {}, [[]], [None], {"": None}, [0] * 1000))
    nested: Any = chance.choice((0, "x", {}))
    for _ in range(chance.choice((1, 3, DEEP))):
        nested = [nested] if chance.random() < 0.5 else {chance.choice(NAMES): nested}
    return nested


def mutated_json(chance: Random, content: bytes) -> bytes:
    """Another value of the same shape, nearly; or its text spoilt."""
    if chance.random() < 0.25:
        return mutated_bytes(chance, content)
    value = json.loads(content)
    if isinstance(value, dict):
        value.pop("checksum", None)  # else nearly all would be refused by that alone
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        value = mutated_value(chance, value)
    text = json.dumps(value)
    if chance.random() < 0.05:
        text = text.replace('"', '"a": 1, "a": 2, "', 1)  # a name twice
    return text.encode()


_TAGS: tuple[str, ...] = (
    "!!int",
    "!!float",
    "!!bool",
    "!!null",
    "!!str",
    "!!binary",
    "!!timestamp",
    "!!omap",
    "!!pairs",
    "!!set",
)
_TAGS += ("!!seq", "!!map", "!!merge", "!!value", "!!python/object/apply:os.system", "!x", "!<tag:yaml.org,2002:int>")
_PLAIN: tuple[str, ...] = (
    '""',
    "x",
    "[]",
    "[1]",
    "{}",
    "{a: 1}",
    "1:2:3",
    "0x" + "f" * 5000,
    "1" * 5000,
    ".inf",
    ".nan",
    "2001-99-99",
)
_PLAIN += ("2001-12-14t21:59:43.10-05:00", "&a [*a]", "&a {b: *a}", "<<", "? [a]\n: b", "|\n  x", "*unknown", "%", "@")


def mutated_yaml(chance: Random, content: bytes) -> bytes:
    """As JSON, written as YAML; with tags, anchors and scalars that only YAML has."""
    if (what := chance.random()) < 0.2:
        return mutated_bytes(chance, content)
    value = yaml.safe_load(content)
    if what < 0.7:
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            value = mutated_value(chance, value)
        return json.dumps(value).encode()
    lines = yaml.safe_dump(value, sort_keys=False).splitlines()
    at = chance.randrange(len(lines))
    scalar = " ".join(chance.sample((chance.choice(_TAGS), chance.choice(_PLAIN)), 2)[chance.randrange(2) :])
    lines[at] = re.sub(r"(?<=[:-] ).*|(?<=:)$", lambda _: f" {scalar}", lines[at], count=1)
    return "\n".join(lines).encode(errors="surrogatepass")


def mutated_table(chance: Random, content: bytes) -> bytes:
    """A cell, a column or a row of a CSV file replaced, removed or doubled."""
    if chance.random() < 0.25:
        return mutated_bytes(chance, content)
    rows = [line.split(",") for line in content.decode(errors="surrogateescape").split("\n")]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice((0, chance.randrange(len(rows))))
        row = rows[at] or [""]
        place = chance.randrange(len(row))
        what = chance.randrange(4)
        if what == 0:
            rows[at] = row[:place] + row[place + 1 :]
        elif what == 1:
            rows.insert(at, list(row))
        else:
            cell = chance.choice((*map(str, (*WHOLE, *REAL)), *NAMES, '"', '"a,b"', "'=1"))
            rows[at] = [*row[:place], cell, *row[place + 1 :]]
    return "\n".join(map(",".join, rows)).encode(errors="surrogatepass")


def mutated_lines(chance: Random, content: bytes) -> bytes:
    """One line of JSON lines."""
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    if chance.random() < 0.2:
        return mutated_bytes(chance, content)
    lines[at] = mutated_json(chance, lines[at]).replace(b"\n", b" ") if lines[at] else mutated_bytes(chance, b"{}")
    return b"\n".join(lines)


# ------------------------------------------------------------------------------------------ DICOM

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}
_KINDS = (b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OW PN SH SL SQ SS ST TM UI UL UN US UT xx").split()
_LENGTHS = (0, 1, 2, 3, 7, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = (
    b"0",
    b"-1",
    b"1e99",
    b"nan",
    b"inf",
    b"1\\2",
    b"",
    b"x",
    b"99999999999999999999",
    b"1e-320",
    b"65535",
    b" ",
)
_META_END = 132


@lru_cache(maxsize=256)
def _elements(content: bytes) -> tuple[tuple[int, int, int, bytes], ...]:
    """Where each element begins, where its value does, how long it is, and its type; Explicit VR Little Endian."""
    found, at = [], _META_END
    while at + 12 <= len(content):
        kind = content[at + 4 : at + 6]
        begins = at + (12 if kind in _LONG else 8)
        length = int.from_bytes(content[at + 8 : at + 12] if kind in _LONG else content[at + 6 : at + 8], "little")
        found.append((at, begins, length, kind))
        at = begins + length
        if length == _LENGTHS[-1]:
            break
    return tuple(found)


def mutated_dicom(chance: Random, content: bytes) -> bytes:
    """An element's value, length or type replaced, an element removed, doubled, nested or made up."""
    elements = _elements(content)
    if not elements or chance.random() < 0.2:
        return mutated_bytes(chance, content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        elements = _elements(content) or elements
        at, begins, length, kind = chance.choice(elements)
        length_at, size = (at + 8, 4) if kind in _LONG else (at + 6, 2)
        end, what = min(begins + length, len(content)), chance.randrange(8)
        if what == 0:
            content = content[:at] + content[end:]
        elif what == 1:
            content = content[:end] + content[at:end] + content[end:]
        elif what == 2:
            wrong = chance.choice(_LENGTHS) % 2 ** (8 * size)
            content = content[:length_at] + wrong.to_bytes(size, "little") + content[length_at + size :]
        elif what == 3:
            content = content[: at + 4] + chance.choice(_KINDS) + content[at + 6 :]
        elif what == 4:
            content = content[:at] + _made_up(chance) + content[at:]
        else:
            value = _value(chance, content[begins:end])
            value += b" " * (len(value) % 2)
            content = (
                content[:length_at]
                + (len(value) % 2 ** (8 * size)).to_bytes(size, "little")
                + (content[length_at + size : begins])
                + value
                + content[end:]
            )
    return content


def _value(chance: Random, value: bytes) -> bytes:
    what = chance.randrange(4)
    if what == 0:
        return chance.choice(_NUMBERS)
    if what == 1:
        return _packed(chance, chance.choice(("<H", "<I", "<d", "<h")))
    if what == 2:
        return chance.choice(NAMES).encode(errors="surrogatepass")[:60]
    return mutated_bytes(chance, value)[: 2**16]


def _made_up(chance: Random) -> bytes:
    """An element of any tag, or sequences in sequences."""
    if chance.random() < 0.5:
        tag = struct.pack("<HH", chance.choice((8, 0x18, 0x20, 0x28, 0x7FE0, 0x5200)), chance.randrange(2**16))
        return tag + b"LO" + struct.pack("<H", chance.choice((0, 4, 0xFFFE))) + b"text"
    nested = b""
    for _ in range(chance.choice((1, 5, 60))):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(nested)) + nested
        nested = b"\x08\x00\x40\x11" + b"SQ\0\0" + struct.pack("<I", len(item)) + item
    return nested


# ------------------------------------------------------------------------------------------ zip


def mutated_zip(chance: Random, content: bytes) -> bytes:
    """Bytes of the archive; or its members under other names, sizes, flags, and with other content."""
    if chance.random() < 0.4:
        return mutated_bytes(chance, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = chance.randrange(len(members)) if members else 0
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number, (name, data) in enumerate(members):
            info = zipfile.ZipInfo(name)
            if number == at:
                info.filename = chance.choice((name, *NAMES, "a/" * 50 + name, f"../{name}")).replace("\0", "_") or "x"
                info.external_attr = chance.choice(
                    (0, 0xA1FF0000, 0x41FF0000, 0x61FF0000)
                )  # a link, a folder, a device
                info.create_system = 3
                data = chance.choice((data, mutated_bytes(chance, data), b"/etc/passwd"))  # noqa: PLW2901 - one of them
            archive.writestr(info, data)
    return _flip(chance, result.getvalue()) if chance.random() < 0.2 else result.getvalue()


def packed_by(pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes], mutate: Mutation) -> Mutation:
    """A mutation of what is packed, packed again; now and then of the packed bytes."""

    def mutated(chance: Random, content: bytes) -> bytes:
        return mutated_bytes(chance, content) if chance.random() < 0.3 else pack(mutate(chance, unpack(content)))

    return mutated


def either(*mutations: Mutation) -> Mutation:
    """One of several."""

    def mutated(chance: Random, content: bytes) -> bytes:
        return chance.choice(mutations)(chance, content)

    return mutated
