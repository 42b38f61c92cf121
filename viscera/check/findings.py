"""What a check of a data set says: findings, each with what was found, what was expected and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from viscera.check.case_facts import CaseFacts
from viscera.core.geometry import Point

Level = Literal["suspicious", "note"]


class Kind(NamedTuple):
    """One thing that is looked for: what it is called on the page, and what to do about it."""

    title: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed."""

    case: str  # whose; empty for the whole data set
    organ: str  # name of its class; empty for the whole scan
    kind: str  # name of one of `KINDS`
    level: Level  # suspicious is likely a mistake and should be looked at; a note is good to know
    value: str  # what was found, with its unit
    expected: str  # what would not have been remarked
    at_mm: Point | None = None  # where to look, RAS+; None where a picture of the case would not show it


@dataclass(frozen=True)
class CaseCheck:
    """What was found in one case."""

    case: str  # its name
    facts: CaseFacts | None  # what was measured; None where it could not be read
    reason: str = ""  # why it could not be read; empty where it could
    findings: tuple[Finding, ...] = ()  # of this case
    defect: bool = False  # whether it was not read by a defect of viscera

    @property
    def verdict(self) -> Literal["not read", "suspicious", "note", "clean"]:
        """The worst that is said of it."""
        if self.facts is None:
            return "not read"
        levels = {finding.level for finding in self.findings}
        return "suspicious" if "suspicious" in levels else "note" if levels else "clean"

    @property
    def is_labelled_in_part(self) -> bool:
        """Whether an organ borders on what nobody labelled, so that its volume may not be the whole organ's."""
        return self.facts is not None and any(organ.beside_ignored for organ in self.facts.organs)


@dataclass(frozen=True)
class DataSetCheck:
    """What was found in a data set."""

    title: str  # what the data set calls itself
    classes: tuple[str, ...]  # names of the organs that were looked for, in label order
    cases: tuple[CaseCheck, ...]  # by name
    findings: tuple[Finding, ...] = ()  # of the data set as a whole
    parts_missing: int = 0  # of a job array; then these are the cases of one part alone, not compared with others

    def with_verdict(self, *verdicts: str) -> list[CaseCheck]:
        """The cases of one of these verdicts."""
        return [case for case in self.cases if case.verdict in verdicts]

    def all_findings(self) -> list[Finding]:
        """Of the data set, then of the cases by name."""
        return [*self.findings, *(finding for case in self.cases for finding in case.findings)]


def by_kind(findings: Sequence[Finding], level: Level) -> list[tuple[Kind, list[Finding]]]:
    """The findings of one level, grouped, in the order of `KINDS`."""
    groups = [(kind, [f for f in findings if (f.kind, f.level) == (name, level)]) for name, kind in KINDS.items()]
    return [(kind, group) for kind, group in groups if group]


KINDS: dict[str, Kind] = {  # by their names in files
    "no_class": Kind(
        "names of labels that mean none of the classes",
        "If one is misspelt, or in another language, correct it in the table of labels. `viscera prepare` refuses the "
        "data set while one of its classes has no name there; with --partial these organs are background.",
    ),
    "hu_scale": Kind(
        "values that are not HU",
        "Apply the rescale slope and intercept (usually: subtract 1024), or export the scan again.",
    ),
    "hu_window": Kind(
        "values clipped to an HU window",
        "This is a picture, not a scan: the HU outside the window are lost. Export the scan again from DICOM.",
    ),
    "no_air": Kind(
        "no air in the scan",
        "A scan has air around the body. If this one is cropped on purpose, all is well; else check its HU.",
    ),
    "padding": Kind(
        "a value that fills much of the scan",
        "Padding should be air (-1024 HU). Below that it does no harm, as training clips; above, set it to -1024.",
    ),
    "spacing": Kind(
        "voxels of an unlikely size",
        "Check the header: the unit should be mm. If the spacing was lost, convert the scan again from DICOM.",
    ),
    "spacing_unlike": Kind(
        "voxels unlike those of the other cases",
        "Prepare with --spacing-mm, so that all cases come onto one grid; --downsample keeps the differences.",
    ),
    "thick_slices": Kind(
        "thick slices", "Thin organs are lost in them; take thinner reconstructions if there are any."
    ),
    "anisotropy": Kind(
        "voxels much longer than wide",
        "Windows of such voxels are as uneven; --spacing-mm makes them even, and thinner slices would be better.",
    ),
    "ignored": Kind(
        "voxels that nobody labelled",
        "Nothing: nnU-Net's `ignore` counts nowhere. What may go on there is not called small or broken.",
    ),
    "nothing_labelled": Kind(
        "cases of which nothing is labelled",
        "Label some of the case, or leave it out: training learns nothing from it, and it has no score.",
    ),
    "empty": Kind(
        "labels without an organ", "Label the case or leave it out: training would learn that all is background."
    ),
    "missing": Kind(
        "organs that are not there",
        "Fine if it was removed or lies outside the scan. If it was only not labelled, label it or leave the case out: "
        "training would learn it as background.",
    ),
    "left_right": Kind(
        "left and right swapped",
        "In the picture: if the scan's own liver lies on the patient's left too, scan and labels were mirrored (or it "
        "is situs inversus, about 1 person in 10,000); if only the outlines do, the labels were. Mirror them back.",
    ),
    "front_back": Kind(
        "front and back swapped", "In the picture: find out whether scan or labels were mirrored, and undo it."
    ),
    "labels_off": Kind(
        "labels that do not fit the scan",
        "In the picture: outlines beside their organs mean labels of another scan, or a wrong header. Export again.",
    ),
    "volume": Kind(
        "unusual volumes",
        "In the picture: outlines that leak or leave out much are mistakes; a large or small organ is none. If most "
        "organs of a case are unusual, check its spacing. Children are smaller.",
    ),
    "fragments": Kind(
        "organs in pieces",
        "Remove stray voxels and fill gaps; the cross in the picture marks a piece. Coarse voxels tear thin organs.",
    ),
    "overlap": Kind(
        "masks that overlap",
        "The class of the lower number has these voxels. In the picture: where the other should, mend the masks.",
    ),
    "cut_off": Kind(
        "organs cut off by the edge of the scan", "Nothing: their volumes are not judged, as they are partial."
    ),
    "same_image": Kind(
        "cases with the same scan", "Keep one. On both sides of a split they would make the test worthless."
    ),
    "same_labels": Kind(
        "cases with the same labels and different scans",
        "One of them has the labels of the other. Export the labels again.",
    ),
    "orientations": Kind("several orientations", "Nothing: every file is read by its header."),
    "not_labelled": Kind(
        "organs that the data set does not label",
        "`viscera prepare` takes such a data set with --partial; these organs are then not learnt from it.",
    ),
    "never_present": Kind(
        "organs that no case contains", "Check the table of labels: the name may stand for another number."
    ),
}
