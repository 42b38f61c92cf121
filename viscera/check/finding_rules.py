"""What is remarkable: about the values and voxels of one scan, about its labels, and beside the other cases."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from viscera.check.case_facts import ADULT_VOLUMES, SPECK_ML, CaseFacts, LabelledOrgan
from viscera.check.findings import Finding, Level
from viscera.core.anatomy import title_of
from viscera.core.geometry import Point, size_text
from viscera.core.wording import agreeing, counted, listed, told_apart
from viscera.metrics.hounsfield import no_hu

LITTLE_AIR = 0.001
MUCH_PADDING = 0.1
AIR_HU = (-1100, -900)
POSSIBLE_SPACING_MM = (0.1, 12.0)
THICK_MM = 5.0
ANISOTROPIC = 5.0


def scan_findings(facts: CaseFacts) -> Iterator[Finding]:
    """What one scan alone gives rise to."""
    yield from _values(facts)
    yield from _voxels(facts)


def _values(facts: CaseFacts) -> Iterator[Finding]:
    hu = facts.hu
    if (doubt := no_hu(hu)) is not None:
        kind, value, expected = doubt
        yield Finding(facts.case, "", kind, "suspicious", value, expected, facts.centre_mm)
        return
    if hu.air < LITTLE_AIR:
        value = f"{hu.air:.1%} of the voxels below -500, the lowest {hu.lowest}"
        yield Finding(facts.case, "", "no_air", "suspicious", value, "air, about -1000 HU", facts.centre_mm)
    if hu.at_commonest >= MUCH_PADDING and not AIR_HU[0] <= hu.commonest <= AIR_HU[1]:
        value = f"{hu.at_commonest:.0%} of the voxels are {hu.commonest}"
        level, at_mm = _if_it_is(hu.commonest > AIR_HU[1], facts.centre_mm)
        yield Finding(facts.case, "", "padding", level, value, "padding of -1024 HU", at_mm)


def _if_it_is(suspicious: bool, at_mm: Point) -> tuple[Level, Point | None]:
    """The level of a finding, and the place where a picture would show it."""
    return ("suspicious", at_mm) if suspicious else ("note", None)


def _voxels(facts: CaseFacts) -> Iterator[Finding]:
    spacing = facts.spacing_mm
    text = f"{size_text(spacing)} mm"
    low, high = POSSIBLE_SPACING_MM
    if min(spacing) < low or max(spacing) > high:
        yield Finding(facts.case, "", "spacing", "suspicious", text, f"{low:g} to {high:g} mm", facts.centre_mm)
    elif max(spacing) > THICK_MM + 0.01:
        yield Finding(facts.case, "", "thick_slices", "note", f"{max(spacing):.3g} mm", f"{THICK_MM:g} mm or less")
    if max(spacing) / min(spacing) > ANISOTROPIC:
        value = f"{text}: {max(spacing) / min(spacing):.1f} times as long as wide"
        yield Finding(facts.case, "", "anisotropy", "note", value, f"{ANISOTROPIC:g} times or less")


MEAN_HU = {"liver": (-50, 250), "spleen": (-50, 250)}
MUCH_IN_AIR = 0.02  # of all organs without gas together
ORGAN_IN_AIR = 0.1  # of one of them: small ones lie beside gas
GAS_INSIDE = re.compile("stomach|duodenum|bowel|colon|intestine|rectum|esophagus|lung|trachea")
_MOST_NAMED = 12  # organs of one finding
MANY_ORGANS = 3
MOST_ORGANS = 0.7
ONE_PIECE = 0.9
MUCH_OVERLAP = 0.05  # of an organ's mask; less is a rough border
FAR_MM = 20.0
THROUGH = {"artery"}  # runs out of every scan of the abdomen
EDGES = {"L": "left", "R": "right", "P": "back", "A": "front", "I": "lower", "S": "upper"}
# organ, lies to the right of, or in front of
SIDES = (("liver", "spleen"), ("liver", "stomach"), ("gallbladder", "spleen"), ("gallbladder", "stomach"))
FRONTS = (("portal_vein", "artery"), ("pancreas", "artery"), ("stomach", "artery"))


def label_findings(facts: CaseFacts) -> Iterator[Finding]:
    """What one case's labels give rise to."""
    voxels = int(np.prod(facts.shape))
    if facts.ignored == voxels:
        yield Finding(facts.case, "", "nothing_labelled", "suspicious", f"all {voxels:,} voxels ignored", "a label map")
        return
    if facts.ignored:
        partly = [title_of(organ.name) for organ in facts.organs if organ.beside_ignored]
        which = "all organs" if len(partly) == len(facts.organs) else listed(partly, _MOST_NAMED)
        of_part = f"; volumes of the labelled part alone: {which}" if partly else ""
        value = f"{facts.ignored:,} of {voxels:,} voxels, {facts.ignored / voxels:.1%}{of_part}"
        yield Finding(facts.case, "", "ignored", "note", value, "every voxel labelled")
    if not facts.organs:
        level, at_mm = _if_it_is(not facts.ignored, facts.centre_mm)  # else one may lie there
        yield Finding(facts.case, "", "empty", level, "no organ", "one organ or more", at_mm)
        return
    yield from _sides(facts)
    yield from _off(facts)
    yield from _volumes(facts)
    yield from _overlaps(facts)
    for organ in facts.organs:
        yield from _pieces(facts.case, organ)
        if organ.edges and organ.name not in THROUGH:
            value = f"touches the {' and '.join(EDGES[edge] for edge in organ.edges)} edge"
            yield Finding(facts.case, organ.name, "cut_off", "note", value, "inside the scan")


