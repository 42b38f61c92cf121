"""What the user sees while something runs: bars on a terminal, plain lines in a log, JSON on request, or nothing."""

import dataclasses
import json
import logging
import math
import time
from types import TracebackType
from typing import Any, Protocol, Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from viscera.core.progress import Progress

_SECONDS_BETWEEN_LINES = 10.0


class Display(Protocol):
    """Shows how far each of several jobs is."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show how far a job is."""
        ...

    def note(self, text: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Say a line of its own."""
        ...


def make_display(*, quiet: bool, log_json: bool) -> Display:
    """The display that fits the options and the terminal; everything goes to standard error."""
    console = Console(stderr=True)
    display: Display
    if log_json:
        display = JsonLines(console)
    elif quiet:
        display = Silence()
    else:
        display = Bars(console) if console.is_terminal else Lines(console)
    handler = logging.StreamHandler() if isinstance(display, Silence) else _LogToDisplay(display)
    level = logging.ERROR if isinstance(display, Silence) else logging.WARNING
    logging.basicConfig(handlers=[handler], format="%(message)s", level=level, force=True)
    return display


class Silence:
    """Nothing but errors and results."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show nothing."""

    def note(self, text: str, **facts: Any) -> None:  # noqa: ANN401 - as Display
        """Show nothing."""


class JsonLines:
    """One JSON object a line, for programs."""

    def __init__(self, console: Console) -> None:
        self._file = console.file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """An object with `job`, `done`, `total`, `detail`, `time`."""
        self._write(dataclasses.asdict(progress))

    def note(self, text: str, **facts: Any) -> None:  # noqa: ANN401 - as Display
        """An object with `note` and the facts."""
        self._write({"note": text, **facts})

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps({"time": round(time.time(), 3), **value}) + "\n")
        self._file.flush()


class Lines:
    """Plain lines, a few a minute for each job: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """A line when the job ends, or when its last line is some seconds old."""
        job, done, total = progress.job, progress.done, progress.total
        now = time.monotonic()
        started, first = self._started.setdefault(job, (now, done))
        last = self._shown.setdefault(job, now)
        if done == total or now - last >= _SECONDS_BETWEEN_LINES:
            rate = (done - first) / (now - started) if now > started else 0.0
            left = (total - done) / rate if rate else math.nan
            time_left = f", {_duration(left)} left" if done < total and math.isfinite(left) else ""
            self._print(f"{job}: {done}/{total}{time_left}{'  ' * bool(progress.detail)}{progress.detail}")
            self._shown[job] = now

    def note(self, text: str, **facts: Any) -> None:  # noqa: ANN401, ARG002 - as Display
        """The text."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """One bar a job, with rate and time left."""

    def __init__(self, console: Console) -> None:
        self._bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, progress: Progress) -> None:
        """Move the job's bar."""
        job, done, total, detail = dataclasses.astuple(progress)
        if job not in self._tasks:
            self._tasks[job] = self._bars.add_task(job, total=total, detail=detail)
        self._bars.update(self._tasks[job], completed=done, total=total, detail=detail)

    def note(self, text: str, **facts: Any) -> None:  # noqa: ANN401, ARG002 - as Display
        """The text, above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _LogToDisplay(logging.Handler):
    """Warnings of the library become notes; a defect of ours is shown with its traceback."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Show the message."""
        self._display.note(f"Note: {self.format(record)}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
