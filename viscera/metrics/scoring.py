"""All scores of a prediction: overlap, distances of the surfaces, volumes. Definitions and units: docs/metrics.md."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ABDOMEN, IGNORED, OTHER, TOLERANCES_MM, ClassTable, tolerance_of
from viscera.core.config import CalibrationMetric, Metric
from viscera.core.errors import BadInputError, refuse_non_number
from viscera.core.geometry import Geometry
from viscera.core.regions import box_of, cropped
from viscera.core.scan import LabelArray, LabelMap
from viscera.core.shape_hints import refuse_other_than
from viscera.core.wording import counted, listed
from viscera.metrics.overlap import as_labelled, confusion_matrix, dice
from viscera.metrics.surface_distance import SurfaceDistances, label_surface_distances

if TYPE_CHECKING:
    import pandas as pd

Absent = Literal["undefined", "one"]
Tolerance = Mapping[str, float] | float


@dataclass(frozen=True)
class Score:
    """One value of one organ; None where it is undefined, infinite where there is no surface to be at a distance."""

    organ: str
    metric: str
    value: float | None


class Scores(list[Score]):
    """Values of one case: a list, and a table for notebooks."""

    def frame(self) -> "pd.DataFrame":
        """One row an organ, one column a metric; NaN where undefined."""
        import pandas as pd  # noqa: PLC0415 - it takes its time to load

        values = {name: {each.organ: each.value for each in self if each.metric == name} for name in self.metrics}
        return pd.DataFrame(values, dtype=float).reindex(list(dict.fromkeys(each.organ for each in self)))

    @property
    def metrics(self) -> list[str]:
        """Those that were measured, in their order."""
        return list(dict.fromkeys(each.metric for each in self))


@dataclass(frozen=True, eq=False)
class Pair:
    """A prediction and its reference on one grid."""

    prediction: LabelArray  # (I, J, K) labels within the box that holds all organs of both
    reference: LabelArray  # likewise
    geometry: Geometry  # of the whole grid
    classes: ClassTable  # what the labels stand for
    unlabelled: Collection[str]  # names of the classes that the reference does not label: background in both
    ignored: int = 0  # voxels that the reference does not label at all: background in both, and counted nowhere

    @classmethod
    def of(
        cls, prediction: LabelMap, reference: LabelMap, classes: ClassTable = ABDOMEN, unlabelled: Collection[str] = ()
    ) -> "Pair":
        """Bring the two together, in whatever order their axes run.

        Raises BadInputError where they do not lie on one grid, know other classes than these, hold labels that stand
        for nothing, or where the prediction leaves out voxels that the reference labels.
        """
        _refuse_other_tables(prediction, reference, classes)
        prediction = prediction.in_order_of(reference.geometry)
        if not reference.geometry.fits(prediction.geometry):
            found = prediction.geometry.difference(reference.geometry)
            raise BadInputError(
                f"prediction and reference do not lie on one grid: {found}. Predict the scan that the reference "
                "belongs to."
            )
        box = box_of(prediction.labels, reference.labels)
        predicted, true = cropped(prediction.labels, box), cropped(reference.labels, box)
        ignored = 0
        if true.max(initial=0) == IGNORED:
            unknown = true == IGNORED
            predicted, true = (np.where(unknown, np.uint8(0), each) for each in (predicted, true))
            ignored = int(np.count_nonzero(unknown))
        if predicted.max(initial=0) == IGNORED:
            left_out = counted(int(np.count_nonzero(predicted == IGNORED)), "voxel")
            raise BadInputError(
                f"prediction: {left_out} without a class that the reference labels (`ignore`). A prediction labels "
                "every voxel: give them a class."
            )
        highest = max(int(predicted.max(initial=0)), int(true.max(initial=0)))
        if highest >= len(classes):
            raise BadInputError(f"label {highest}: the classes are 0 to {len(classes) - 1}. Give `classes`.")
        labelled_L = np.array([name not in unlabelled for name in classes.names])
        if not labelled_L.all():
            predicted, true = as_labelled(predicted, labelled_L), as_labelled(true, labelled_L)
        return cls(predicted, true, reference.geometry, classes, unlabelled, ignored)

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """(L, L) voxels of the whole grid that are labelled, by class in the prediction and class in the reference."""
        counts = confusion_matrix(self.prediction, self.reference, len(self.classes))
        counts[0, 0] += np.prod(self.geometry.shape) - self.reference.size - self.ignored
        return counts

    @cached_property
    def surfaces(self) -> dict[str, SurfaceDistances]:
        """Each organ's distances."""
        labels, names = zip(*((organ.label, organ.name) for organ in self.classes.organs), strict=True)
        found = label_surface_distances(self.prediction, self.reference, self.geometry.spacing_mm, labels)
        return dict(zip(names, found, strict=True))

    def scores(self, metrics: Sequence[Metric], tolerance_mm: Tolerance, absent: Absent) -> list[Score]:
        """Metric by metric in the order of `METRICS`, each in label order; as `score`."""
        reading = Reading(tolerance_mm, absent)
        rows = (row for name, measure in METRICS.items() if name in metrics for row in measure(self, reading))
        return [replace(row, value=None) if row.organ in self.unlabelled else row for row in rows]


