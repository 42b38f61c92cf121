"""Small records as people write them."""

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from viscera.core.errors import BadInputError
from viscera.io.records import is_table, read_csv, read_json, read_yaml, write_json, write_yaml

READERS: list[tuple[Callable[[Path], Any], str]] = [
    (read_json, '{"é": 1}'),
    (read_yaml, "é: 1"),
    (read_csv, "é,b\n1,x\n"),
]
MARKS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"", "utf-8"),
]


@pytest.mark.parametrize(("reader", "text"), READERS)
@pytest.mark.parametrize(("mark", "encoding"), MARKS)
def test_a_byte_order_mark_is_no_part_of_the_content(
    tmp_path: Path, reader: Callable[[Path], Any], text: str, mark: bytes, encoding: str
) -> None:
    """Notepad and PowerShell write such."""
    (tmp_path / "a").write_bytes(mark + text.encode(encoding))
    expected = [{"é": "1", "b": "x"}] if reader is read_csv else {"é": 1}
    assert reader(tmp_path / "a") == expected


@pytest.mark.parametrize("reader", [read_json, read_yaml, read_csv])
def test_what_cannot_be_read_names_the_file(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    with pytest.raises(BadInputError, match=r"b\.x: there is no such file"):
        reader(tmp_path / "b.x")
    with pytest.raises(BadInputError, match="cannot be read"):
        reader(tmp_path)
    (tmp_path / "c.x").write_bytes(codecs.BOM_UTF16_LE + b"a")  # half a character
    with pytest.raises(BadInputError, match=r"c\.x: this is not UTF-8 text"):
        reader(tmp_path / "c.x")


@pytest.mark.parametrize("text", ["{", '{"liver": 1, "liver": 2}', "[" * 100_000, "1" * 5000])
def test_bad_json_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInputError, match=r"a\.json: this is not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text", ["labels: {liver: 1, liver: 2}", "a: 2024-13-45", "a: [", "[" * 1500, "- " * 100_000, "a: \a"]
)
def test_bad_yaml_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(BadInputError, match=r"a\.yaml: this is not valid YAML"):
        read_yaml(tmp_path / "a.yaml")


def test_a_yaml_merge_may_repeat_keys(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one: &o {a: 1, b: 2}\ntwo: {<<: *o, a: 3}\n")
    assert read_yaml(tmp_path / "a.yaml")["two"] == {"a": 3, "b": 2}


def test_tables_are_separated_by_what_their_first_line_has(tmp_path: Path) -> None:
    for mark in ",;\t":
        (tmp_path / "a.csv").write_text(f'case{mark}reason\r\n"x{mark}y"{mark}"two\nlines"\r\n\r\ncut')
        assert read_csv(tmp_path / "a.csv") == [{"case": f"x{mark}y", "reason": "two\nlines"}, {"case": "cut"}]
    (tmp_path / "a.csv").write_text("")
    assert read_csv(tmp_path / "a.csv") == []
    (tmp_path / "a.csv").write_bytes(b"case\n\xff\n")  # a file name that is no UTF-8
    assert read_csv(tmp_path / "a.csv") == [{"case": "\udcff"}]
    assert is_table(tmp_path / "a.csv", ["case"])
    assert not is_table(tmp_path / "a.csv", ["case", "reason"])


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_what_the_shell_has_opened_is_read_and_a_pipe_by_name_is_not_waited_for(tmp_path: Path) -> None:
    """`--config <(command)` is a pipe that has a writer; one in a folder may never get one."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"a: 1")
        os.close(writing)
        assert read_yaml(Path(f"/dev/fd/{reading}")) == {"a": 1}
    finally:
        os.close(reading)
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(BadInputError, match=r"a\.yaml: this is a pipe"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("byte", [0x80, 0xC3, 0xF6, 0xFF])
def test_names_of_files_that_are_no_utf_8_come_back_as_they_were(tmp_path: Path, byte: int) -> None:
    name = os.fsdecode(b"st" + bytes([byte]) + b"re \\u \xc3\xb6")
    value = {"store": name, "of": [{name: r"\uDCF6 \\uDCF6"}], "none": None, "é": 1}
    write_yaml(tmp_path / "a.yaml", value)
    assert read_yaml(tmp_path / "a.yaml", ours=True) == value
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
