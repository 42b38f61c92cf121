r"""Names that come from files, and may become part of a path: a manifest or a `dataset.json` can say anything."""

import os
import re

_MOST_BYTES = 255  # of a name, on all file systems in use
_NOT_IN_A_NAME = re.compile(r"[/\\\0-\x1f\x7f]")


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
