"""What all commands have in common: settings as options, errors as one sentence, a display, and signals."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from viscera.cli.help_pages import WIDTH, ListOfCommands, OneCommand, text_and_examples
from viscera.cli.mirrored_arguments import mirrored
from viscera.cli.misplaced_arguments import refuse_misplaced
from viscera.cli.terminal import Display, make_display, print_result
from viscera.core.errors import InterruptedRunError, VisceraError, case_error
from viscera.core.machine_errors import is_lost_device, lacking
from viscera.core.safe_names import shown

if TYPE_CHECKING:
    from viscera.core.config import Config

Function = Callable[..., None]
_AFTER_CTRL_C = {  # of the commands that take long and have no checkpoint: what the same command does
    "phantom": ["Scans that are done are kept; the same command continues with the others."],
    "prepare": ["Cases that are done are kept; the same command continues with the others."],
    "predict": ["Scans that are done are kept; the same command continues with the others, unless with --overwrite."],
    "check": ["Nothing is kept; the same command begins again."],
}


@dataclass(frozen=True)
class Call:
    """What a command is called with beside its artifacts and its own options."""

    display: Display
    quiet: bool
    preset: str
    file: Path | None
    assignments: tuple[str, ...]
    options: Mapping[str, Any]  # dotted key to value of the settings given as options

    def config(self, base: Mapping[str, Any] | None = None) -> "Config":
        """The resolved configuration; `base` is what a run or study was made with, below all that is given."""
        from viscera.core.resolve import resolve_config  # noqa: PLC0415 - `viscera --help` needs none of it
        from viscera.io.records import read_yaml  # noqa: PLC0415

        values = read_yaml(self.file) if self.file else None
        return resolve_config(
            self.preset, values, self.assignments, self.options, base=base, found_in=str(self.file or "options")
        )

    def settings_given(self) -> frozenset[str]:
        """Dotted keys of the settings that `--set` and options name."""
        return frozenset({*self.options, *(each.partition("=")[0].strip() for each in self.assignments)})

    def choose_threads(self, as_before: int | None = None, *, deterministic: bool = False) -> None:
        """Compute on as many threads as the machine has free, or as a run that goes on; or on the same each time."""
        from viscera.engine.hardware import choose_threads  # noqa: PLC0415 - PyTorch is slow to load

        choose_threads(as_before, deterministic=deterministic)

    def say(self, text: str) -> None:
        """Print what is good to know of work that is done."""
        self.display.close()
        if not self.quiet:
            typer.echo(self.display.named(text))

    def result(self, text: str) -> None:
        """Print what the command was called for, as `print_result`."""
        self.display.close()
        print_result(self.display.named(text))


class _Listed(TyperCommand):
    """A command in the list of commands: its arguments and options are made when it is called."""

    def __init__(self, whole: Callable[[], Any], **about: Any) -> None:  # noqa: ANN401 - of a command
        super().__init__(**about)
        self._whole = whole

    def make_context(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as a command's
        return self._whole().make_context(*arguments, **more)


def new_app(text: str, epilog: str | None = None) -> typer.Typer:
    """An app without commands; `-h` and its name alone show its help."""
    return typer.Typer(
        cls=ListOfCommands,
        help=text,
        epilog=epilog,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    )


def command(
    app: typer.Typer, name: str, settings: str = "", writes: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Make a function a command of an app.

    Its first parameter is the `Call`; the others are artifacts and options of its own. Beside these the command has an
    option for each of `settings` (`train.patch train.filters`, and `preset`), which takes type, help and default from
    the configuration, and those that all have. `writes` are the parameters, all paths, whose files it writes: where
    these are URLs, its results are sent there.
    """
    keys = settings.split()

    def register(function: Function) -> Function:
        text, examples = text_and_examples(function.__doc__)

        @functools.wraps(function)
        def run(**given: Any) -> None:  # noqa: ANN401 - whatever the options hold
            given = {key: _expanded(value) for key, value in given.items()}
            values = {key: given.pop(key.rpartition(".")[2]) for key in keys}
            is_first = name != "train" or not _another_reports()
            quiet = given.pop("quiet") or not is_first
            display = make_display(quiet=quiet, log_json=given.pop("log_json"))
            call = Call(
                display,
                quiet,
                preset=values.pop("preset", "paper"),
                file=given.pop("config"),
                assignments=tuple(given.pop("set") or ()),
                options={key: value for key, value in values.items() if value is not None and value is not False},
            )
            with _explained(display, name), mirrored(name, {"file": call.file}, (), display, is_first=is_first) as own:
                call = replace(call, **own)
                call.config()  # settings that cannot be are refused by commands that need none, too
                with mirrored(name, given, writes, display, is_first=is_first) as here:
                    refuse_misplaced(name, here)
                    function(call, **here)

        def listed() -> None: ...

        def whole() -> Any:  # noqa: ANN401 - a command of typer
            from viscera.cli.command_options import signature  # noqa: PLC0415 - the configuration

            run.__signature__ = found = signature(function, keys)  # type: ignore[attr-defined]
            run.__annotations__ = {each.name: each.annotation for each in found.parameters.values()}
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            alone.command(name, cls=OneCommand, help=text, epilog=examples)(run)
            return typer.main.get_command(alone)

        app.command(name, cls=functools.partial(_Listed, whole), help=text)(listed)  # type: ignore[arg-type]
        return function

    return register


@contextmanager
def _explained(display: Display, name: str) -> Iterator[None]:
    """Show as one sentence what users can act on, and end with its exit code; everything else is a defect of ours."""
    sentence: VisceraError | None = None
    try:
        yield
    except (VisceraError, OSError, MemoryError) as error:
        sentence = case_error(name, error)
    except (RuntimeError, ImportError) as error:
        if not lacking(error) and not is_lost_device(error):
            raise
        sentence = case_error(name, error)
    except KeyboardInterrupt:
        sentence = InterruptedRunError(" ".join(("interrupted.", *_AFTER_CTRL_C.get(name, ()))))
    finally:
        display.close()
    if sentence is not None:
        typer.echo(shown(f"viscera: {sentence}").replace("\n", r"\n"), err=True)
        sys.exit(sentence.exit_code)


def _another_reports() -> bool:
    """Whether this is one of several processes of a training and not the first (`engine.distributed`)."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _expanded(value: Any) -> Any:  # noqa: ANN401 - any option's value
    """A path with its `~` replaced, which shells leave in `--out=~/folder`."""
    if isinstance(value, Path) and value.parts[:1] and value.parts[0].startswith("~"):
        with contextlib.suppress(OSError, RuntimeError):  # too long a name; no such user
            return value if value.exists() else value.expanduser()
    return value


def parts(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
