"""Names from files: inside their folder, harmless on a terminal, no formulas in a table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscera.core.safe_names import as_cell, from_cell, is_file_name, is_within, shown

NAMES = ["case_1", "s0011", "Müller 3 (b)", ".hidden", "a..b", "..a", "x" * 255, "=1+1", "<b>"]
NO_NAMES = [
    "",
    ".",
    "..",
    "a/b",
    "a\\b",
    "../x",
    "/etc/passwd",
    "C:\\x",
    "a\nb",
    "a\0b",
    "\x1b[31m",
    "x" * 256,
    "\ud800",
]


def test_what_can_be_a_file_in_its_folder() -> None:
    assert [name for name in NAMES if not is_file_name(name)] == []
    assert [name for name in [*NO_NAMES, None, 3, b"x", ["a"]] if is_file_name(name)] == []
    assert is_file_name("x\udce4")  # a byte that is no UTF-8, as Python has it in names


def test_what_is_within_a_folder() -> None:
    assert all(map(is_within, ["a", "a/b.pt", "models/x/y"]))
    assert not any(map(is_within, [*NO_NAMES[:3], "a/../b", "/a", "a/", "a//b", "a/./b", "a\\..\\b", None, {}]))


def test_a_terminal_is_told_nothing() -> None:
    assert shown("\x1b[31mred\x1b]0;title\x07") == r"\x1b[31mred\x1b]0;title\x07"
    assert shown("a\rb\x9b1m\x00") == r"a\rb\x9b1m\x00"
    assert shown("abc\u202efdp.exe\u2066") == r"abc\u202efdp.exe\u2066"
    assert shown("Größe 5 µm – 3×3\n\tok ✓") == "Größe 5 µm – 3×3\n\tok ✓"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(A1)", "+A1", "-A1", "=cmd|' /C calc'!A0", "'=1", "''=1", "a;=1+1", "a\t@x", "x\r\n=1", "-", "="],
)
def test_no_text_of_a_table_is_a_formula(text: str) -> None:
    cell = as_cell(text)
    assert isinstance(cell, str)
    assert from_cell(cell) == text
    for part in cell.replace("\r", ";").replace("\n", ";").replace("\t", ";").split(";"):
        assert not part.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize(
    "value", ["-1.5", "+2", "-inf", "1e-5", "", "case_1", "don't", "'quoted'", 3, -2.5, None, "a=b", "x-1"]
)
def test_numbers_and_other_texts_stay_as_they_are(value: object) -> None:
    assert as_cell(value) == value
    if isinstance(value, str):
        assert from_cell(value) == value


@settings(max_examples=60)
@given(st.text(st.sampled_from("'=+-@;\t\r\n1a "), max_size=8))
def test_what_was_written_is_read_again(text: str) -> None:
    cell = as_cell(text)
    assert isinstance(cell, str)
    assert from_cell(cell) == text or cell == text  # numbers stay as they are
    assert from_cell(cell) == text