class Reading(NamedTuple):
    """How values are read where that is open; see `score`."""

    tolerance_mm: Tolerance
    absent: Absent


def _dice(pair: Pair, reading: Reading) -> Iterator[Score]:
    for organ, value in zip(pair.classes.names, dice(pair.confusion), strict=True):
        is_known = value is not None or reading.absent == "undefined" or not pair.confusion.any()
        yield Score(organ, "dice", value if is_known else 1.0)


def _hd95_mm(pair: Pair, _reading: Reading) -> Iterator[Score]:
    for organ, surface in pair.surfaces.items():
        yield Score(organ, "hd95_mm", surface.hausdorff_mm(95))


def _surface_dice(pair: Pair, reading: Reading) -> Iterator[Score]:
    for organ, surface in pair.surfaces.items():
        yield Score(organ, "surface_dice", surface.dice(tolerance_of(organ, reading.tolerance_mm)))


def _volume_ml(pair: Pair, _reading: Reading) -> Iterator[Score]:
    for metric, axis in (("volume_ml", 1), ("reference_volume_ml", 0)):
        voxels = pair.confusion.sum(axis=axis)
        for organ in pair.classes.organs:
            yield Score(organ.name, metric, float(voxels[organ.label] * pair.geometry.voxel_volume_ml))


METRICS: dict[Metric, Callable[[Pair, Reading], Iterator[Score]]] = {  # a new metric: an entry, a name in core.config
    "dice": _dice,
    "hd95_mm": _hd95_mm,
    "surface_dice": _surface_dice,
    "volume_ml": _volume_ml,
}


def refuse_other_tolerances(tolerance_mm: Tolerance, classes: ClassTable) -> None:
    """Raise BadInputError for what is no length, and for an organ that there is not: it would count for nothing."""
    named = tolerance_mm if isinstance(tolerance_mm, Mapping) else {}
    unknown = [str(organ) for organ in named if organ not in {*classes.names[1:], *TOLERANCES_MM}]
    if unknown:
        raise BadInputError(
            f"tolerance_mm: there is no {', '.join(unknown)}. There are: {', '.join(classes.names[1:])}, and {OTHER} "
            "for the rest."
        )
    for organ, length in named.items():
        refuse_non_number(f"tolerance_mm[{organ!r}]", length)
    if not isinstance(tolerance_mm, Mapping):
        refuse_non_number("tolerance_mm", tolerance_mm)


def _refuse_other_tables(prediction: LabelMap, reference: LabelMap, classes: ClassTable) -> None:
    """By their names: one number that stands for two organs would be scored as one."""
    for name, label_map in (("prediction", prediction), ("reference", reference)):
        own = label_map.classes
        if own is not None and own.names != classes.names:
            raise BadInputError(
                f"{name}: its labels stand for {listed(own.names[1:])}; those to be scored are "
                f"{listed(classes.names[1:])}. Read each label map with the classes that it has: "
                "viscera.read_labels(path, classes=...), which else takes the paper's eight. Where numbers differ, "
                "translate those of one: read_labels(path, mapping, classes=...)."
            )


