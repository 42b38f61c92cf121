"""The classes: names, label numbers, aliases, codes, colours. The paper's eight, and tables of any others.

The order is the paper's (Table 1) and equals the label numbers. This is the only place that holds it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from viscera.core.errors import BadInputError, BadTypeError


@dataclass(frozen=True)
class AnatomicalClass:
    """One label of a label map."""

    label: int  # number in a label map, 0 to L - 1
    name: str  # in files and tables, snake_case
    colour: str  # sRGB hex; of the eight, Okabe and Ito's palette, which stays apart for colour-blind readers
    aliases: tuple[str, ...] = ()  # other spellings that data sets use, lower case, without `_`, `-` and spaces
    snomed: str = ""  # SNOMED CT code of the structure; empty where we know none

    @property
    def title(self) -> str:
        """Name for people."""
        return title_of(self.name)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour's red, green and blue, 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour.removeprefix("#"))
        return red, green, blue

    @property
    def coded(self) -> tuple[str, str]:
        """SNOMED CT code and its meaning; those of any tissue where we know none."""
        return (self.snomed, self.title.capitalize()) if self.snomed else ("85756007", "Tissue")


CLASSES: tuple[AnatomicalClass, ...] = (
    AnatomicalClass(0, "background", "#000000"),
    AnatomicalClass(1, "artery", "#d55e00", ("arteries", "aorta", "arota"), "51114001"),
    AnatomicalClass(
        2, "portal_vein", "#0072b2", ("pv", "psv", "portalveinsplenicvein", "portalveinandsplenicvein"), "32764006"
    ),
    AnatomicalClass(3, "liver", "#cc79a7", (), "10200004"),
    AnatomicalClass(4, "spleen", "#56b4e9", (), "78961009"),
    AnatomicalClass(5, "stomach", "#f0e442", (), "69695003"),
    AnatomicalClass(6, "gallbladder", "#009e73", ("gall",), "28231008"),
    AnatomicalClass(7, "pancreas", "#e69f00", (), "15776009"),
)
CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
ORGANS: tuple[AnatomicalClass, ...] = CLASSES[1:]
NUM_CLASSES = len(CLASSES)
ANATOMICAL_STRUCTURE = ("123037004", "Anatomical Structure")  # SNOMED CT: the category of all of them
IGNORED = 255  # in label maps, which are uint8: voxels that nobody labelled (nnU-Net's `ignore`), of no class at all
MOST_CLASSES = IGNORED  # numbered below it
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")  # it stands in tables, pages, formulas and names of files
_MORE_COLOURS = (  # after Paul Tol's qualitative schemes
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77"),
    *("#cc6677", "#882255", "#aa4499", "#6699cc", "#661100", "#aa4466"),
)


def title_of(name: str) -> str:
    """A class's name for people."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class ClassTable:
    """The classes that a data set is trained on, in label order, background first."""

    classes: tuple[AnatomicalClass, ...]  # (L,) numbered 0 to L - 1

    def __post_init__(self) -> None:
        if not isinstance(self.classes, tuple) or not all(isinstance(each, AnatomicalClass) for each in self.classes):
            raise BadTypeError(f"classes: {self.classes!r}; ClassTable.of_names makes a table of names.")
        if (numbers := [each.label for each in self.classes]) != list(range(len(numbers))):
            raise BadInputError(f"classes: numbered {numbers}; 0 and up were expected, each once and in order.")

    @classmethod
    def of_names(cls, names: Sequence[str]) -> "ClassTable":
        """The table of these names (snake_case) in label order; those of the paper keep aliases, code and colour.

        Raises BadInputError where background is not first, a name stands twice, or for none or more than 255 organs;
        BadTypeError for what is no list of names.
        """
        if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
            raise BadTypeError(f"classes: {names!r}; a list of names in label order was expected, 'background' first.")
        names = tuple(names)
        if not all(isinstance(name, str) for name in names):
            raise BadTypeError(f"classes: {list(names)}; names were expected, as ['background', 'liver'].")
        if len(names) < 2 or names[0] != "background" or len({squeezed(name) for name in names}) < len(names):
            raise BadInputError(
                f"classes: {', '.join(names) or 'none'}. 'background' first, then one name or more, each once, wanted."
            )
        if odd := [name for name in names if not _NAME.fullmatch(name)]:
            raise BadInputError(
                f"classes: {odd[0]!r} is not a valid name of a class. Letters, digits and _, as in kidney_left."
            )
        if len(names) > MOST_CLASSES:
            raise BadInputError(f"classes: {len(names)} of them. A label map holds {MOST_CLASSES} at most; name fewer.")
        known = {c.name: c for c in CLASSES}
        colours = cycle(_MORE_COLOURS)
        classes = (known[name] if name in known else AnatomicalClass(0, name, next(colours)) for name in names)
        return cls(tuple(replace(each, label=label) for label, each in enumerate(classes)))

    def __repr__(self) -> str:
        return f"ClassTable({len(self)}: {', '.join(self.names[:3])}{', …' if len(self) > 3 else ''})"

    def __len__(self) -> int:
        """L, with background."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """(L,) as in files."""
        return tuple(c.name for c in self.classes)

    @property
    def organs(self) -> tuple[AnatomicalClass, ...]:
        """(L - 1,) without background."""
        return self.classes[1:]

    def label_of(self, spelling: str) -> int:
        """The label that a data set's name stands for, by our name or else an alias; 0 where it is none of ours."""
        by_alias = {alias: c.label for c in self.organs for alias in c.aliases}
        by_name = {squeezed(c.name): c.label for c in self.organs}
        return (by_alias | by_name).get(squeezed(spelling), 0)


