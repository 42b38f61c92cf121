"""Predictions on disk: label maps in each format, a JSON beside them, and `measurements.csv` of all in a folder.

Files are only replaced where they are known to be our own: their checksum stands in the JSON beside them. That holds
what they were made from and what was measured of each organ; the table is made from the JSON, so that it says what is
there.
"""

import hashlib
import itertools
import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from viscera.core.errors import BadInputError
from viscera.core.safe_names import is_file_name
from viscera.core.scan import OrganFacts
from viscera.core.wording import agreeing, counted
from viscera.io.disk.file_sets import together
from viscera.io.files import atomic_path, sha256, write_bytes
from viscera.io.formats import ENDINGS, ending, formats_of
from viscera.io.records import read_csv, read_json, refuse_other_table, validated, write_csv, write_record

log = logging.getLogger(__name__)
_OURS, _MEASUREMENTS = "run_sha256", "measurements"  # keys of the JSON
# checksums by file name: what was written last, and what was there before, also of an earlier model or scan in other
# formats; a file of ours may have either, whether the last writing came to its end or not
_LAST, _BEFORE = "outputs_sha256", "replaces_sha256"
TABLE = "measurements.csv"
_NUMBERS = (  # of an organ, and how they are written
    {"voxels": "d", "volume_ml": ".3f", "mean_hu": ".1f", "sd_hu": ".1f"}
    | {f"{end}_{axis}_mm": ".1f" for end in ("lowest", "highest") for axis in "ras"}
    | {f"{end}_{axis}": "d" for end in ("first", "last") for axis in "ijk"}
    | {"pieces": "d", "largest_piece": ".3f", "large_fragments": "d", "confidence": ".3f", "entropy": ".3f"}
)
_HEADER = ("case", "organ", *_NUMBERS, "flag", "reasons")
_NO_BOX = ((None,) * 3,) * 2


@dataclass(frozen=True)
class Measured:
    """One organ of one prediction: what was measured, and why it should be looked at; empty: nothing was noticed."""

    facts: OrganFacts
    reasons: tuple[str, ...] = ()

    def cells(self, case: str, organ: str) -> list[str]:
        """One row of the table; empty where undefined."""
        facts = self.facts
        values = (
            *(facts.voxels, facts.volume_ml, facts.mean_hu, facts.sd_hu),
            *itertools.chain(*(facts.box_mm or _NO_BOX), *(facts.box or _NO_BOX)),
            *(facts.pieces, facts.largest_piece, facts.large_fragments, facts.confidence, facts.entropy),
        )
        written = zip(values, _NUMBERS.values(), strict=True)
        numbers = ("" if value is None else f"{value:{how}}" for value, how in written)
        return [case, organ, *numbers, "look" if self.reasons else "", "; ".join(self.reasons)]


