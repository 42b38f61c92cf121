"""Arguments and options that several commands share, or that need more than a sentence.

A text as annotation is the help of an argument, or of an option where there is a default.
"""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

import viscera
from viscera.io.classes import ClassFile, read_class_file

DataSet = Annotated[Path, "Folder of the labelled data set."]
Store = Annotated[Path, "A store that `viscera prepare` made."]
Layout = Annotated[
    str,
    "How the data set is laid out: auto finds out; or nnunet, msd, totalsegmentator, pairs, btcv, synapse8, "
    "synapse8-spleen-first, amos22, word, flare22, abdomenatlas1.0, abdomenatlas1.1, totalsegmentator-v1-map, "
    "totalsegmentator-v2-map.",
]
Classes = Annotated[Path | None, "YAML file that names the organs, instead of the paper's eight classes."]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _above_zero(value: Any) -> Any:  # noqa: ANN401 - a number, several, or none
    numbers = value if isinstance(value, tuple | list) else [] if value is None else [value]
    if not all(0 < number < math.inf for number in numbers):
        raise typer.BadParameter("numbers above 0 were expected.")
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
Formats = Annotated[
    Any,
    typer.Option(
        "--format", callback=_listed, metavar="A,B", help="Files to write: nifti, dicom-seg, rtstruct, seg-nrrd."
    ),
]


def class_file(path: Path | None) -> ClassFile | None:
    """What `--classes` names."""
    return read_class_file(path) if path else None


def input_and_output(
    source: Path | None, output: Path | None, source_option: Path | None, output_option: Path | None
) -> tuple[Path, Path]:
    """INPUT and OUTPUT of `predict`, each given once: as an argument, or with -i or -o."""
    if source_option is not None and source is not None and output is None:
        source, output = None, source  # `-i IN OUT`
    if (source and source_option) or (output and output_option):
        raise typer.BadParameter("give INPUT and OUTPUT once: as arguments, or with -i and -o")
    source, output = source or source_option, output or output_option
    if source is None or output is None:
        raise typer.BadParameter("give INPUT and OUTPUT (or -i and -o)")
    return source, output


def parts(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
