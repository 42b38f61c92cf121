"""Mending a label map, organ by organ: what lies apart, and what is missing within. Off unless asked for."""

import operator
from collections.abc import Sequence
from functools import partial

from viscera.core.anatomy import ClassTable
from viscera.core.config import CleanupConfig
from viscera.core.errors import BadInputError
from viscera.core.regions import Box, Components, boxes_of
from viscera.core.scan import LabelArray

_ALL = "all"


def cleaned(labels: LabelArray, config: CleanupConfig, classes: ClassTable) -> LabelArray:
    """A label map (I, J, K) as the configuration wants it; the same array where there is nothing to do.

    First every organ that is to be one piece loses its other pieces to the background; then, in label order, every
    organ that is to be without holes takes the background that it encloses. Other organs keep their voxels. What is
    open to the edge of the scan is no hole. Raises BadInputError for an organ that there is not.
    """
    to_thin = organs_named(config.largest_component, classes, "largest_component")
    to_fill = organs_named(config.fill_holes, classes, "fill_holes")
    if not to_thin and not to_fill:
        return labels
    result = labels.copy(order="K")
    for label, box in _boxes(result, to_thin):
        within = result[box]
        pieces = Components.find(within, partial(operator.eq, label))
        largest = pieces.largest
        for planes, numbers in pieces.numbered():
            within[:, :, planes][(numbers > 0) & (numbers != largest)] = 0
    for label, box in _boxes(result, to_fill):
        within = result[box]
        gaps = Components.find(within, partial(operator.ne, label), connectivity=6)
        holes = gaps.enclosed
        for planes, numbers in gaps.numbered():
            part = within[:, :, planes]
            part[holes[numbers] & (part == 0)] = label
    return result


def _boxes(labels: LabelArray, wanted: Sequence[int]) -> list[tuple[int, Box]]:
    boxes = boxes_of(labels, max(wanted) + 1) if wanted else []
    return [(label, boxes[label]) for label in wanted]


def organs_named(names: Sequence[str], classes: ClassTable, setting: str) -> list[int]:
    """The labels of organs by name, in label order; `all` is every organ. Raises BadInputError for one that is not."""
    labels = {organ.name: organ.label for organ in classes.organs}
    unknown = [name for name in names if name not in {*labels, _ALL}]
    if unknown:
        raise BadInputError(
            f"predict.cleanup.{setting}: there is no {', '.join(unknown)}. There are: {', '.join(labels)}, and {_ALL}."
        )
    return [label for organ, label in labels.items() if _ALL in names or organ in names]
