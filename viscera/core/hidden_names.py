"""Names that are not to be told: whatever is logged, or raised, while they are hidden says others in their place."""

import logging
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from viscera.core.errors import VisceraError

_SAY_NOTHING = re.compile(r"\d{0,3}|\W*|.")  # names that are words or numbers of any sentence; in paths they are hidden
_OTHERS = "…"


class HiddenNames:
    """Names of cases, files and folders, and what is said instead; paths that begin with a hidden place lose it."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._later: list[Callable[[], Iterable[str]]] = []

    def add_place(self, place: Path, instead: str) -> None:
        """Hide where a file or folder lies, however a message may write that."""
        for form in (place, place.absolute(), place.resolve()):
            if len(form.parts) > 1 or form.is_absolute():
                self._add(str(form), instead)

    def add_names(self, names: Mapping[str, str]) -> None:
        """Hide these names, but for those that no sentence could do without: single letters, short numbers."""
        for name, instead in names.items():
            if not _SAY_NOTHING.fullmatch(name):
                self._add(name, instead)

    def add_others(self, find: Callable[[], Iterable[str]]) -> None:
        """Hide names for which nothing else is known; they are found when there is the first text to hide them in."""
        self._later.append(find)

    def _add(self, name: str, instead: str) -> None:
        for form in ("NFC", "NFD"):
            self._said[unicodedata.normalize(form, name)] = instead

    def told(self, text: str) -> str:
        """A text without them."""
        while self._later:
            names = self._later.pop()()
            self.add_names({name: _OTHERS for name in names if unicodedata.normalize("NFC", name) not in self._said})
        there = sorted((name for name in self._said if name in text), key=len, reverse=True)
        if not there:
            return text
        pattern = "|".join(map(re.escape, there))  # longest first
        return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: self._said[found[0]], text)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Within, messages to the log have them not, nor has an error that leaves."""
        loggers, hiding = [logging.getLogger(name) for name in ("", "viscera")], _Hiding(self)
        handlers = [handler for logger in loggers for handler in logger.handlers]
        handlers += [logging.lastResort] if logging.lastResort else []
        for handler in handlers:
            handler.addFilter(hiding)
        try:
            yield
        except VisceraError as error:
            raise type(error)(self.told(str(error))) from None  # with it go the errors that it came from
        except Exception as error:
            self._mend(error)
            raise
        finally:
            for handler in handlers:
                handler.removeFilter(hiding)

    def _mend(self, error: BaseException | None) -> None:
        """Hide them in an error of another kind, and in those that it came from."""
        while error is not None:
            error.args = tuple(self._instead(each) for each in error.args)
            if isinstance(error, OSError):
                error.filename = self._instead(error.filename)
                if error.filename2 is not None:
                    error.filename2 = self._instead(error.filename2)
            error = error.__cause__ or error.__context__

    def _instead(self, value: Any) -> Any:  # noqa: ANN401 - whatever an error or a message was made of
        if isinstance(value, bytes | int | float) or value is None:
            return value
        text = str(value)
        told = self.told(text)
        return value if told == text else told

    def tell_in(self, record: logging.LogRecord) -> None:
        """Hide them in a message to the log; its wording stays apart from what it is about."""
        record.msg = self._instead(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(self._instead(each) for each in record.args)
        elif record.args:
            record.msg, record.args = self.told(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            record.exc_info = None
        if record.exc_text:
            record.exc_text = self.told(record.exc_text)


class _Hiding(logging.Filter):
    """Passes every message, without hidden names."""

    def __init__(self, names: HiddenNames) -> None:
        super().__init__()
        self._names = names

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass."""
        self._names.tell_in(record)
        return True