def _sides(facts: CaseFacts) -> Iterator[Finding]:
    """The first pair of organs that are both there decides."""
    for kind, axis, pairs, word in (("left_right", 0, SIDES, "right of"), ("front_back", 1, FRONTS, "in front of")):
        there = [(one, other) for names in pairs if (one := facts.organ(names[0])) and (other := facts.organ(names[1]))]
        for one, other in there[:1]:
            apart_mm = one.centre_mm[axis] - other.centre_mm[axis]
            if apart_mm < 0:
                opposite = "left of" if axis == 0 else "behind"
                value = f"its centre is {-apart_mm:.0f} mm {opposite} that of the {title_of(other.name)}"
                expected = f"{word} the {title_of(other.name)}"
                yield Finding(facts.case, one.name, kind, "suspicious", value, expected, one.inside_mm)


def _off(facts: CaseFacts) -> Iterator[Finding]:
    """Organs on values that they cannot have. Scans whose values are no HU have findings of their own."""
    if no_hu(facts.hu) is not None:
        return
    solid = [organ for organ in facts.organs if not GAS_INSIDE.search(organ.name)]
    in_air = sum(organ.volume_ml * organ.in_air for organ in solid) / (sum(organ.volume_ml for organ in solid) or 1)
    if in_air > MUCH_IN_AIR:
        worst = sorted((organ for organ in solid if organ.in_air > MUCH_IN_AIR), key=lambda organ: -organ.in_air)
        which = ", ".join(f"{title_of(organ.name)} {organ.in_air:.0%}" for organ in worst)
        value = f"{_percent(in_air, MUCH_IN_AIR)} of the organs' voxels below -200 HU: {which}"
        yield Finding(facts.case, "", "labels_off", "suspicious", value, f"{MUCH_IN_AIR:.0%} or less", worst[0].air_mm)
        return
    for organ in solid:
        low, high = MEAN_HU.get(organ.name, (-1024, 4000))
        if organ.in_air > ORGAN_IN_AIR:
            value = f"{_percent(organ.in_air, ORGAN_IN_AIR)} of its voxels below -200 HU"
            expected = f"{ORGAN_IN_AIR:.0%} or less"
            yield Finding(facts.case, organ.name, "labels_off", "suspicious", value, expected, organ.air_mm)
        elif not low <= organ.mean_hu <= high:
            value, expected = f"mean of {told_apart((organ.mean_hu, low, high), 0)[0]} HU", f"{low} to {high} HU"
            yield Finding(facts.case, organ.name, "labels_off", "suspicious", value, expected, organ.inside_mm)


def _percent(share: float, bound: float) -> str:
    """`3%`, `2.1%`: of a share of 1, so that it does not read as its bound."""
    return f"{told_apart((100 * share, 100 * bound), 0)[0]}%"


def _volumes(facts: CaseFacts) -> Iterator[Finding]:
    """One finding an unusual organ; a single one where nearly all organs are unusual in the same way."""
    judged = [organ for organ in facts.organs if organ.name in ADULT_VOLUMES]
    for way, word in (("small", "smaller"), ("large", "larger")):
        unusual = [organ for organ in judged if organ.unusual == way]
        if len(unusual) >= MANY_ORGANS and len(unusual) >= MOST_ORGANS * len(judged):
            volumes = ", ".join(f"{title_of(organ.name)} {ml_text(organ.volume_ml)}" for organ in unusual)
            value = f"{len(unusual)} of {len(judged)} organs {word} than in adults: {volumes}"
            at_mm = facts.organs[0].inside_mm
            yield Finding(facts.case, "", "volume", "suspicious", value, "organs of an adult", at_mm)
            continue
        for organ in unusual:
            usual = ADULT_VOLUMES[organ.name]
            expected = f"{usual.low_ml:g} to {usual.high_ml:g} mL in adults"
            value = ml_text(organ.volume_ml)
            if value in map(ml_text, (usual.low_ml, usual.high_ml)):
                value = f"{told_apart((organ.volume_ml, usual.low_ml, usual.high_ml), 0)[0]} mL"
            yield Finding(facts.case, organ.name, "volume", "suspicious", value, expected, organ.inside_mm)