ABDOMEN = ClassTable(CLASSES)


@dataclass(frozen=True)
class LabelNumbers:
    """What the numbers in a data set's label maps mean."""

    mapping: Mapping[int, int]  # the data set's number to class number; names that are none of ours are background
    unlabelled: tuple[str, ...] = ()  # names of the classes that the data set does not label, in label order
    ignored: int | None = None  # nnU-Net's `ignore`, the number of voxels that nobody labelled: `IGNORED` in ours
    others: tuple[str, ...] = ()  # names that are none of the classes


def squeezed(name: str) -> str:
    """A name by which spellings are compared: without capitals, `_`, `-`, dots and spaces."""
    return re.sub(r"[\W_]+", "", name.lower())


def means_ignored(name: str) -> bool:
    """Whether a data set's name, in nnU-Net's spelling, stands for voxels that nobody labelled."""
    return name.lower() == "ignore"


def label_numbers(
    labels_by_name: Mapping[str, int], *, found_in: str, table: ClassTable = ABDOMEN, partial: bool = False
) -> LabelNumbers:
    """Map a data set's own label numbers, for example `{"background": 0, "aorta": 8}`, onto our classes by their names.

    nnU-Net's `ignore` is kept apart: its voxels are of no class. nnU-Net itself wants it to have the highest number;
    here any will do that nothing else has. `found_in` is the file or layout that the numbers come from; a `partial`
    data set may lack organs.

    Raises BadInputError where an organ of ours has no name in the table (or none has, if partial), where two names mean
    the same organ, and where an organ, or `ignore`, shares its number with another name or has that of the background.
    """
    mapping: dict[int, int] = {0: 0}
    ignored: int | None = None
    names_by_label: dict[int, str] = {}
    for name, number in labels_by_name.items():
        is_ignored = means_ignored(name)
        label = table.label_of(name)
        sharing = [other for other, its in labels_by_name.items() if its == number and other != name]
        if (label or is_ignored) and (number == 0 or sharing):
            other = sharing[0] if sharing else "background"
            raise BadInputError(f"{found_in}: '{name}' and '{other}' both have the number {number}. Correct the table.")
        if is_ignored:
            ignored = number
            continue
        if label and label in names_by_label:
            raise BadInputError(
                f"{found_in}: '{names_by_label[label]}' and '{name}' both mean {table.names[label]}. Keep one of them."
            )
        names_by_label[label] = name
        mapping[number] = label
    missing = tuple(organ.name for organ in table.organs if organ.label not in names_by_label)
    if missing and (not partial or len(missing) == len(table.organs)):
        raise BadInputError(
            f"{found_in}: its labels ({', '.join(labels_by_name)}) name no {', '.join(missing)}. Training needs "
            f"{', '.join(o.name for o in table.organs)}. Add the missing names to `labels`, "
            f"{'or ' * partial}name the organs to learn with --classes FILE"
            f"{'.' if partial else ', or take the data set as it is with --partial.'}"
        )
    others = (name for name, number in labels_by_name.items() if number and number != ignored and not mapping[number])
    return LabelNumbers(mapping, missing, ignored, tuple(others))


# How far two surfaces may lie apart and still count as one (surface Dice): those of the FLARE22 challenge on abdominal
# CT (its public evaluation code; Ma et al., Lancet Digit Health 2024, 6(11):e815). FLARE22 has no portal vein: it takes
# the 2 mm of FLARE22's vessels. Structures that are not named take 2 mm, the smallest of FLARE22's.
OTHER = "other"
TOLERANCES_MM: Mapping[str, float] = {
    "artery": 2.0,
    "portal_vein": 2.0,
    "liver": 5.0,
    "spleen": 3.0,
    "stomach": 5.0,
    "gallbladder": 2.0,
    "pancreas": 5.0,
    OTHER: 2.0,
}


def tolerance_of(organ: str, tolerances_mm: Mapping[str, float] | float) -> float:
    """The tolerance of one organ in mm: its own, or that of `other`; a single number holds for all."""
    if isinstance(tolerances_mm, Mapping):
        return tolerances_mm.get(organ, tolerances_mm.get(OTHER, TOLERANCES_MM[OTHER]))
    return tolerances_mm
