"""`measurements.csv`: volume, HU, place and trust of every organ, beside the predictions.

Each prediction's JSON holds its own measurements; the table is made from those, so that it says what is there.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from viscera.core.errors import BadInputError
from viscera.core.scan import OrganFacts
from viscera.io.records import damaged, read_json, refuse_other_table, write_csv

log = logging.getLogger(__name__)
KEY = "measurements"
_HEADER = (
    *("case", "organ", "voxels", "volume_ml", "mean_hu", "sd_hu"),
    *(f"{end}_{axis}_mm" for end in ("lowest", "highest") for axis in "ras"),
    *(f"{end}_{axis}" for end in ("first", "last") for axis in "ijk"),
    *("pieces", "largest_piece", "large_fragments", "confidence", "flag", "reasons"),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One organ of one prediction: what was measured, and why it should be looked at; empty: nothing was noticed."""

    facts: OrganFacts
    reasons: tuple[str, ...] = ()

    def cells(self, case: str, organ: str) -> list[str]:
        """One row of the table; empty where undefined."""
        facts = self.facts
        box_mm = (None,) * 6 if facts.box_mm is None else (*facts.box_mm[0], *facts.box_mm[1])
        box = ("",) * 6 if facts.box is None else (*facts.box[0], *facts.box[1])
        return [
            case,
            organ,
            str(facts.voxels),
            _number(facts.volume_ml, 3),
            _number(facts.mean_hu, 1),
            _number(facts.sd_hu, 1),
            *(_number(value, 1) for value in box_mm),
            *(str(index) for index in box),
            str(facts.pieces),
            _number(facts.largest_piece, 3),
            str(facts.large_fragments),
            _number(facts.confidence, 3),
            "look" if self.reasons else "",
            "; ".join(self.reasons),
        ]


Measurements = Mapping[str, Measured]
_MEASUREMENTS = TypeAdapter(dict[str, Measured])


def as_json(measurements: Measurements) -> dict[str, Any]:
    """For the JSON beside a prediction, under `KEY`."""
    value: dict[str, Any] = _MEASUREMENTS.dump_python(dict(measurements), mode="json")
    return value


def read_measurements(record: Path) -> dict[str, Measured]:
    """Those in the JSON beside a prediction, by organ; empty where it has none or is not there.

    Raises:
        BadInputError: damaged.
    """
    return _measurements(read_json(record) if record.exists() else {}, record)


def write_table(path: Path, records: Sequence[Path]) -> None:
    """Write the measurements of these predictions, in order; none is written where there are none.

    JSON of others is passed by; what cannot be read is left out with a warning.
    """
    rows: list[list[str]] = []
    for record in records:
        try:
            value = read_json(record)
            measured = _measurements(value, record) if isinstance(value, dict) and "run_sha256" in value else {}
        except BadInputError as error:
            log.warning("%s It is not in %s.", error, path.name)
        else:
            rows += [each.cells(record.stem, organ) for organ, each in measured.items()]
    if rows:
        write_csv(path, _HEADER, rows)


def refuse_other_measurements(path: Path) -> None:
    """Raise BadInputError where a file of that name is not ours; later versions may have more columns."""
    refuse_other_table(path, _HEADER[:3])


def _measurements(value: object, record: Path) -> dict[str, Measured]:
    try:
        return _MEASUREMENTS.validate_python(value.get(KEY, {}) if isinstance(value, dict) else {})
    except ValidationError as error:
        raise damaged(record, error, "Delete it and predict again with --overwrite.") from error


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
