"""What an entry of the table of layouts says."""

from collections.abc import Mapping
from dataclasses import dataclass

from viscera.io.store import Split


@dataclass(frozen=True)
class Place:
    """Where the files of cases lie, relative to the data set's folder, and how they are called.

    `*` stands for the case and is the same in all of them; `.nii` or `.nii.gz` follows. `[_0000]` may be there or not.

    Attributes:
        scan: the CT, for example `imagesTr/amos_*`. The part that holds `*` names the case.
        labels: its label map; empty if there is none.
        masks: a folder of one mask file an organ, called as the organ; empty if there is none.
        split: the part of the official split that these cases are; None: the data set does not say.
    """

    scan: str
    labels: str = ""
    masks: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class Layout:
    """One public data set, or one convention for folders.

    Attributes:
        name: as `--layout` takes it.
        title: for people.
        places: of its cases, all of them taken; without any, the layout is a preset for other folders' label numbers.
        numbers: names to label numbers. None: the data set names its labels itself.
        names_in: the file that does so, in the data set's folder; the first that is there counts.
        shown: the largest number that its label maps show lies in this range; tells data sets in equal folders apart.
        ids: case numbers that are taken; None: all.
        scans_optional: fits a folder without scans too (which can serve as references).
        checked: where folders and numbers were looked up.
    """

    name: str
    title: str
    checked: str
    places: tuple[Place, ...] = ()
    numbers: Mapping[str, int] | None = None
    names_in: tuple[str, ...] = ()
    shown: range | None = None
    ids: range | None = None
    scans_optional: bool = False

    @property
    def is_data_set(self) -> bool:
        """Whether it is one data set; those are taken before conventions for folders."""
        return self.numbers is not None


@dataclass(frozen=True)
class Refusal:
    """A known data set that cannot be learned from.

    Attributes:
        title: for people.
        marks: file patterns, relative to the data set's folder, one of which gives it away.
        reason: why not, and what to do instead.
        checked: where that was looked up.
    """

    title: str
    marks: tuple[str, ...]
    reason: str
    checked: str


def in_order(*names: str) -> dict[str, int]:
    """Names to the numbers from 1 on, in their order."""
    return {name: number for number, name in enumerate(names, start=1)}
