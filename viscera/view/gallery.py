"""What `viscera view` shows: cases, each a scan with label maps, found but not yet read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap, Volume
from viscera.io.predictions import Measured
from viscera.io.store import Store

Kind = Literal["scans", "predictions", "data set", "store", "study"]
Role = Literal["prediction", "reference", "correction"]


@dataclass(frozen=True, eq=False)
class ScanLayer:
    """The scan of a case."""

    files: tuple[Path, ...]  # that are read for it
    read: Callable[[], Volume]
    note: str = ""  # what a person should know who looks at it


@dataclass(frozen=True, eq=False)
class LabelLayer:
    """A label map of a case."""

    title: str  # for people: `prediction`, `reference`, an arm
    role: Role
    files: tuple[Path, ...]  # that are read for it
    read: Callable[[], LabelMap]
    measured: Mapping[str, Measured] = field(default_factory=dict)  # by organ, what `predict` wrote beside it
    # by organ, Dice of a table of scores; empty: worked out where there is a reference
    dice: Mapping[str, float | None] = field(default_factory=dict)
    is_newer_than_dice: bool = False  # by the times of the files: of another label map then, if it was predicted anew
    unlabelled: tuple[str, ...] = ()  # classes that it does not label


Layer = TypeVar("Layer", ScanLayer, LabelLayer)


@dataclass(frozen=True, eq=False)
class ShownCase:
    """A scan with its label maps."""

    name: str
    scan: ScanLayer | None  # None: only labels are available
    layers: tuple[LabelLayer, ...] = ()
    split: str = ""  # part of a store or data set

    @property
    def reference(self) -> LabelLayer | None:
        """What is held to be true."""
        return next((layer for layer in self.layers if layer.role == "reference"), None)

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        """Why organs of its first prediction should be looked at, by organ; those without a reason are left out."""
        measured = next((layer.measured for layer in self.layers if layer.role == "prediction"), {})
        return {organ: found.reasons for organ, found in measured.items() if found.reasons}

    @property
    def least_confidence(self) -> float:
        """The lowest mean probability of an organ of its first prediction, 0 to 1; 1 where nothing says."""
        measured = next((layer.measured for layer in self.layers if layer.role == "prediction"), {})
        known = [each.facts.confidence for each in measured.values() if each.facts.confidence is not None]
        return min(known, default=1.0)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Everything that one page shows."""

    kind: Kind
    path: Path  # that was given
    roots: tuple[Path, ...]  # resolved: nothing that lies elsewhere is read
    classes: ClassTable
    cases: tuple[ShownCase, ...]  # in the order in which they are listed
    store: Store | None = None  # of whose training cases the patches can be shown
    corrections: Path | None = None  # folder that mended labels are saved in; None: nothing is saved


def by_distrust(cases: list[ShownCase]) -> tuple[ShownCase, ...]:
    """The cases that need a look first, first: by flagged organs, then the least confidence, then the name."""
    return tuple(sorted(cases, key=lambda case: (-len(case.flagged), case.least_confidence, case.name)))


def refuse_outside(path: Path, roots: tuple[Path, ...]) -> None:
    """Raise BadInputError where a file lies, by a link, outside of what was given."""
    found = path.resolve()
    if not any(found == root or root in found.parents for root in roots):
        raise BadInputError(
            f"{path}: this is a link to a file outside of the folders that were given. Give the folder that it is in."
        )


def guarded(layer: Layer, roots: tuple[Path, ...]) -> Layer:
    """The same, with a reader that refuses files outside of these."""

    def read() -> Any:  # noqa: ANN401 - what it reads
        for path in layer.files:
            refuse_outside(path, roots)
        return layer.read()

    return replace(layer, read=read)


def confined(gallery: Gallery) -> Gallery:
    """The same, with readers that refuse files outside of its roots."""
    roots = gallery.roots
    cases = [
        replace(
            case,
            scan=case.scan and guarded(case.scan, roots),
            layers=tuple(guarded(layer, roots) for layer in case.layers),
        )
        for case in gallery.cases
    ]
    return replace(gallery, cases=tuple(cases))
