"""Warnings of the library as notes for the user: of equal ones about many cases the first few, the others together."""

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

_SHOWN = 2  # of a kind
_NAMED = 5
_ARGUMENT = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z%]")  # of a format


@dataclass
class _Kind:
    """Notes of one wording."""

    texts: set[str] = field(default_factory=set)
    hidden: list[str] = field(default_factory=list)  # what they are about, as far as they say


class GroupedNotes(logging.Handler):
    """Shows warnings as notes and errors with their traceback.

    Of warnings in the same words about several things (`%s: its values …`) the first two are shown at once, and of the
    others at the end how many there are, and of what. A text that was shown is not repeated.
    """

    def __init__(self, note: Callable[[str], None], error: Callable[[str], None], *, all_of_them: bool = False) -> None:
        super().__init__(logging.WARNING)
        self._note, self._error = note, error
        self._shown = 10**9 if all_of_them else _SHOWN
        self._kinds: dict[str, _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Show the message now, or keep it for the end."""
        with contextlib.suppress(Exception):  # a message that does not fit its arguments
            if record.levelno >= logging.ERROR:
                self._error(f"Note: {self.format(record)}")
                return
            text = f"Note: {_message(record)}"
            kind = self._kinds.setdefault(str(record.msg), _Kind())
            if text in kind.texts and self._shown == _SHOWN:
                return
            if len(kind.texts) < self._shown:
                self._note(text)
            else:
                kind.hidden.append(_about(record.args))
            kind.texts.add(text)

    def finish(self) -> None:
        """Say how many notes of each kind were not shown."""
        with contextlib.suppress(Exception):
            for kind in self._kinds.values():
                if kind.hidden:
                    named = [each for each in kind.hidden if each]
                    more = len(kind.hidden) - len(named[:_NAMED])
                    of = ", ".join([*named[:_NAMED], *([f"and {more} more"] if more else [])])
                    self._note(f"Note: the same for {of}." if named else f"Note: {more} more notes like the last ones.")
            self._kinds.clear()


def _message(record: logging.LogRecord) -> str:
    """A line for each of the message's own: names with line breaks are on one; what begins a line may be a table."""
    if not isinstance(record.args, tuple) or not record.args:
        return record.getMessage().replace("\n", r"\n")
    message = str(record.msg)
    starts = [found.start() for found in _ARGUMENT.finditer(message) if found[0] != "%%"]
    return message % tuple(
        str(value).replace("\n", r"\n") if isinstance(value, str | PurePath) and message[:start][-1:] != "\n" else value
        for start, value in zip(starts, record.args, strict=True)
    )


def _about(arguments: Any) -> str:  # noqa: ANN401 - what a record holds
    """The file or case that a warning begins with; empty where it does not say."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else ""
    return str(first) if isinstance(first, str) or hasattr(first, "__fspath__") else ""