def _without_default(label_map: LabelMap) -> LabelMap:
    """Without a table where it is that of `read_labels`, which takes it where nothing is said."""
    is_default = label_map.classes is not None and label_map.classes.names == ABDOMEN.names
    return replace(label_map, classes=None) if is_default else label_map


def _known(what: str, names: object, known: Iterable[str], *, may_be_none: bool = False) -> list[Any]:
    """The names of a program, which no configuration has looked at: a text, none, unknown ones, one of them twice."""
    is_list = isinstance(names, Iterable) and not isinstance(names, str)
    given = list(names) if isinstance(names, Iterable) and is_list else [names]
    wrong = f"{'a text' if isinstance(names, str) else type(names).__name__} instead of a list" if not is_list else ""
    wrong = wrong or ("" if given or may_be_none else "an empty list")
    unknown = [str(name) for name in given if name not in list(known)]
    doubled = [str(name) for name in given if given.count(name) > 1]
    if wrong or unknown or doubled:
        found = wrong or (f"no {', '.join(unknown)}" if unknown else f"{doubled[0]} twice")
        is_of_maps = {*unknown} & {*get_args(CalibrationMetric)}
        hint = " ece and ace need probabilities: `viscera evaluate --metrics ece`." if is_of_maps else ""
        raise BadInputError(f"{what}: {found}; a list of these was expected, each once: {', '.join(known)}.{hint}")
    return given


def score(  # noqa: PLR0913 - two label maps, and how to compare them
    prediction: LabelMap,
    reference: LabelMap,
    *,
    metrics: Sequence[Metric] = ("dice",),
    tolerance_mm: Tolerance | None = None,
    absent: Absent = "undefined",
    classes: ClassTable | None = None,
    unlabelled: Collection[str] = (),
) -> "Scores":
    """Compare a prediction with the truth, on one grid.

    Voxels that the truth does not label are left out of all: they are background in both label maps where surfaces are
    sought, so that an organ that reaches into them has the surface of what is known of it.

    Args:
        prediction: a label map.
        reference: the truth; 255 (`core.anatomy.IGNORED`) where nobody labelled a voxel, as `read_labels` has it.
        metrics: `dice` (of all classes), `hd95_mm`, `surface_dice`, `volume_ml` (of prediction and reference; all
            three of the organs alone).
        tolerance_mm: of the surface Dice, by organ (`other` for the rest) or for all, 0 or more; None: FLARE22's.
        absent: Dice of a class that is in neither: None, or 1.
        classes: what the labels of both stand for, also where `read_labels` took the paper's eight for want of a
            table; None: what the reference says, or else the prediction, or else the paper's eight.
        unlabelled: names of the classes that the reference does not label: undefined here whatever `absent` says, and
            background in both label maps.

    Raises:
        BadTypeError: (a `TypeError`) one of the two is no `LabelMap`, `classes` no `ClassTable`, a tolerance no number.
        BadInputError: (a `ValueError`) the two do not lie on one grid, hold labels that stand for nothing, or know
            other classes than each other or than `classes`; no metric, one that there is not, or one twice; an organ
            or choice that does not exist; a negative tolerance.
    """
    refuse_other_than(LabelMap, prediction, "prediction")
    refuse_other_than(LabelMap, reference, "reference")
    if classes is not None:
        refuse_other_than(ClassTable, classes, "classes")
        prediction, reference = _without_default(prediction), _without_default(reference)
    classes = classes or reference.classes or prediction.classes or ABDOMEN
    tolerance_mm = TOLERANCES_MM if tolerance_mm is None else tolerance_mm
    metrics = _known("metrics", metrics, METRICS)
    _known("absent", [absent], get_args(Absent))
    unlabelled = _known("unlabelled", unlabelled, classes.names, may_be_none=True)
    refuse_other_tolerances(tolerance_mm, classes)
    return Scores(Pair.of(prediction, reference, classes, unlabelled).scores(metrics, tolerance_mm, absent))
