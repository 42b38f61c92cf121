"""What is remarkable about one scan: its values and its voxels."""

from collections.abc import Iterator

from viscera.check.case_facts import CaseFacts
from viscera.check.findings import Finding, Level
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
    doubt = no_hu(hu)
    if doubt is not None:
        kind, value, expected = doubt
        yield Finding(facts.case, "", kind, "suspicious", value, expected, facts.centre_mm)
        return
    if hu.air < LITTLE_AIR:
        value = f"{hu.air:.1%} of the voxels below -500, the lowest {hu.lowest}"
        yield Finding(facts.case, "", "no_air", "suspicious", value, "air, about -1000 HU", facts.centre_mm)
    if hu.at_commonest >= MUCH_PADDING and not AIR_HU[0] <= hu.commonest <= AIR_HU[1]:
        above = hu.commonest > AIR_HU[1]
        value = f"{hu.at_commonest:.0%} of the voxels are {hu.commonest}"
        level: Level = "suspicious" if above else "note"
        yield Finding(
            facts.case, "", "padding", level, value, "padding of -1024 HU", facts.centre_mm if above else None
        )


def _voxels(facts: CaseFacts) -> Iterator[Finding]:
    spacing = facts.spacing_mm
    text = spacing_text(spacing)
    low, high = POSSIBLE_SPACING_MM
    if min(spacing) < low or max(spacing) > high:
        yield Finding(facts.case, "", "spacing", "suspicious", text, f"{low:g} to {high:g} mm", facts.centre_mm)
    elif max(spacing) > THICK_MM + 0.01:
        yield Finding(facts.case, "", "thick_slices", "note", f"{max(spacing):.3g} mm", f"{THICK_MM:g} mm or less")
    if max(spacing) / min(spacing) > ANISOTROPIC:
        value = f"{text}: {max(spacing) / min(spacing):.1f} times as long as wide"
        yield Finding(facts.case, "", "anisotropy", "note", value, f"{ANISOTROPIC:g} times or less")


def spacing_text(spacing_mm: tuple[float, float, float]) -> str:
    """For example `0.98×0.98×2 mm`."""
    return "×".join(f"{x:.3g}" for x in spacing_mm) + " mm"
