"""Options that several commands share."""

import functools
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, ParamSpec

import typer
import typer.core

from viscera.core.barrier import case_error
from viscera.core.errors import VisceraError

P = ParamSpec("P")
_NOTHING_GIVEN = re.compile(r"--[\w-]+=\s*")

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML of settings.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, for example train.levels=3.")
]
ClassFileOption = Annotated[
    Path | None, typer.Option("--classes", metavar="FILE", help="YAML of the classes (default: the paper's eight).")
]
Partial = Annotated[bool, typer.Option("--partial", help="Take a data set that does not label all organs.")]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Of the data set: auto, or nnunet, msd, totalsegmentator, pairs, btcv, synapse8, synapse8-spleen-first, "
        "amos22, word, flare22, abdomenatlas1.0, abdomenatlas1.1, totalsegmentator-v1-map, totalsegmentator-v2-map.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Progress as JSON lines on standard error.")]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="paper, demo or balanced.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda …")]


class Commands(typer.core.TyperGroup):
    """All commands; an empty argument, as of a variable that is not set, is refused: as a path it would be `.`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """As Click does."""
        if any(not arg.strip() or _NOTHING_GIVEN.fullmatch(arg) for arg in args):
            raise typer.BadParameter(
                "an argument is empty. Is a variable not set? Give a path, or leave it out.", ctx=ctx
            )
        return super().parse_args(ctx, args)


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Show as one sentence what users can act on, and end with its exit code; everything else is a defect of ours."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (VisceraError, OSError, MemoryError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # the reader of what we print is gone, which Click knows how to end
            sentence = case_error(command.__name__.replace("_", "-"), error)
            typer.echo(f"viscera: {sentence}", err=True)
            sys.exit(sentence.exit_code)
        except KeyboardInterrupt:
            typer.echo("viscera: interrupted.", err=True)
            sys.exit(130)

    return wrapper


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        typer.echo("viscera: stopping after this step; a checkpoint will be written.", err=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def end_on_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does, so that unpacked scans and half files are removed."""

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would cut the cleaning up short
        raise SystemExit(128 + number)

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
