"""Real CT: a plain and an arterial scan are unlike a portal-venous training set, and that is said."""

from pathlib import Path

from viscera.core.scan import OrganFacts
from viscera.engine.trust import OrganRange, TrainingRanges, reasons_not_to_trust
from viscera.io.nifti import read_labels, read_volume
from viscera.metrics.organ_facts import organ_facts


def facts_of(data: Path, name: str) -> dict[str, OrganFacts]:
    """Of the labels that come with a scan, so that no model has a say."""
    volume = read_volume(data / "imagesTr" / f"{name}_0000.nii.gz")
    return organ_facts(volume, read_labels(data / "labelsTr" / f"{name}.nii.gz"))


def test_contrast_phases(real_data: Path) -> None:
    data = real_data / "nnunet_real"
    portal_venous, plain, arterial = (facts_of(data, name) for name in ("ts_slab", "ts_example", "lidc0001"))
    training = TrainingRanges({organ: OrganRange.of([facts]) for organ, facts in portal_venous.items()})
    assert not any(reasons_not_to_trust(portal_venous, training).values())
    for scan in (plain, arterial):
        found = reasons_not_to_trust(scan, training)
        assert all(any("contrast phase unlike training" in reason for reason in reasons) for reasons in found.values())
    assert any("HU 44 outside 69 to 109" in reason for reason in reasons_not_to_trust(plain, training)["liver"])
