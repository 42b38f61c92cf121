"""The manifest of a Store: what it says of itself and of every case."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import ClassNames, PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.safe_names import is_file_name
from viscera.core.settings import Settings

FORMAT_VERSION = 1
_WITH_IGNORED = 2  # of a store with voxels that nobody labelled, which a program that does not know them would count
_WITH_PSEUDONYMS = 3  # of a store to which a program that does not know them would add cases by their names
FORMAT_VERSIONS = (FORMAT_VERSION, _WITH_IGNORED, _WITH_PSEUDONYMS)
# of a case's text, where they are that
_LEFT_OUT = {"fold": None, "ignored_prepared": 0, "ignored_original": 0, "awaited": False}
Split = Literal["train", "validation", "test"]


def _file_name(text: str) -> str:
    if not is_file_name(text):
        raise ValueError("the name of a file was expected")
    return text


FileName = Annotated[str, AfterValidator(_file_name)]


class GeometryRecord(Settings):
    """A geometry in the manifest."""

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @property
    def geometry(self) -> Geometry:
        """As a value."""
        return Geometry(self.shape, np.array(self.affine))


class SourceRecord(Settings):
    """A file that a case was made from."""

    bytes: int
    sha256: str


class CaseRecord(Settings):
    """What the manifest says of one case."""

    prepared: GeometryRecord  # has canonical axes
    original: GeometryRecord
    voxel_counts_prepared: tuple[int, ...]  # (L,) of each class
    voxel_counts_original: tuple[int, ...]
    ignored_prepared: int = 0  # voxels that nobody labelled, which are in none of these counts
    ignored_original: int = 0
    volume_change: tuple[float | None, ...]  # per class, prepared over original volume minus 1; None where it is absent
    sha256: dict[FileName, str]  # of each file of the case
    sources: dict[str, SourceRecord]  # the scan and label file it was made from, by file name
    unlabelled: tuple[str, ...] = ()  # classes that its data set does not label: their voxels count as background
    meaning: dict[str, int] | None = None  # label number, or name of the mask file, to class; None in older stores
    split: Split | None = None  # None until it is drawn
    fold: int | None = None  # from 0 on; None of test cases, and where the store has no folds
    awaited: bool = False  # its files are being replaced, or were when a process was killed


class Manifest(Settings):
    """The manifest of a store."""

    format_version: int = FORMAT_VERSION
    classes: ClassNames = CLASS_NAMES
    dataset: str = ""
    licence: str = ""  # of the data, as their `dataset.json` states it
    pseudonyms: str = ""  # which key file says whose cases these are (`io.pseudonyms`); empty: they have their names
    prepare: PrepareConfig = Field(default_factory=PrepareConfig)
    cases: dict[FileName, CaseRecord] = Field(default_factory=dict)

    def with_cases(self, cases: Mapping[str, CaseRecord]) -> "Manifest":
        """With these cases in place of all, in the order of their names, and the format version that they need."""
        has_ignored = any(case.ignored_original or case.ignored_prepared for case in cases.values())
        version = _WITH_PSEUDONYMS if self.pseudonyms else _WITH_IGNORED if has_ignored else FORMAT_VERSION
        return self.model_copy(update={"cases": dict(sorted(cases.items())), "format_version": version})

    def text(self) -> str:
        """As JSON that people can read, a line a case, and that is written fast: the library indents slowly."""
        values: dict[str, Any] = self.model_dump(mode="json")
        cases: dict[str, Any] = values.pop("cases")
        for name in ("licence", "pseudonyms"):
            if not values[name]:
                del values[name]
        for case in cases.values():
            for name, where in _LEFT_OUT.items():
                if case[name] == where:
                    del case[name]
        lines = [f"  {json.dumps(name)}: {json.dumps(case, allow_nan=False)}" for name, case in cases.items()]
        head = json.dumps(values, indent=1, allow_nan=False).removesuffix("\n}")
        return head + ',\n "cases": {\n' + ",\n".join(lines) + "\n }\n}\n"
