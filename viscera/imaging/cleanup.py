"""Mending a label map, organ by organ: what lies apart, and what is missing within. Off unless asked for."""

from collections.abc import Sequence

from viscera.core.anatomy import ClassTable
from viscera.core.config import CleanupConfig
from viscera.core.errors import BadInputError
from viscera.core.regions import Mask, box_of, cropped, holes, largest_component
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
    result = labels.copy()
    for label in to_thin:
        organ, within = _organ(result, label)
        within[organ & ~largest_component(organ)] = 0
    for label in to_fill:
        organ, within = _organ(result, label)
        within[holes(organ) & (within == 0)] = label
    return result


def _organ(labels: LabelArray, label: int) -> tuple[Mask, LabelArray]:
    """The mask of an organ within the box around it, and a view of the labels there."""
    mask = labels == label
    box = box_of(mask)
    return cropped(mask, box), labels[box]


def organs_named(names: Sequence[str], classes: ClassTable, setting: str) -> list[int]:
    """The labels of organs by name, in label order; `all` is every organ. Raises BadInputError for one that is not."""
    labels = {organ.name: organ.label for organ in classes.organs}
    unknown = [name for name in names if name not in {*labels, _ALL}]
    if unknown:
        raise BadInputError(
            f"predict.cleanup.{setting}: there is no {', '.join(unknown)}. There are: {', '.join(labels)}, and {_ALL}."
        )
    return [label for organ, label in labels.items() if _ALL in names or organ in names]
