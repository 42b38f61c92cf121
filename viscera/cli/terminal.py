"""What the user sees while something runs, and the signals that end it.

Bars on a terminal, plain lines in a log, JSON on request, or nothing.
Nothing of it disturbs the work: a full disk, a terminal that was closed, a pipe whose reader has gone.
"""

import contextlib
import dataclasses
import io
import json
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

import typer

from viscera.cli.grouped_notes import GroupedNotes
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.safe_names import shown

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 10.0
_HANGUP = [getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name)]  # Windows has none


class LossyFile(io.FileIO):
    """A standard stream: what cannot be written is dropped, and the reason is kept."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """As that of a file, but it never raises, and waits where the other end is slow."""
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            select.select((), (self,), ())
            return self.write(data)
        except OSError as error:
            self.failure = error
            return memoryview(data).nbytes


def open_streams() -> None:
    """Let standard output and error take whatever is written, also where they are closed or nobody reads them.

    A file that is opened while one of the three standard numbers is free would get it, and all that is printed.
    What the encoding lacks is written with backslashes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _lossy(sys.stdout, 1), _lossy(sys.stderr, 2)


def _lossy(stream: TextIO | None, number: int) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
        with contextlib.suppress(OSError):
            number = number if stream.fileno() == number else -1
    below = getattr(stream, "buffer", None)
    if stream is not None and (number < 0 or not isinstance(below, io.BufferedWriter | io.FileIO)):
        return stream  # one that somebody put there: a test, a notebook
    file = LossyFile(number, "w", closefd=False)
    encoding = stream.encoding if stream is not None else "utf-8"
    at_once = number == 2 or file.isatty() or isinstance(below, io.FileIO)
    return io.TextIOWrapper(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=at_once)


def print_result(text: str) -> None:
    """Print what a command was called for; a `BadInputError` where that fails, but not for a reader gone, as `head`."""
    typer.echo(text)
    sys.stdout.flush()
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = file.failure if isinstance(file, LossyFile) else None
    if failure is not None and not isinstance(failure, BrokenPipeError):
        raise BadInputError(f"Standard output cannot be written to ({failure.strerror}). Send it somewhere else.")


class Display:
    """Shows how far each of several jobs is, and notes; this one no progress, if quiet only errors. Never raises."""

    quiet = False
    addresses: Mapping[str, str] = MappingProxyType({})  # folders that mirror URLs: the latter are shown
    finish_notes: Callable[[], None] = staticmethod(lambda: None)  # say what was kept back of them

    def named(self, text: str) -> str:
        """A text with the names by which the user knows files, and nothing that a terminal would obey."""
        for folder, url in self.addresses.items():
            text = text.replace(folder, url)
        return shown(text)

    def update(self, progress: Progress) -> None:
        """Show how far a job is: an `OnProgress`."""
        with contextlib.suppress(Exception):
            job, detail = (self.named(text).replace("\n", r"\n") for text in (progress.job, progress.detail))
            self._update(dataclasses.replace(progress, job=job, detail=detail))

    def note(self, text: str) -> None:
        """Say a line of its own."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Say what went wrong, also where the user wants to see nothing else."""
        with contextlib.suppress(Exception):
            self._write(self.named(text))

    def close(self) -> None:
        """Leave the terminal to others, after the notes that were kept back."""
        self.finish_notes()

    def _update(self, progress: Progress) -> None: ...

    def _write(self, text: str) -> None:
        typer.echo(text, err=True)


def make_display(*, quiet: bool, log_json: bool) -> Display:
    """The display that fits the options and the terminal; everything goes to standard error, warnings too."""
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of it

    console = Console(stderr=True)
    display = Display()
    display.quiet = quiet
    if log_json:
        display = JsonLines()
    elif not quiet:
        display = Bars(console) if console.is_terminal and not console.is_dumb_terminal else Lines()
    notes = GroupedNotes(display.note, display.error, all_of_them=log_json)
    display.finish_notes = notes.finish
    logging.basicConfig(handlers=[notes], format="%(message)s", level=logging.WARNING, force=True)
    return display


class JsonLines(Display):
    """One JSON object a line, for programs: `job`, `done`, `total` and `detail`; or `note`; and the `time`."""

    def _update(self, progress: Progress) -> None:
        self._write_object(dataclasses.asdict(progress))

    def _write(self, text: str) -> None:
        self._write_object({"note": text})

    def _write_object(self, value: dict[str, Any]) -> None:
        typer.echo(json.dumps({"time": round(time.time(), 3), **value}), err=True)


class Lines(Display):
    """Plain lines, a few a minute for each job: for logs and pipes."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}
        self._shown: dict[str, float] = {}

    def _update(self, progress: Progress) -> None:
        """A line when the job ends, or when its last line is some seconds old."""
        job, done, total, detail = dataclasses.astuple(progress)
        now = time.monotonic()
        started, first = self._started.setdefault(job, (now, done))
        if done == total or now - self._shown.setdefault(job, now) >= _SECONDS_BETWEEN_LINES:
            left = math.ceil((total - done) * (now - started) / (done - first)) if done > first else 0
            time_left = f", {timedelta(seconds=left)} left" if left else ""
            self._write(f"{job}: {done}/{total}{time_left}{'  ' * bool(detail)}{detail}")
            self._shown[job] = now


class Bars(Display):
    """One bar a job, with rate and time left."""

    def __init__(self, console: "Console") -> None:
        from rich import progress as bars  # noqa: PLC0415 - `--help` needs none of it

        self._bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left", style="dim"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[detail]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, bars.TaskID] = {}

    def close(self) -> None:
        """Take the bars away."""
        super().close()
        with contextlib.suppress(Exception):
            self._bars.stop()

    def _update(self, progress: Progress) -> None:
        job, done, total, detail = dataclasses.astuple(progress)
        if job not in self._tasks:
            self._bars.start()
            self._tasks[job] = self._bars.add_task(job, total=total, detail=detail)
        self._bars.update(self._tasks[job], completed=done, total=total, detail=detail)

    def _write(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C, SIGTERM or closed terminal (but for nohup) sets; a second Ctrl-C interrupts."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        typer.echo("viscera: stopping after this step; a checkpoint will be written.", err=True)

    hangup = [each for each in _HANGUP if signal.getsignal(each) is signal.SIG_DFL]
    with _handled([signal.SIGINT, signal.SIGTERM, *hangup], handle):
        yield stop


@contextmanager
def end_on_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does, so that unpacked scans and half files are removed."""

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would cut the cleaning up short
        raise SystemExit(128 + number)

    numbers = [each for each in (signal.SIGTERM, *_HANGUP) if signal.getsignal(each) is signal.SIG_DFL]
    with _handled(numbers, handle):
        yield


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
