"""How far two surfaces may lie apart and still count as one, by organ: the tolerances of the surface Dice.

Those of the FLARE22 challenge on abdominal CT (its public evaluation code; Ma et al., Lancet Digit Health 2024,
6(11):e815). FLARE22 has no portal vein: it takes the 2 mm of FLARE22's vessels. Structures that are not named take
2 mm, the smallest of FLARE22's.
"""

from collections.abc import Mapping

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
