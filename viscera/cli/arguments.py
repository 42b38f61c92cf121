"""Arguments and options that several commands share, or that need more than a sentence."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import viscera
from viscera.cli.command import Call, parts
from viscera.core.addresses import url_of
from viscera.core.errors import BadInputError
from viscera.core.quantities import bytes_of, seconds_of

if TYPE_CHECKING:
    from viscera.io.classes import ClassFile

DataSet = Annotated[Path, "Folder of the labelled data set."]
Store = Annotated[Path, "A store that `viscera prepare` made."]
Layout = Annotated[
    str,
    "Layout of the data set: auto recognises it; otherwise nnunet, msd, totalsegmentator, pairs, btcv, synapse8, "
    "synapse8-spleen-first, amos22, word, flare22, abdomenatlas1.0, abdomenatlas1.1, totalsegmentator-v1-map, "
    "totalsegmentator-v2-map.",
]
Classes = Annotated[Path | None, "YAML file that names the organs; by default the paper's eight classes."]
KnownClasses = Annotated[
    Path | None,
    "YAML file that names the organs; by default those of the store, or those that the predictions name, else the "
    "paper's eight classes.",
]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes.")]
Launcher = Annotated[
    Literal["local", "ray"], "Where to compute: on this machine, or on a Ray cluster that reaches the same files."
]
Address = Annotated[
    str | None, "Address of the Ray cluster, HOST:PORT or auto; by default one is started on this machine."
]
Part = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Do only part I of N, as in a job array; by default all.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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


def _of_this_machine(value: Path | None) -> Path | None:
    if value is not None and url_of(value) is not None:
        raise typer.BadParameter(f"{value}: a file of this machine was expected, which is kept apart from the results.")
    return value


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
    tuple[int, int, int], typer.Option(callback=_above_zero, metavar="I J K", help="Number of voxels along each axis.")
]
VoxelSize = Annotated[
    float | None,
    typer.Option(
        callback=_above_zero, metavar="X", help="Voxel size in mm; by default such that the whole abdomen fits."
    ),
]
Input = Annotated[
    Path | None,
    typer.Argument(metavar="INPUT", help="A scan, a folder of scans, or DICOM images in a folder or zip file."),
]
Output = Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="A folder, or a .nii.gz, .nrrd or .dcm file.")]
Budget = Annotated[
    Any,
    typer.Option(
        callback=_quantity(seconds_of),
        metavar="TIME",
        help="Time that the training may take: 2h, 30m, 45s or 1d; by default 2h.",
    ),
]
Memory = Annotated[
    Any,
    typer.Option(
        callback=_quantity(bytes_of),
        metavar="SIZE",
        help="Memory that the training may take, such as 8GiB; by default most of what is free.",
    ),
]
TestCases = Annotated[
    Any, typer.Option(callback=_whole_numbers(2), metavar="N,…", help="Numbers of test cases to consider.")
]
Trainings = Annotated[
    Any, typer.Option(callback=_whole_numbers(2), metavar="N,…", help="Numbers of seeds to consider.")
]
Formats = Annotated[
    Any,
    typer.Option(
        "--format",
        callback=_listed,
        metavar="A,B",
        help="Files to write: nifti, dicom-seg, dicom-seg-labelmap, rtstruct, seg-nrrd; beside these, maps of each "
        "voxel: probabilities, entropy. By default nifti, or what the name of OUTPUT asks for.",
    ),
]
Forms = Annotated[
    Any,
    typer.Option(
        "--to",
        callback=_listed,
        metavar="A,B",
        help="Formats to export to: onnx, monai-bundle, safetensors, slicer. Several are written into a folder each.",
    ),
]


KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--pseudonyms",
        callback=_of_this_machine,
        metavar="KEYFILE",
        help="Key file, made where there is none: cases get pseudonyms; by default they are called by their names.",
    ),
]
UsedKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--pseudonyms",
        callback=_of_this_machine,
        metavar="KEYFILE",
        help="Key file by which the cases have pseudonyms; by default they are called by their names.",
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