@dataclass(frozen=True)
class PredictionFiles:
    """The files of one scan."""

    outputs: Mapping[Path, str]  # path to format, the main one first
    record: Path  # JSON beside them: checksums of run, input and outputs, version, settings, measurements
    table: Path  # where the measurements are tabulated: of a folder together, of a single file its own

    @classmethod
    def of(cls, output: Path, name: str, formats: Sequence[str]) -> "PredictionFiles":
        """Where the formats of a case go: into a folder, or into the file that `output` names."""
        if not formats_of(output):
            outputs = {output / f"{name}{ENDINGS[each][0]}": each for each in formats}
            return cls(outputs, output / f"{name}.json", output / TABLE)
        stem = output.name[: -len(ending(output, formats[0]))]
        return cls({output: formats[0]}, output.with_name(f"{stem}.json"), output.with_name(f"{stem}.{TABLE}"))

    @property
    def main(self) -> Path:
        """The first output."""
        return next(iter(self.outputs))

    def is_current(self, provenance: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether all outputs are there and were made from the same.

        Raises BadInputError where what is there was not written by viscera, or was edited since, or made from another
        scan, and may not be overwritten.
        """
        written = read_record(self.record)
        if written is None and not overwrite:
            raise BadInputError(
                f"{self.record}: exists, and viscera did not write it. Move it away, or add --overwrite."
            )
        written, present = written or {}, self._present()
        if not overwrite:
            known = {digest for _, digest in _checksums(written, _LAST, _BEFORE)}
            for path in (path for path, digest in present.items() if digest not in known):
                raise BadInputError(
                    f"{path}: exists, and is not as viscera wrote it. Move it away, or add --overwrite to lose it."
                )
            self._refuse_other_scan(written, provenance)
        last = dict(_checksums(written, _LAST))
        return _is_from(written, provenance) and present == {path: last.get(path.name) for path in self.outputs}

    def write(
        self, contents: Mapping[Path, bytes | Path], provenance: Mapping[str, Any], measured: Mapping[str, Measured]
    ) -> None:
        """Write the record and the files together; what an earlier process left unfinished there is finished before.

        Contents are bytes, or a file that becomes the output.

        An output that is not in `contents` is not there afterwards, or as it was; a file of another format counts as
        current only where its provenance is the same.
        """
        digests = {path.name: _digest(content) for path, content in contents.items()}
        written = read_record(self.record) or {}
        known = {digest for _, digest in _checksums(written, _LAST, _BEFORE)}
        # of any format, as an earlier call wrote them
        ours = {path.name: digest for path in self._named(written) if (digest := sha256(path)) in known}
        earlier = dict(_checksums(written, _LAST)) if _is_from(written, provenance) else {}
        others = sorted(ours.keys() - earlier.keys() - digests.keys())
        if others:
            log.warning("%s: made by another model, or from another scan, than what is written now.", ", ".join(others))
        outputs, before = earlier | digests, ours | {path.name: digest for path, digest in self._present().items()}
        record = {
            **provenance,
            _MEASUREMENTS: TypeAdapter(dict[str, Measured]).dump_python(dict(measured), mode="json"),
            "output_sha256": outputs.get(self.main.name),
            _LAST: outputs,
            _BEFORE: {name: digest for name, digest in before.items() if digest != outputs.get(name)},
        }
        with together(self.record.parent, is_held=True):
            write_record(self.record, record)
            for path, content in contents.items():
                if isinstance(content, bytes):
                    write_bytes(path, content)
                else:
                    with atomic_path(path) as temporary:
                        shutil.move(content, temporary)

    def _refuse_other_scan(self, written: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Scans of one name lie in many folders; the record is one for all formats."""
        there = self._named(written)
        known = written.get("input_sha256")
        if not there or known in {None, provenance["input_sha256"]}:
            return
        other = "another series" if is_of_dicom(written) else f"another scan called {written.get('input')}"
        other += ", or from this one before it was changed"
        raise BadInputError(
            f"{there[0]}: exists, made from {other}. Give another name or folder, or add --overwrite to lose it."
        )

    def _present(self) -> dict[Path, str]:
        return {path: sha256(path) for path in self.outputs if path.exists()}

    def _named(self, written: Mapping[str, Any]) -> list[Path]:
        """The files there that a record names."""
        names = sorted({name for name, _ in _checksums(written, _LAST, _BEFORE)})
        return [path for name in names if (path := self.record.with_name(name)).is_file()]


def _digest(content: bytes | Path) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)


def read_record(path: Path) -> dict[str, Any] | None:
    """What stands beside a label map: empty if there is none, None if it is not of viscera."""
    if not path.exists():
        return {}
    with suppress(BadInputError):
        value = read_json(path)
        if isinstance(value, dict) and _OURS in value:
            return value
    return None


def predicted_in(folder: Path) -> list[str]:
    """The cases of which a folder holds what viscera wrote beside a prediction, by name."""
    if not folder.is_dir():
        return []
    return [path.stem for path in sorted(folder.glob("[!.]*.json")) if read_record(path)]


