"""Predictions on disk: label maps in each format, and beside them what they were made from.

Files are only replaced where they are known to be our own: their checksum stands in the JSON beside them.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.core.errors import BadInputError
from viscera.io.files import sha256, write_bytes
from viscera.io.formats import FORMATS, ending, formats_of
from viscera.io.records import read_json, write_json

log = logging.getLogger(__name__)


TABLE = "measurements.csv"


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
        stem = output.name[: -len(ending(output, formats[0]))]
        return cls({output: formats[0]}, output.with_name(f"{stem}.json"), output.with_name(f"{stem}.{TABLE}"))

    @property
    def main(self) -> Path:
        """The first output."""
        return next(iter(self.outputs))

    def is_current(self, provenance: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether all outputs are there and were made from the same.

        Raises:
            BadInputError: what is there was not written by viscera, or was edited since, or made from another scan, and
                may not be overwritten.
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
        if not overwrite:
            self._refuse_other_scan(written, provenance)
        last = {path: _outputs(written, self.main).get(path.name) for path in self.outputs}
        return _is_from(written, provenance) and present == last

    def write(
        self, contents: Mapping[Path, bytes], provenance: Mapping[str, Any], results: Mapping[str, Any] | None = None
    ) -> None:
        """Write the record, then the files: after a crash between them, what is there is known to be our own.

        Args:
            contents: of every output.
            provenance: what they were made from; a file of another format counts as current only where it is the same.
            results: what else to record.
        """
        digests = {path.name: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
        written = read_record(self.record) or {}
        ours = self._ours(written)
        earlier = _outputs(written, self.main) if _is_from(written, provenance) else {}
        others = sorted(ours.keys() - earlier.keys() - digests.keys())
        if others:
            log.warning("%s: made by another model, or from another scan, than what is written now.", ", ".join(others))
        write_json(
            self.record,
            {
                **provenance,
                **(results or {}),
                "output_sha256": digests[self.main.name],
                "outputs_sha256": earlier | digests,
                "replaces_sha256": ours | {path.name: digest for path, digest in self._present().items()},
            },
        )
        for path, content in contents.items():
            write_bytes(path, content)

    def _refuse_other_scan(self, written: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Scans of one name lie in many folders; the record is one for all formats."""
        names = _outputs(written, self.main) | _replaced(written)
        there = [path for name in names if (path := self.record.with_name(name)).exists()]
        known, series = written.get("input_sha256"), written.get("series")
        if not there or known in {None, provenance["input_sha256"]}:
            return
        other = f"another scan called {written.get('input')}, or from this one before it was changed"
        if series and series != provenance["series"]:
            other = f"series {series}"
        raise BadInputError(
            f"{there[0]}: exists, made from {other}. Give another name or folder, or add --overwrite to lose it."
        )

    def _present(self) -> dict[Path, str]:
        return {path: sha256(path) for path in self.outputs if path.exists()}

    def _ours(self, written: Mapping[str, Any]) -> dict[str, str]:
        """Checksums of the files there that are as an earlier call wrote them, of any format."""
        names = {*_outputs(written, self.main), *_replaced(written)}
        paths = [path for name in sorted(names) if (path := self.record.with_name(name)).is_file()]
        known = _checksums(written)
        return {path.name: digest for path in paths if (digest := sha256(path)) in known}


def read_record(path: Path) -> dict[str, Any] | None:
    """What stands beside a label map: empty if there is none, None if it is not of viscera."""
    try:
        value = read_json(path) if path.exists() else {"run_sha256": ""}
    except BadInputError:
        return None
    return value if isinstance(value, dict) and "run_sha256" in value else None


def _is_from(record: Mapping[str, Any], provenance: Mapping[str, Any]) -> bool:
    return all(record.get(key) == value for key, value in provenance.items())


def _outputs(record: Mapping[str, Any], main: Path) -> dict[str, str]:
    """File name to checksum; an earlier version knew one file only."""
    one = {main.name: record["output_sha256"]} if "output_sha256" in record else {}
    return _named(record.get("outputs_sha256")) or _named(one)


def _replaced(record: Mapping[str, Any]) -> dict[str, str]:
    """File name to checksum of what was there before, and of what an earlier model or scan left in other formats."""
    return _named(record.get("replaces_sha256"))


def _named(value: object) -> dict[str, str]:
    """File names, without folders, and their checksums; a record can be damaged."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {
        name: digest
        for name, digest in pairs
        if isinstance(name, str) and isinstance(digest, str) and Path(name).name == name
    }


def _checksums(record: Mapping[str, Any]) -> set[str]:
    """All that a file of ours may have, whether the last writing came to its end or not."""
    single = (record.get("output_sha256"), record.get("replaces_sha256"))  # the latter is one in earlier records
    named = (_named(record.get("outputs_sha256")), _replaced(record))
    return {value for value in single if isinstance(value, str)} | {v for each in named for v in each.values()}