def _overlaps(facts: CaseFacts) -> Iterator[Finding]:
    for overlap in facts.overlaps:
        level, at_mm = _if_it_is(overlap.share >= MUCH_OVERLAP, overlap.inside_mm)
        shared = f"{ml_text(overlap.volume_ml)} also in the mask of the {title_of(overlap.kept_by)}"
        value = f"{shared}, {overlap.share:.1%} of its own"
        yield Finding(facts.case, overlap.organ, "overlap", level, value, "one organ a voxel", at_mm)


def _pieces(case: str, organ: LabelledOrgan) -> Iterator[Finding]:
    """A broken organ is suspicious, and so is a piece far away, unless what is not seen or labelled can be why."""
    stray = organ.stray
    if stray is None:
        return
    broken = organ.largest_piece < ONE_PIECE and not organ.may_go_on
    may_be_joined = stray.at_edge or organ.beside_ignored
    far = stray.gap_mm > FAR_MM and stray.volume_ml >= SPECK_ML and not may_be_joined
    level, at_mm = _if_it_is(broken or far, stray.centre_mm)
    apart = f"one of {ml_text(stray.volume_ml)} {stray.gap_mm:.0f} mm from the largest"
    value = f"{organ.pieces} pieces, the largest {organ.largest_piece:.1%} of the organ, {apart}"
    yield Finding(case, organ.name, "fragments", level, value, "one piece", at_mm)


def ml_text(volume_ml: float) -> str:
    """For example `1512 mL`, `18.8 mL`, `0.05 mL`."""
    return f"{volume_ml:.0f} mL" if volume_ml >= 100 else f"{volume_ml:.3g} mL"


UNLIKE = 2.0  # times finer or coarser than the median
CASES_FOR_A_MEDIAN = 3
NEARLY_ALWAYS = 0.9
CASES_TO_TELL = 5  # from that many on, an organ that none of them has is no chance


def findings_beside_others(cases: Sequence[CaseFacts]) -> list[Finding]:
    """Findings of single cases that need the others: spacing, organs missing, duplicates."""
    return [*_spacings(cases), *_missing(cases), *_duplicates(cases)]


def findings_of_the_set(
    cases: Sequence[CaseFacts], classes: Sequence[str], names_of_no_class: Sequence[str] = ()
) -> Iterator[Finding]:
    """What holds for the data set as a whole, whose table of labels may have names that are none of the classes."""
    lacking = [name for name in classes if not any(name in case.labelled for case in cases)]
    if cases and lacking and names_of_no_class:  # else they are further organs, which training need not have
        value = listed([f"'{name}'" for name in names_of_no_class]) + " would be background"
        expected = f"a name that means {listed([title_of(name) for name in lacking])}"
        yield Finding("", "", "no_class", "suspicious", value, expected)
    codes = sorted({case.orientation for case in cases})
    if len(codes) > 1:
        counts = ", ".join(f"{code} {sum(case.orientation == code for case in cases)}" for code in codes)
        yield Finding("", "", "orientations", "note", counts, "any")
    for name in classes:
        labelling = [case for case in cases if name in case.labelled]
        if cases and not labelling:
            yield Finding("", name, "not_labelled", "note", "labelled in no case", "labelled")
        elif labelling and not any(case.organ(name) for case in labelling):
            level: Level = "suspicious" if len(labelling) >= CASES_TO_TELL else "note"
            value = f"in none of {counted(len(labelling), 'case')}"
            yield Finding("", name, "never_present", level, value, "in one case or more")


def _spacings(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    if len(cases) < CASES_FOR_A_MEDIAN:
        return
    median = np.median([case.spacing_mm for case in cases], axis=0)
    expected = f"within {UNLIKE:g} times the median, {size_text(median)} mm"
    for case in cases:
        ratio = np.array(case.spacing_mm) / median
        if max(ratio.max(), 1 / ratio.min()) > UNLIKE:
            yield Finding(case.case, "", "spacing_unlike", "note", f"{size_text(case.spacing_mm)} mm", expected)


def _missing(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    for name in dict.fromkeys(name for case in cases for name in case.labelled):
        labelling = [case for case in cases if name in case.labelled and case.organs]
        have = sum(case.organ(name) is not None for case in labelling)
        for case in labelling:
            if have and case.organ(name) is None:
                usual = have >= NEARLY_ALWAYS * len(labelling) and not case.ignored  # it may lie there
                has = agreeing(have, "has", "have")
                value, expected = f"absent; {have} of {len(labelling)} cases {has} it", "present"
                yield Finding(case.case, name, "missing", "suspicious" if usual else "note", value, expected)


def _duplicates(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    images, labels = defaultdict(list), defaultdict(list)
    for case in cases:
        images[case.image_sha256].append(case.case)
        if case.organs:
            labels[case.labels_sha256].append(case.case)
    for case in cases:
        twins = [name for name in images[case.image_sha256] if name != case.case]
        if twins:
            yield Finding(case.case, "", "same_image", "suspicious", f"the scan of {', '.join(twins)}", "its own scan")
        others = [name for name in labels[case.labels_sha256] if name not in {case.case, *twins}] if case.organs else []
        if others:
            yield Finding(case.case, "", "same_labels", "suspicious", f"the labels of {', '.join(others)}", "its own")
