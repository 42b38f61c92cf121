"""Every finding, on a phantom that was changed on purpose; the phantom as it is gives rise to none."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from viscera.check.case_facts import ADULT_VOLUMES, CaseFacts, OverlapFacts, measure_case
from viscera.check.finding_rules import findings_beside_others, findings_of_the_set, label_findings, scan_findings
from viscera.check.findings import KINDS, Finding, by_kind
from viscera.core.anatomy import ABDOMEN, IGNORED
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Volume
from viscera.imaging.phantom import phantom_case

LIVER, SPLEEN, STOMACH, PANCREAS = 3, 4, 5, 7
Hu = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def phantom() -> Case:
    """A patient of 4 mm voxels; its organs are whole but for the artery."""
    return phantom_case(1, 4, (96, 72, 72))


def changed(
    case: Case,
    hu: Callable[[Hu], npt.NDArray[np.generic]] = lambda hu: hu,
    labels: Callable[[Labels], Labels] = lambda labels: labels,
    affine: npt.NDArray[np.float64] | None = None,
) -> CaseFacts:
    """What is measured once values, labels or geometry are others."""
    new_hu, new_labels = hu(case.volume.hu.copy()).astype(np.int16), labels(case.label_map.labels.copy())
    shape = (new_hu.shape[0], new_hu.shape[1], new_hu.shape[2])
    geometry = Geometry(shape, case.volume.geometry.affine if affine is None else affine)
    return measure_case(Case(case.name, Volume(new_hu, geometry), LabelMap(new_labels, geometry)), ABDOMEN)


def found(facts: CaseFacts) -> dict[tuple[str, str], Finding]:
    """By kind and organ; findings say all that a table needs."""
    findings = [*scan_findings(facts), *label_findings(facts)]
    for finding in findings:
        assert finding.kind in KINDS
        assert finding.value
        assert finding.expected
        assert finding.level == "suspicious" or finding.at_mm is None
    return {(finding.kind, finding.organ): finding for finding in findings}


def suspicious(facts: CaseFacts) -> set[tuple[str, str]]:
    return {key for key, finding in found(facts).items() if finding.level == "suspicious"}


def test_a_phantom_as_it_is_raises_nothing_suspicious(phantom: Case) -> None:
    assert suspicious(changed(phantom)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_other_phantoms_raise_nothing_suspicious_either(seed: int) -> None:
    for number in range(12):
        facts = measure_case(phantom_case(seed, number, (72, 54, 54)), ABDOMEN)
        assert suspicious(facts) == set(), number


# ------------------------------------------------------------------------------------------ values


def test_values_without_their_intercept(phantom: Case) -> None:
    facts = changed(phantom, hu=lambda hu: hu + 1024)
    assert suspicious(facts) == {("hu_scale", "")}
    assert "0 to " in found(facts)["hu_scale", ""].value
    padded = changed(phantom, hu=lambda hu: np.where(hu < -1000, -2000, hu + 1024))
    assert suspicious(padded) == {("hu_scale", "")}


def test_an_intercept_applied_twice(phantom: Case) -> None:
    assert suspicious(changed(phantom, hu=lambda hu: hu - 1024)) == {("hu_scale", "")}


@pytest.mark.parametrize(
    "cut",
    [
        lambda hu: np.clip(hu + 160.0, 0, 400) / 400 * 255,
        lambda hu: np.clip(hu, -160, 240),
        lambda hu: np.clip(hu, -1024, 200),
        lambda hu: np.clip((hu + 160.0) / 400, 0, 1),
    ],
)
def test_a_windowed_picture(phantom: Case, cut: Callable[[Hu], npt.NDArray[np.generic]]) -> None:
    assert suspicious(changed(phantom, hu=cut)) == {("hu_window", "")}


def test_a_scan_without_air(phantom: Case) -> None:
    noise = np.random.default_rng(0).integers(-300, -200, phantom.volume.hu.shape)
    facts = changed(phantom, hu=lambda hu: np.where(hu < -300, noise, hu))
    assert ("no_air", "") in suspicious(facts)


def test_padding_with_water_is_suspicious_and_with_less_than_air_noted(phantom: Case) -> None:
    def padded(value: int) -> Callable[[Hu], Hu]:
        def pad(hu: Hu) -> Hu:
            hu[:14] = value  # 15 % of the voxels
            return hu

        return pad

    assert suspicious(changed(phantom, hu=padded(0))) == {("padding", "")}
    assert found(changed(phantom, hu=padded(-2000)))["padding", ""].level == "note"
    assert ("padding", "") not in found(changed(phantom, hu=padded(-1024)))


# ------------------------------------------------------------------------------------------ voxels


def test_voxels_of_other_units_and_thick_or_uneven_ones(phantom: Case) -> None:
    assert ("spacing", "") in suspicious(changed(phantom, affine=np.diag([0.004, 0.004, 0.004, 1])))
    thick = found(changed(phantom, affine=np.diag([4, 4, 6.0, 1])))
    assert thick["thick_slices", ""].value == "6 mm"
    assert ("anisotropy", "") not in thick
    uneven = found(changed(phantom, affine=np.diag([0.7, 0.7, 5.0, 1])))
    assert ("thick_slices", "") not in uneven
    assert "7.1 times" in uneven["anisotropy", ""].value


def test_a_lost_spacing_is_one_finding_of_all_organs(phantom: Case) -> None:
    facts = changed(phantom, affine=np.diag([1.0, 1, 1, 1]))  # instead of 4 mm: volumes 64 times smaller
    assert suspicious(facts) == {("volume", "")}
    assert "6 of 7 organs smaller than in adults: " in found(facts)["volume", ""].value


# ------------------------------------------------------------------------------------------ labels


def test_mirrored_labels(phantom: Case) -> None:
    facts = changed(phantom, labels=lambda labels: labels[::-1])
    finding = found(facts)["left_right", "liver"]
    liver, spleen = facts.organ("liver"), facts.organ("spleen")
    assert liver is not None
    assert spleen is not None
    apart_mm = spleen.centre_mm[0] - liver.centre_mm[0]
    assert finding.value == f"its centre is {apart_mm:.0f} mm left of that of the spleen"
    assert finding.at_mm == liver.inside_mm


def test_a_mirrored_header(phantom: Case) -> None:
    mirrored = np.diag([-1.0, 1, 1, 1]) @ phantom.volume.geometry.affine
    assert suspicious(changed(phantom, affine=mirrored)) == {("left_right", "liver")}


def test_without_a_spleen_the_stomach_tells_left_from_right(phantom: Case) -> None:
    def without_spleen(labels: Labels) -> Labels:
        return np.where(labels == SPLEEN, np.uint8(0), labels)

    assert ("left_right", "liver") not in found(changed(phantom, labels=without_spleen))
    assert ("left_right", "liver") in found(changed(phantom, labels=lambda labels: without_spleen(labels)[::-1]))


def test_front_and_back_swapped(phantom: Case) -> None:
    assert ("front_back", "portal_vein") in suspicious(changed(phantom, labels=lambda labels: labels[:, ::-1]))


def test_shifted_labels_are_one_finding_where_they_are_in_air(phantom: Case) -> None:
    facts = changed(phantom, labels=lambda labels: np.roll(labels, 10, axis=2))  # 40 mm up, into the lungs
    assert {kind for kind, _ in suspicious(facts)} >= {"labels_off"}
    assert [organ for kind, organ in suspicious(facts) if kind == "labels_off"] == [""]
    assert found(facts)["labels_off", ""].at_mm is not None


def test_small_shifts_are_seen_too(phantom: Case) -> None:
    facts = changed(phantom, labels=lambda labels: np.roll(labels, 3, axis=2))  # 12 mm up
    assert ("labels_off", "") in suspicious(facts)


def test_gas_in_the_stomach_is_no_shift(phantom: Case) -> None:
    inside = phantom.label_map.labels == STOMACH
    facts = changed(phantom, hu=lambda hu: np.where(inside, -900, hu))
    assert suspicious(facts) == set()


def test_one_organ_on_values_that_it_cannot_have(phantom: Case) -> None:
    spleen = phantom.label_map.labels == SPLEEN
    assert suspicious(changed(phantom, hu=lambda hu: np.where(spleen, -120, hu))) == {("labels_off", "spleen")}
    pancreas = phantom.label_map.labels == PANCREAS
    rim = pancreas & (np.cumsum(pancreas).reshape(pancreas.shape) % 5 == 0)  # a fifth of it
    assert suspicious(changed(phantom, hu=lambda hu: np.where(rim, -400, hu))) == {("labels_off", "pancreas")}


def test_a_stray_piece_far_away(phantom: Case) -> None:
    def with_stray(labels: Labels) -> Labels:
        labels[20:23, 40:43, 5:8] = LIVER  # 1.7 mL in the left pelvis
        return labels

    facts = changed(phantom, labels=with_stray)
    assert suspicious(facts) == {("fragments", "liver")}
    finding = found(facts)["fragments", "liver"]
    assert "2 pieces" in finding.value
    assert "one of 1.73 mL" in finding.value
    affine = phantom.volume.geometry.affine
    assert finding.at_mm == pytest.approx(tuple((affine @ (21, 41, 6, 1))[:3]))


def test_an_organ_in_two_halves(phantom: Case) -> None:
    def cut(labels: Labels) -> Labels:
        middle = int(np.argwhere(labels == SPLEEN)[:, 2].mean())
        plane = labels[:, :, middle]
        plane[plane == SPLEEN] = 0
        return labels

    assert suspicious(changed(phantom, labels=cut)) == {("fragments", "spleen")}


def test_what_nobody_labelled_is_counted_and_neither_breaks_nor_removes_an_organ(phantom: Case) -> None:
    def unknown(labels: Labels) -> Labels:
        middle = int(np.argwhere(labels == SPLEEN)[:, 2].mean())
        labels[:, :, middle] = IGNORED
        labels[labels == PANCREAS] = IGNORED
        return labels

    facts = changed(phantom, labels=unknown)
    assert suspicious(facts) == set()
    notes = found(facts)
    assert notes["ignored", ""].value.startswith(f"{facts.ignored:,} of 497,664 voxels")
    assert "2 pieces" in notes["fragments", "spleen"].value
    whole = [dataclasses.replace(changed(phantom), case=f"other {n}") for n in range(9)]
    levels = {f.case: f.level for f in findings_beside_others([facts, *whole]) if f.kind == "missing"}
    assert levels == {facts.case: "note"}


@pytest.mark.parametrize(("share", "expected"), [(0.5, ("empty", "note")), (1, ("nothing_labelled", "suspicious"))])
def test_no_organ_where_much_or_all_is_not_labelled(phantom: Case, share: float, expected: tuple[str, str]) -> None:
    def unknown(labels: Labels) -> Labels:
        labels[:] = 0
        labels[: round(share * len(labels))] = IGNORED
        return labels

    (finding,) = [each for each in label_findings(changed(phantom, labels=unknown)) if each.kind != "ignored"]
    assert (finding.kind, finding.level) == expected
    assert "background" not in KINDS["nothing_labelled"].advice  # of what nobody labelled nothing is learnt


def test_masks_that_overlap(phantom: Case) -> None:
    facts = changed(phantom)
    little = OverlapFacts("pancreas", "stomach", volume_ml=0.52, share=0.006, inside_mm=(1.0, 2.0, 3.0))
    much = dataclasses.replace(little, kept_by="portal_vein", volume_ml=4.3, share=0.05)
    overlapping = dataclasses.replace(facts, overlaps=(little,))
    assert suspicious(overlapping) == set()
    assert found(overlapping)["overlap", "pancreas"].value == "0.52 mL also in the mask of the stomach, 0.6% of its own"
    finding = found(dataclasses.replace(facts, overlaps=(much,)))["overlap", "pancreas"]
    assert (finding.level, finding.at_mm) == ("suspicious", (1.0, 2.0, 3.0))
    assert finding.value == "4.3 mL also in the mask of the portal vein, 5.0% of its own"


def test_unusual_volumes(phantom: Case) -> None:
    def thinned(labels: Labels) -> Labels:
        voxels = np.argwhere(labels == PANCREAS)
        labels[tuple(voxels[100:].T)] = 0  # 6.4 mL stay
        return labels

    facts = changed(phantom, labels=thinned)
    assert found(facts)["volume", "pancreas"].value == "6.4 mL"
    assert found(facts)["volume", "pancreas"].expected == "20 to 200 mL in adults"


def test_an_organ_cut_off_by_the_scan_is_no_small_one(phantom: Case) -> None:
    top = int(np.argwhere(phantom.label_map.labels == LIVER)[:, 2].max())
    whole = phantom.volume.geometry.affine
    facts = changed(
        phantom, hu=lambda hu: hu[:, :, top - 5 :], labels=lambda labels: labels[:, :, top - 5 :], affine=whole
    )
    liver = facts.organ("liver")
    assert liver is not None
    assert liver.volume_ml < ADULT_VOLUMES["liver"].low_ml
    assert ("volume", "liver") not in found(facts)
    assert found(facts)["cut_off", "liver"].value == "touches the lower edge"
    assert found(facts)["cut_off", "liver"].level == "note"


def test_labels_without_an_organ(phantom: Case) -> None:
    assert suspicious(changed(phantom, labels=np.zeros_like)) == {("empty", "")}


# ------------------------------------------------------------------------------------------ beside the others


@pytest.fixture(scope="module")
def patients() -> list[CaseFacts]:
    return [measure_case(phantom_case(4, number, (48, 36, 36)), ABDOMEN) for number in range(5)]


def test_different_patients_are_no_duplicates(patients: list[CaseFacts]) -> None:
    assert findings_beside_others(patients) == []
    assert list(findings_of_the_set(patients, ABDOMEN.names[1:])) == []


def test_the_same_scan_twice_and_the_same_labels_twice(patients: list[CaseFacts]) -> None:
    twin = dataclasses.replace(patients[0], case="twin", labels_sha256="corrected")
    mixed_up = dataclasses.replace(patients[1], case="mixed up", image_sha256="another patient")
    both = dataclasses.replace(patients[2], case="both")
    findings = findings_beside_others([*patients, twin, mixed_up, both])
    assert {(finding.case, finding.kind, finding.value) for finding in findings} == {
        ("phantom_000", "same_image", "the scan of twin"),
        ("twin", "same_image", "the scan of phantom_000"),
        ("phantom_001", "same_labels", "the labels of mixed up"),
        ("mixed up", "same_labels", "the labels of phantom_001"),
        ("phantom_002", "same_image", "the scan of both"),
        ("both", "same_image", "the scan of phantom_002"),
    }


def test_empty_labels_are_no_duplicates(patients: list[CaseFacts]) -> None:
    empty = [dataclasses.replace(case, organs=(), labels_sha256="zeros") for case in patients]
    assert findings_beside_others(empty) == []


def test_a_missing_organ_is_suspicious_where_nearly_all_have_it(patients: list[CaseFacts]) -> None:
    def without(case: CaseFacts, name: str) -> CaseFacts:
        return dataclasses.replace(case, organs=tuple(organ for organ in case.organs if organ.name != name))

    twelve = [
        dataclasses.replace(patients[n % 5], case=f"c{n}", image_sha256=str(n), labels_sha256=str(n)) for n in range(12)
    ]
    twelve[3] = without(twelve[3], "spleen")
    for number in range(4):
        twelve[number] = without(twelve[number], "gallbladder")
    twelve[5] = dataclasses.replace(
        without(twelve[5], "stomach"), labelled=tuple(name for name in twelve[5].labelled if name != "stomach")
    )
    found_missing = {(f.case, f.organ): (f.level, f.value) for f in findings_beside_others(twelve)}
    assert found_missing == {
        ("c3", "spleen"): ("suspicious", "absent; 11 of 12 cases have it"),
        **{(f"c{n}", "gallbladder"): ("note", "absent; 8 of 12 cases have it") for n in range(4)},
    }


def test_spacing_unlike_the_median(patients: list[CaseFacts]) -> None:
    (finding,) = findings_beside_others([*patients[:4], dataclasses.replace(patients[4], spacing_mm=(8.0, 8.0, 2.5))])
    assert (finding.kind, finding.level, finding.value) == ("spacing_unlike", "note", "8×8×2.5 mm")
    assert finding.expected == "within 2 times the median, 8×8×8 mm"


def test_what_holds_for_the_whole_set(patients: list[CaseFacts]) -> None:
    cases = [dataclasses.replace(case, labelled=ABDOMEN.names[1:7]) for case in patients]
    cases[0] = dataclasses.replace(cases[0], orientation="LPS")
    cases = [dataclasses.replace(c, organs=tuple(o for o in c.organs if o.name != "liver")) for c in cases]
    findings = {f.kind: f for f in findings_of_the_set(cases, ABDOMEN.names[1:])}
    assert findings["orientations"].value == "LPS 1, RAS 4"
    assert (findings["never_present"].organ, findings["never_present"].level) == ("liver", "suspicious")
    assert (findings["not_labelled"].organ, findings["not_labelled"].level) == ("pancreas", "note")
    few = {f.kind: f for f in findings_of_the_set(cases[:2], ABDOMEN.names[1:])}
    assert few["never_present"].level == "note"


def test_groups_come_in_the_order_of_the_kinds(phantom: Case) -> None:
    facts = changed(phantom, hu=lambda hu: hu + 1024, labels=lambda labels: labels[::-1])
    groups = by_kind([*label_findings(facts), *scan_findings(facts)], "suspicious")
    assert [kind for kind, _ in groups] == [KINDS["hu_scale"], KINDS["left_right"]]


# ------------------------------------------------------------------------------------------ adult volumes


@pytest.mark.parametrize(
    ("organ", "published_ml"),
    [
        ("liver", (1510, 2320 + 750)),  # normal; enlarged and one standard deviation
        ("spleen", (107, 215, 315, 1005)),
        ("stomach", (62, 130, 748)),
        ("gallbladder", (11.1, 17.0, 50.9)),
        ("pancreas", (72.4, 139.8)),
        ("artery", (np.pi * 0.835**2 * 10, np.pi * 1.29**2 * 40)),  # 16.7 mm for 10 cm, 25.8 mm for 40 cm
        ("portal_vein", (np.pi * 0.775**2 * 8, 54)),  # 15.5 mm for 8 cm; a whole tree labelled by experts
    ],
)
def test_what_is_published_is_usual(organ: str, published_ml: tuple[float, ...]) -> None:
    usual = ADULT_VOLUMES[organ]
    assert all(usual.low_ml < volume < usual.high_ml for volume in published_ml)
    assert usual.source


def test_a_value_beside_its_bound_does_not_read_as_it(phantom: Case) -> None:
    facts = changed(phantom)
    usual = ADULT_VOLUMES["pancreas"]

    def with_pancreas(**values: Any) -> CaseFacts:
        organs = [dataclasses.replace(each, **values) if each.name == "pancreas" else each for each in facts.organs]
        return dataclasses.replace(facts, organs=tuple(organs))

    high = found(with_pancreas(volume_ml=usual.high_ml + 0.2))["volume", "pancreas"]
    assert (high.value, high.expected) == ("200.2 mL", "20 to 200 mL in adults")
    air = found(with_pancreas(in_air=0.102))["labels_off", "pancreas"]
    assert (air.value, air.expected) == ("10.2% of its voxels below -200 HU", "10% or less")
