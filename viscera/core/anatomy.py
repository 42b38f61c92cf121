"""The eight classes of the paper (background and seven organs): names, label numbers, aliases, colours.

The order is the paper's (Table 1) and equals the label numbers. This is the only place that holds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from viscera.core.errors import BadInputError


@dataclass(frozen=True)
class AnatomicalClass:
    """One label of a label map.

    Attributes:
        label: number in a label map, 0 to 7.
        name: name in files and tables, snake_case.
        title: name for people.
        colour: sRGB hex; Okabe and Ito's palette, which stays apart for colour-blind readers.
        aliases: other spellings that data sets use, lower case, without `_`, `-` and spaces.
    """

    label: int
    name: str
    title: str
    colour: str
    aliases: tuple[str, ...] = ()


CLASSES: tuple[AnatomicalClass, ...] = (
    AnatomicalClass(0, "background", "background", "#000000"),
    AnatomicalClass(1, "artery", "artery", "#d55e00", ("arteries", "aorta")),
    AnatomicalClass(
        2, "portal_vein", "portal vein", "#0072b2", ("portalveinandsplenicvein", "pv", "psv", "portalveinsplenicvein")
    ),
    AnatomicalClass(3, "liver", "liver", "#cc79a7"),
    AnatomicalClass(4, "spleen", "spleen", "#56b4e9"),
    AnatomicalClass(5, "stomach", "stomach", "#f0e442"),
    AnatomicalClass(6, "gallbladder", "gallbladder", "#009e73", ("gall",)),
    AnatomicalClass(7, "pancreas", "pancreas", "#e69f00"),
)
CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
CLASS_TITLES = {c.name: c.title for c in CLASSES}
ORGANS: tuple[AnatomicalClass, ...] = CLASSES[1:]
NUM_CLASSES = len(CLASSES)


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


_LABEL_BY_SPELLING = {spelling: c.label for c in CLASSES for spelling in (_squeezed(c.name), *c.aliases)}


def label_mapping(labels_by_name: Mapping[str, int], *, found_in: str) -> dict[int, int]:
    """Map a data set's own label numbers onto the eight classes by their names.

    Args:
        labels_by_name: the data set's table, for example `{"background": 0, "aorta": 8, "liver": 6}`.
        found_in: file or layout the table comes from, for the message.

    Returns:
        Own number to class number, for every number of the table; names that are none of ours become background.

    Raises:
        BadInputError: an organ of ours has no name in the table, or two names mean the same organ.
    """
    mapping: dict[int, int] = {0: 0}
    names_by_label: dict[int, str] = {}
    for name, number in labels_by_name.items():
        label = _LABEL_BY_SPELLING.get(_squeezed(name), 0)
        if label and label in names_by_label:
            raise BadInputError(
                f"{found_in}: '{names_by_label[label]}' and '{name}' both mean {CLASS_NAMES[label]}. Keep one of them."
            )
        names_by_label[label] = name
        mapping[number] = label
    missing = [organ.name for organ in ORGANS if organ.label not in names_by_label]
    if missing:
        raise BadInputError(
            f"{found_in}: its labels ({', '.join(labels_by_name)}) name no {', '.join(missing)}. "
            f"Training needs all seven organs: {', '.join(o.name for o in ORGANS)}. Add the missing names to `labels`."
        )
    return mapping
