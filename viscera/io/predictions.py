"""Predictions on disk: label maps in each format, and beside them what they were made from.

Files are only replaced where they are known to be our own: their checksum stands in the JSON beside them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.dicom_seg import Algorithm, dicom_seg_bytes
from viscera.io.dicom_source import SourceImages
from viscera.io.files import read_json, sha256, write_bytes, write_json
from viscera.io.nifti import Placement, labels_to_bytes
from viscera.io.rtstruct import rtstruct_bytes
from viscera.io.seg_nrrd import seg_nrrd_bytes


@dataclass(frozen=True)
class Result:
    """What is written of one scan.

    Attributes:
        label_map: on the scan's own grid.
        table: its classes.
        algorithm: what made it.
        sources: of a DICOM series, the images in the order of their slices.
        placement: of a NIfTI file, how its header says where it lies.
    """

    label_map: LabelMap
    table: ClassTable
    algorithm: Algorithm
    sources: Sequence[Path] | None = None
    placement: Placement | None = None

    @cached_property
    def images(self) -> SourceImages:
        """Those of the series; raises BadInputError where the scan was none."""
        return SourceImages.read(self.sources or ())


@dataclass(frozen=True)
class Format:
    """One way to write a label map.

    Attributes:
        endings: of its file names; the first is that of files in a folder.
        of_series: whether it refers to the DICOM images of the scan.
        encode: to the whole file, of a name.
    """

    endings: tuple[str, ...]
    of_series: bool
    encode: Callable[[Result, Path], bytes]


def _nifti(result: Result, path: Path) -> bytes:
    compressed = path.suffix == ".gz"
    return labels_to_bytes(result.label_map, "viscera prediction", compressed=compressed, placement=result.placement)


FORMATS: Mapping[str, Format] = {
    "nifti": Format((".nii.gz", ".nii"), of_series=False, encode=_nifti),
    "dicom-seg": Format(
        (".seg.dcm", ".dcm"),
        of_series=True,
        encode=lambda result, _: dicom_seg_bytes(result.label_map, result.images, result.algorithm, result.table),
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
TABLE = "measurements.csv"


def formats_of(path: Path) -> list[str]:
    """The formats that a file may have by its name, the likeliest first; none for a folder.

    A longer ending says more: `x.dcm` may be a DICOM-SEG or an RTSTRUCT, `x.rtstruct.dcm` is an RTSTRUCT.
    """
    matches = {name: ending for name in FORMATS if (ending := _ending(path, name))}
    longest = max(map(len, matches.values()), default=0)
    return [name for name, ending in matches.items() if len(ending) == longest]


def _ending(path: Path, name: str) -> str:
    return next((ending for ending in FORMATS[name].endings if path.name.endswith(ending)), "")


@dataclass(frozen=True)
class PredictionFiles:
    """The files of one scan.

    Attributes:
        outputs: path to format, the main one first.
        record: JSON beside them: checksums of run, input and outputs, version, settings, measurements.
        table: where the measurements are tabulated: of a folder together, of a single file its own.
    """

    outputs: Mapping[Path, str]
    record: Path
    table: Path

    @classmethod
    def of(cls, output: Path, name: str, formats: Sequence[str]) -> "PredictionFiles":
        """Where the formats of a case go: into a folder, or into the file that `output` names."""
        if not formats_of(output):
            outputs = {output / f"{name}{FORMATS[each].endings[0]}": each for each in formats}
            return cls(outputs, output / f"{name}.json", output / TABLE)
        stem = output.name.removesuffix(_ending(output, formats[0]))
        return cls({output: formats[0]}, output.with_name(f"{stem}.json"), output.with_name(f"{stem}.{TABLE}"))

    @property
    def main(self) -> Path:
        """The first output."""
        return next(iter(self.outputs))

    def is_current(self, provenance: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether all outputs are there and were made from the same.

        Raises:
            BadInputError: what is there was not written by viscera, or was edited since, or made from another series,
                and may not be overwritten.
        """
        written = read_record(self.record)
        if written is None and not overwrite:
            raise BadInputError(
                f"{self.record}: exists, and viscera did not write it. Move it away, or add --overwrite."
            )
        written = written or {}
        present = self._present()
        for path, digest in present.items():
            if digest not in _checksums(written) and not overwrite:
                raise BadInputError(
                    f"{path}: exists, and is not as viscera wrote it. Move it away, or add --overwrite to lose it."
                )
        series = written.get("series")
        if present and series is not None and series != provenance["series"] and not overwrite:
            raise BadInputError(
                f"{self.main}: exists, and was made from series {series}. Give another name, or add --overwrite to "
                "lose it."
            )
        last = {path: _outputs(written, self.main).get(path.name) for path in self.outputs}
        is_same = all(written.get(key) == value for key, value in provenance.items())
        return is_same and present == last

    def write(self, contents: Mapping[Path, bytes], provenance: Mapping[str, Any]) -> None:
        """Write the record, then the files: after a crash between them, what is there is known to be our own."""
        digests = {path.name: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
        earlier = _outputs(read_record(self.record) or {}, self.main)  # of formats that are not written now
        write_json(
            self.record,
            {
                **provenance,
                "output_sha256": digests[self.main.name],
                "outputs_sha256": earlier | digests,
                "replaces_sha256": {path.name: digest for path, digest in self._present().items()},
            },
        )
        for path, content in contents.items():
            write_bytes(path, content)

    def _present(self) -> dict[Path, str]:
        return {path: sha256(path) for path in self.outputs if path.exists()}


def read_record(path: Path) -> dict[str, Any] | None:
    """What stands beside a label map: empty if there is none, None if it is not of viscera."""
    try:
        value = read_json(path) if path.exists() else {"run_sha256": ""}
    except BadInputError:
        return None
    return value if isinstance(value, dict) and "run_sha256" in value else None


def _outputs(record: Mapping[str, Any], main: Path) -> dict[str, str]:
    """File name to checksum; an earlier version knew one file only."""
    known: dict[str, str] = record.get("outputs_sha256") or {}
    return known or ({main.name: record["output_sha256"]} if "output_sha256" in record else {})


def _checksums(record: Mapping[str, Any]) -> set[str]:
    """All that a file of ours may have, whether the last writing came to its end or not."""
    replaced = record.get("replaces_sha256") or {}
    before: Iterable[str] = replaced.values() if isinstance(replaced, dict) else [replaced]
    return {*before, record.get("output_sha256", ""), *record.get("outputs_sha256", {}).values()}
