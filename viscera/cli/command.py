"""What all commands have in common: settings as options, errors as one sentence, a display, and signals."""

import contextlib
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

import viscera
from viscera.cli.mirrored_arguments import mirrored, refuse_secret_arguments
from viscera.cli.terminal import Display, make_display, print_result
from viscera.core.errors import BadInputError, InterruptedRunError, VisceraError, case_error
from viscera.core.quantities import bytes_of, seconds_of

if TYPE_CHECKING:
    from viscera.core.config import Config
    from viscera.io.classes import ClassFile

Function = Callable[..., None]


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

    def choose_threads(self, as_before: int | None = None) -> None:
        """Compute on as many threads as the machine has free, or on as many as a run that goes on."""
        from viscera.engine.hardware import choose_threads  # noqa: PLC0415 - PyTorch is slow to load

        choose_threads(as_before)

    def say(self, text: str) -> None:
        """Print what is good to know of work that is done."""
        self.display.close()
        if not self.quiet:
            typer.echo(self.display.named(text))

    def result(self, text: str) -> None:
        """Print what the command was called for, as `print_result`."""
        self.display.close()
        print_result(self.display.named(text))


class _Command(TyperCommand):
    """Usage lines as everywhere: `viscera train [OPTIONS] STORE RUN`. An empty argument is refused: it would be `.`.

    So is a URL with a password in it, before a message repeats it.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        try:
            refuse_secret_arguments(args)
        except BadInputError as error:
            typer.echo(f"viscera: {error}", err=True)
            ctx.exit(error.exit_code)
        if any(not arg.strip() or re.fullmatch(r"--[\w-]+=\s*", arg) for arg in args):
            ctx.fail("an argument is empty. Is a variable not set? Give a path, or leave it out.")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]


class _Listed(TyperCommand):
    """A command in the list of commands: its arguments and options are made when it is called."""

    def __init__(self, whole: Callable[[], Any], **about: Any) -> None:  # noqa: ANN401 - of a command
        super().__init__(**about)
        self._whole = whole

    def make_context(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as a command's
        return self._whole().make_context(*arguments, **more)


def new_app(text: str) -> typer.Typer:
    """An app without commands; `-h` and its name alone show its help."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
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
                    function(call, **here)

        def listed() -> None: ...

        def whole() -> Any:  # noqa: ANN401 - a command of typer
            from viscera.cli.command_options import signature  # noqa: PLC0415 - the configuration

            run.__signature__ = found = signature(function, keys)  # type: ignore[attr-defined]
            run.__annotations__ = {each.name: each.annotation for each in found.parameters.values()}
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            alone.command(name, cls=_Command)(run)
            return typer.main.get_command(alone)

        app.command(name, cls=functools.partial(_Listed, whole), help=function.__doc__)(listed)  # type: ignore[arg-type]
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
    except KeyboardInterrupt:
        sentence = InterruptedRunError("interrupted.")
    finally:
        display.close()
    if sentence is not None:
        typer.echo(f"viscera: {sentence}", err=True)
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


# ---- arguments and options that several commands share, or that need more than a sentence

DataSet = Annotated[Path, "Folder of the labelled data set."]
Store = Annotated[Path, "A store that `viscera prepare` made."]
Layout = Annotated[
    str,
    "How the data set is laid out: auto finds out; or nnunet, msd, totalsegmentator, pairs, btcv, synapse8, "
    "synapse8-spleen-first, amos22, word, flare22, abdomenatlas1.0, abdomenatlas1.1, totalsegmentator-v1-map, "
    "totalsegmentator-v2-map.",
]
Classes = Annotated[Path | None, "YAML file that names the organs, instead of the paper's eight classes."]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="How many processes to use.")]
Launcher = Annotated[
    Literal["local", "ray"], "Where to compute: on this machine, or on a Ray cluster that reaches the same files."
]
Address = Annotated[str | None, "Of the Ray cluster, HOST:PORT or auto; by default one is started here."]
Part = Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Do one part of N alone, as job arrays do.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _above_zero(value: Any) -> Any:  # noqa: ANN401 - a number, several, or none
    numbers = value if isinstance(value, tuple | list) else [] if value is None else [value]
    if not all(0 < number < math.inf for number in numbers):
        raise typer.BadParameter("numbers above 0 were expected.")
    return value


