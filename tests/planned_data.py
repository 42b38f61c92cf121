"""What training cases could be like, to plan for."""

from viscera.planning.fingerprint import Fingerprint, OrganFacts, OrganHu
from viscera.planning.labelled_part import Spacing


def data_of(
    spacing_mm: Spacing,
    shape: Spacing,
    *,
    store_mm: Spacing = (4.0, 4.0, 4.0),
    organ_ml: float = 1000.0,
    cases: int = 10,
    hu: OrganHu | None = None,
) -> Fingerprint:
    """Of equal scans with one organ."""
    return Fingerprint(
        cases=cases,
        validation_cases=2,
        spacing_mm=store_mm,
        spacing_ratio=1.0,
        shape=shape,
        scan_spacings_mm=(spacing_mm,) * cases,
        scan_shapes=(shape,) * cases,
        hu=hu or OrganHu(-99.5, 250.2, 80.04, 60.0),
        organs=(OrganFacts("spleen", cases, cases, organ_ml, organ_ml),),
    )
