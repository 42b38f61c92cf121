r"""Names that come from files: which may become part of a path, and how any text is shown on a terminal or in a table.

A manifest, a `dataset.json` or a record can say anything. What becomes a path stays in its folder; what is printed is
text and no command to the terminal; what stands in a table is text and no formula of a spreadsheet.
"""

import os
import re

_MOST_BYTES = 255  # of a name, on all file systems in use
_NOT_IN_A_NAME = re.compile(r"[/\\\0-\x1f\x7f]")
# C0 and C1 but for tabulator and line feed; marks that turn the direction of text round; line and paragraph separators
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# where spreadsheets see the beginning of one: of a cell, also where they take another separator than the comma
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))'*(?=[=+\-@])")
_TEXT = re.compile(r"(?:^|(?<=[;\t\r\n]))'('*)(?=[=+\-@])")


def is_file_name(text: object) -> bool:
    r"""Whether a text can be the name of a file or folder: one part of a path, without `/`, `\` and control characters.

    No `.` or `..`, and no more than 255 bytes.
    """
    if not isinstance(text, str) or text in {"", ".", ".."} or _NOT_IN_A_NAME.search(text):
        return False
    try:
        return len(os.fsencode(text)) <= _MOST_BYTES
    except UnicodeEncodeError:  # half a character
        return False


def is_within(text: object) -> bool:
    """Whether a text is a relative path, with `/`, to something in a folder or in folders of it."""
    return isinstance(text, str) and all(map(is_file_name, text.split("/")))


def shown(text: str) -> str:
    r"""A text for a terminal: control characters, ANSI escapes and marks of direction as `\x1b`, lines as they are."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def as_cell(value: object) -> object:
    """A value for a table: what a spreadsheet would compute has a `'` before it; `from_cell` takes it away again."""
    if not isinstance(value, str) or not _FORMULA.search(value) or _is_number(value):
        return value
    return _FORMULA.sub(r"'\g<0>", value)


def from_cell(text: str) -> str:
    """What `as_cell` was given."""
    return _TEXT.sub(r"\1", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