def say_what_is_replaced(
    of: Iterable[PredictionFiles], models: Collection[str], where: Path, provenance: Mapping[str, Any] | None = None
) -> None:
    """Before label maps are replaced that others than these models (checksums) made: log how many.

    With a `provenance` also those of one of these models with other settings.
    """
    by_others = by_settings = 0
    for each in of:
        written = read_record(each.record) if each.main.exists() else None
        if written and written[_OURS] not in models:
            by_others += 1
        elif written and not _is_from(written, provenance or {}):
            by_settings += 1
    for number, others in ((by_others, "of another model"), (by_settings, "that this model made with other settings")):
        if number:
            what = f"{counted(number, 'label map')} {others} {agreeing(number)} replaced"
            log.warning("%s: %s. To keep what is there, give another OUTPUT.", where, what)


def is_of_dicom(written: Mapping[str, Any]) -> bool:
    """Whether the label map of a record was made from a DICOM series; records of 0.1 say its UID."""
    return bool(written.get("dicom") or written.get("series"))


def known_checksums(record: Path, written: Mapping[str, Any]) -> dict[Path, set[str]]:
    """Of each file that a record names, those that it may have, whether its last writing came to its end or not."""
    names = [name for name, _ in _checksums(written, _LAST)]
    names += [name for name, _ in _checksums(written, _BEFORE) if record.with_name(name).exists()]
    both = _checksums(written, _LAST, _BEFORE)
    return {record.with_name(name): {digest for of, digest in both if of == name} for name in names}


def read_measurements(record: Path) -> dict[str, Measured]:
    """Those in the JSON beside a prediction, by organ; none where it is not there. BadInputError if it is damaged."""
    value = read_json(record) if record.exists() else None
    found = value.get(_MEASUREMENTS, {}) if isinstance(value, dict) and _OURS in value else {}
    return validated(dict[str, Measured], found, record, "Delete it and predict again with --overwrite.")


def flags_text(output: Path) -> str:
    """How many organs of how many predictions there should be looked at, and where that stands; empty without table."""
    table = PredictionFiles.of(output, "", formats_of(output)[:1]).table
    rows = read_csv(table) if table.exists() else []
    if not rows:
        return ""
    flagged = [row for row in rows if row.get("flag")]
    scans, of = len({row.get("case") for row in flagged}), counted(len({row.get("case") for row in rows}), "scan")
    if not flagged:
        return f"{table}: no organ of {of} is flagged as doubtful"
    organs = f"{counted(len(flagged), 'organ')} in {scans} of {of} {agreeing(len(flagged))} flagged as doubtful"
    return f"{table}: {organs}; the column reasons says why"


def refuse_other_tables(files: Sequence[PredictionFiles]) -> None:
    """Raise BadInputError where a table of that name is not ours."""
    for table in dict.fromkeys(each.table for each in files):
        refuse_other_measurements(table)


def refuse_other_measurements(table: Path) -> None:
    """Raise BadInputError where a file of that name is no such table; later versions may have more columns."""
    refuse_other_table(table, _HEADER[:3])


def write_tables(files: Sequence[PredictionFiles]) -> None:
    """Write `measurements.csv` of all predictions that stand in a folder; beside a single file, its own.

    JSON of others is passed by; what cannot be read is left out with a warning. Without measurements there is no table.
    """
    for table in dict.fromkeys(each.table for each in files):
        records = sorted(path for path in table.parent.glob("*.json") if not path.name.startswith("."))
        if table.name != TABLE:
            records = [path for each in files if (path := each.record).exists()]
        rows = [row for record in records for row in _rows(record, table)]
        if rows:
            write_csv(table, _HEADER, rows, checksum=True)


def _rows(record: Path, table: Path) -> Iterator[list[str]]:
    try:
        measured = read_measurements(record)
    except BadInputError as error:
        log.warning("%s It is not in %s.", error, table.name)
    else:
        yield from (each.cells(record.stem, organ) for organ, each in measured.items())


def _is_from(record: Mapping[str, Any], provenance: Mapping[str, Any]) -> bool:
    return all(record.get(key) == value for key, value in provenance.items())


def _checksums(record: Mapping[str, Any], *keys: str) -> list[tuple[str, str]]:
    """File names, without folders, and their checksums; a record can be damaged."""
    values = (record.get(key) for key in keys)
    pairs = (pair for value in values if isinstance(value, dict) for pair in value.items())
    return [(name, sha) for name, sha in pairs if isinstance(sha, str) and is_file_name(name)]