def _quantity(read: Callable[[str], float]) -> Callable[[Any], Any]:
    """What makes a number of an option's text, or says what was expected."""

    def checked(value: str | None) -> float | None:
        try:
            return None if value is None else read(value)
        except BadInputError as error:
            raise typer.BadParameter(str(error)) from None

    return checked


def _whole_numbers(least: int) -> Callable[[Any], Any]:
    """What makes several numbers of an option's text, or says what was expected."""

    def checked(value: str) -> tuple[int, ...]:
        given = parts(value)
        if not given or not all(part.isdecimal() and int(part) >= least for part in given):
            raise typer.BadParameter(f"'{value}': whole numbers from {least} on were expected, such as 5,10.")
        return tuple(map(int, given))

    return checked


def _listed(value: str | None) -> Any:  # noqa: ANN401 - None, or names
    return None if value is None else parts(value)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"viscera {viscera.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
]
Shape = Annotated[
    tuple[int, int, int], typer.Option(callback=_above_zero, metavar="I J K", help="Voxels along each axis.")
]
VoxelSize = Annotated[
    float | None, typer.Option(callback=_above_zero, metavar="X", help="Voxel size in mm; by default the abdomen fits.")
]
Input = Annotated[
    Path | None,
    typer.Argument(metavar="INPUT", help="A scan, a folder of scans, or DICOM images in a folder or zip file."),
]
Output = Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="A folder, or a .nii.gz, .nrrd or .dcm file.")]
Budget = Annotated[
    Any,
    typer.Option(
        callback=_quantity(seconds_of), metavar="TIME", help="How long the training may take: 2h, 30m, 45s, 1d."
    ),
]
Memory = Annotated[
    Any,
    typer.Option(
        callback=_quantity(bytes_of), metavar="SIZE", help="Memory for it: 8GiB; by default most of what is free."
    ),
]
TestCases = Annotated[
    Any, typer.Option(callback=_whole_numbers(2), metavar="N,…", help="Numbers of test cases to look at.")
]
Trainings = Annotated[Any, typer.Option(callback=_whole_numbers(2), metavar="N,…", help="Numbers of seeds to look at.")]
Formats = Annotated[
    Any,
    typer.Option(
        "--format",
        callback=_listed,
        metavar="A,B",
        help="Files to write: nifti, dicom-seg, rtstruct, seg-nrrd; "
        "maps of each voxel beside these: probabilities, entropy.",
    ),
]


def class_file(path: Path | None) -> "ClassFile | None":
    """What `--classes` names."""
    from viscera.io.classes import read_class_file  # noqa: PLC0415 - so is nibabel

    return read_class_file(path) if path else None


def input_and_output(
    source: Path | None, output: Path | None, source_option: Path | None, output_option: Path | None
) -> tuple[Path, Path]:
    """INPUT and OUTPUT of `predict`, each given once: as an argument, or with -i or -o."""
    arguments = [path for path in (source, output) if path is not None]
    given = [option or (arguments.pop(0) if arguments else None) for option in (source_option, output_option)]
    if arguments:
        raise typer.BadParameter("give INPUT and OUTPUT once: as arguments, or with -i and -o")
    if given[0] is None or given[1] is None:
        raise typer.BadParameter("give INPUT and OUTPUT (or -i and -o)")
    return given[0], given[1]


@contextmanager
def spread(call: Call, launcher: str, address: str | None, *, wants_gpu: bool = False) -> Iterator[Any]:
    """Over what cases are spread, a `Spread`, whose module takes its time; None: over processes here.

    At the end, however it comes, what each node of a cluster has done is said.
    """
    if launcher == "local":
        yield None
        return
    from viscera.engine.on_ray import NodeTally, for_each_on_ray, ray_module  # noqa: PLC0415 - loads PyTorch

    ray_module()  # or say so now
    tally = NodeTally()
    try:
        yield functools.partial(for_each_on_ray, address=address, wants_gpu=wants_gpu, tally=tally)
    finally:
        if tally.seconds:
            call.display.note(tally.table())


def arms_on(launcher: str, address: str | None) -> Any:  # noqa: ANN401 - a `Launcher` of `study.launch`
    """Where the arms of a study are run; None: in processes here."""
    if launcher == "local":
        return None
    from viscera.engine.on_ray import ray_module  # noqa: PLC0415 - loads PyTorch
    from viscera.study.ray_launcher import launch_on_ray  # noqa: PLC0415

    ray_module()  # or say so now
    return functools.partial(launch_on_ray, address=address)
