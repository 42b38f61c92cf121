"""The formats of a label map and of the maps beside it, and which of them a file has by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError, UsageError
from viscera.core.scan import LabelMap
from viscera.core.suggestions import did_you_mean
from viscera.io.dicom.result_writers import Algorithm, dicom_seg_bytes, load_highdicom, rtstruct_bytes
from viscera.io.dicom.source_images import SourceImages
from viscera.io.nifti import nifti_bytes
from viscera.io.nifti_header import Placement
from viscera.io.probability_maps import MAPS
from viscera.io.seg_nrrd import seg_nrrd_bytes

_OTHER_FILES = {
    *(".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".mha", ".mhd", ".nhdr", ".img", ".hdr", ".mgz", ".mgh", ".mnc"),
    *(".dicom", ".ima", ".npy", ".npz", ".h5", ".hdf5", ".tif", ".tiff", ".png", ".jpg", ".stl", ".obj", ".vtk"),
    *(".json", ".csv", ".txt", ".pt"),
}


@dataclass(frozen=True)
class Result:
    """What is written of one scan."""

    label_map: LabelMap  # on the scan's own grid
    table: ClassTable
    algorithm: Algorithm  # what made it
    sources: Sequence[Path] | None = None  # of a DICOM series, the images in the order of their slices
    placement: Placement | None = None  # of a NIfTI file, how its header says where it lies

    @cached_property
    def images(self) -> SourceImages:
        """Those of the series; raises BadInputError where the scan was none."""
        return SourceImages.read(self.sources or ())


@dataclass(frozen=True)
class Format:
    """One way to write a label map."""

    endings: tuple[str, ...]  # of its file names, capitals or not; the first is that of files in a folder
    of_series: bool  # whether it refers to the DICOM images of the scan
    encode: Callable[[Result, Path], bytes]  # to the whole file, of a name
    refuse_if_unavailable: Callable[[], object] = lambda: None  # raises BadInputError where a library is missing


def _nifti(result: Result, path: Path) -> bytes:
    compressed = path.suffix.lower() == ".gz"
    return nifti_bytes(result.label_map, "viscera prediction", compressed=compressed, placement=result.placement)


FORMATS: Mapping[str, Format] = {
    "nifti": Format((".nii.gz", ".nii"), of_series=False, encode=_nifti),
    "dicom-seg": Format(
        (".seg.dcm", ".dcm"),
        of_series=True,
        encode=lambda result, _: dicom_seg_bytes(result.label_map, result.images, result.algorithm, result.table),
        refuse_if_unavailable=load_highdicom,
    ),
    "dicom-seg-labelmap": Format(
        (".labelmap.dcm", ".dcm"),
        of_series=True,
        encode=lambda result, _: dicom_seg_bytes(
            result.label_map, result.images, result.algorithm, result.table, kind="LABELMAP"
        ),
        refuse_if_unavailable=load_highdicom,
    ),
    "rtstruct": Format(
        (".rtstruct.dcm", ".dcm"),
        of_series=True,
        encode=lambda result, _: rtstruct_bytes(result.label_map, result.images, result.algorithm, result.table),
    ),
    "seg-nrrd": Format(
        (".seg.nrrd", ".nrrd"), of_series=False, encode=lambda result, _: seg_nrrd_bytes(result.label_map, result.table)
    ),
}

ENDINGS: Mapping[str, tuple[str, ...]] = {name: each.endings for name, each in FORMATS.items()} | {
    name: (ending,) for name, ending in MAPS.items()
}


def formats_of(path: Path) -> list[str]:
    """The formats that a file may have by its name, the likeliest first; none for a folder.

    A longer ending says more: `x.dcm` may be a DICOM-SEG or an RTSTRUCT, `x.rtstruct.dcm` is an RTSTRUCT.
    """
    lengths = {name: len(ending(path, name)) for name in ENDINGS}
    longest = max(lengths.values())
    return [name for name, length in lengths.items() if length == longest > 0]


def ending(path: Path, name: str) -> str:
    """The ending that a file of a format has, in lower case; empty where it has none of them."""
    return next((each for each in ENDINGS[name] if path.name.lower().endswith(each)), "")


def refuse_other_file(path: Path) -> None:
    """Raise BadInputError for a name that says a file which is not written; folders may have dots in their names."""
    if path.suffix.lower() in _OTHER_FILES and not formats_of(path) and not path.is_dir():
        known = ", ".join(dict.fromkeys(each for of_format in ENDINGS.values() for each in of_format))
        raise BadInputError(f"{path}: such a file is not written. Give a name that ends in {known}, or a folder.")


def wanted_formats(output: Path, formats: Sequence[str] | None) -> list[str]:
    """What to write: as asked for, or as the file name says; NIfTI by default.

    Raises UsageError for no such format, or one that a file of that name cannot have; BadInputError for one that is not
    available here.
    """
    of_name = formats_of(output)
    wanted = list(dict.fromkeys(formats or of_name[:1] or ["nifti"]))
    unknown = [name for name in wanted if name not in ENDINGS]
    if unknown:
        likely = did_you_mean(unknown[0], ENDINGS)
        raise UsageError(
            f"--format {', '.join(unknown)}: there is no such format. There are: {', '.join(ENDINGS)}.{likely}"
        )
    if of_name and (len(wanted) > 1 or wanted[0] not in of_name):
        raise UsageError(f"{output}: one file, and --format {', '.join(wanted)}. Give a folder, or one format.")
    for name in (each for each in wanted if each in FORMATS):
        FORMATS[name].refuse_if_unavailable()
    return wanted
