"""What only shows beside the other cases of a data set."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from viscera.check.case_facts import CaseFacts
from viscera.check.findings import Finding, Level
from viscera.check.scan_findings import spacing_text

UNLIKE = 2.0  # times finer or coarser than the median
CASES_FOR_A_MEDIAN = 3
NEARLY_ALWAYS = 0.9
CASES_TO_TELL = 5  # from that many on, an organ that none of them has is no chance


def findings_beside_others(cases: Sequence[CaseFacts]) -> list[Finding]:
    """Findings of single cases that need the others: spacing, organs missing, duplicates."""
    return [*_spacings(cases), *_missing(cases), *_duplicates(cases)]


def findings_of_the_set(cases: Sequence[CaseFacts], classes: Iterable[str]) -> Iterator[Finding]:
    """What holds for the data set as a whole."""
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
            value = f"in none of {len(labelling)} {'case' if len(labelling) == 1 else 'cases'}"
            yield Finding("", name, "never_present", level, value, "in one case or more")


def _spacings(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    if len(cases) < CASES_FOR_A_MEDIAN:
        return
    median = np.median([case.spacing_mm for case in cases], axis=0)
    x, y, z = (float(each) for each in median)
    for case in cases:
        ratio = np.array(case.spacing_mm) / median
        if max(ratio.max(), 1 / ratio.min()) > UNLIKE:
            expected = f"within {UNLIKE:g} times the median, {spacing_text((x, y, z))}"
            yield Finding(case.case, "", "spacing_unlike", "note", spacing_text(case.spacing_mm), expected)


def _missing(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    for name in dict.fromkeys(name for case in cases for name in case.labelled):
        labelling = [case for case in cases if name in case.labelled and case.organs]
        have = sum(case.organ(name) is not None for case in labelling)
        for case in labelling:
            if have and case.organ(name) is None:
                usual = have >= NEARLY_ALWAYS * len(labelling)
                value, expected = f"absent; {have} of {len(labelling)} cases have it", "present"
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
