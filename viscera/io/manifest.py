"""The manifest of a Store: what it says of itself and of every case."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import ClassNames, PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.settings import FileName, Positive, Settings

FORMAT_VERSION = 1
_WITH_IGNORED = 2  # of a store with voxels that nobody labelled, which a program that does not know them would count
_WITH_PSEUDONYMS = 3  # of a store to which a program that does not know them would add cases by their names
FORMAT_VERSIONS = (FORMAT_VERSION, _WITH_IGNORED, _WITH_PSEUDONYMS)
# of a case's text, where they are that
_LEFT_OUT = {"fold": None, "ignored_prepared": 0, "ignored_original": 0, "awaited": False}
_ARRAYS = {"image.npy", "labels.npy"}  # of each case
Split = Literal["train", "validation", "test"]


Row = tuple[float, float, float, float]
Counts = tuple[Annotated[int, Field(ge=0, lt=2**63)], ...]  # (L,)


class GeometryRecord(Settings):
    """A geometry in the manifest."""

    shape: tuple[Positive, Positive, Positive]
    affine: tuple[Row, Row, Row, Row]

    @model_validator(mode="after")
    def _has_extent(self) -> Self:
        (a, b, c, _), (d, e, f, _), (g, h, i, _), last = self.affine
        volume = abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
        if not 0 < volume < math.inf or tuple(last) != (0, 0, 0, 1):
            raise ValueError("voxels without extent")
        return self

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
    voxel_counts_prepared: Counts  # of each class
    voxel_counts_original: Counts
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
    cases: dict[FileName, CaseRecord] = Field(default_factory=dict)  # by name, which is that of its folder

    @model_validator(mode="after")
    def _of_these_classes(self) -> Self:
        number = len(self.classes)
        for name, case in self.cases.items():
            lengths = {
                len(each) for each in (case.voxel_counts_prepared, case.voxel_counts_original, case.volume_change)
            }
            if lengths != {number} or not case.sha256.keys() >= _ARRAYS:
                raise ValueError(f"{name} has counts of other classes, or lacks a checksum")
        return self

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
