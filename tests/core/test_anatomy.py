"""Names to classes."""

import pytest

from viscera.core.anatomy import CLASS_NAMES, label_mapping
from viscera.core.errors import BadInputError


def test_the_classes_and_their_order_are_the_papers() -> None:
    assert CLASS_NAMES == (
        "background",
        "artery",
        "portal_vein",
        "liver",
        "spleen",
        "stomach",
        "gallbladder",
        "pancreas",
    )


def test_totalsegmentator_numbers_map_by_name() -> None:
    # DATASETS table, TotalSegmentator v2; inferior_vena_cava is none of ours
    table = {
        "background": 0,
        "spleen": 1,
        "gallbladder": 4,
        "liver": 5,
        "stomach": 6,
        "pancreas": 7,
        "aorta": 52,
        "inferior_vena_cava": 63,
        "portal_vein_and_splenic_vein": 64,
    }
    assert label_mapping(table, found_in="x") == {0: 0, 1: 4, 4: 6, 5: 3, 6: 5, 7: 7, 52: 1, 63: 0, 64: 2}


@pytest.mark.parametrize("spelling", ["Portal Vein", "portal-vein", "PortalVein", "PV", "PSV"])
def test_spellings(spelling: str) -> None:
    table = {name: label for label, name in enumerate(CLASS_NAMES) if name != "portal_vein"} | {spelling: 2}
    assert label_mapping(table, found_in="x")[2] == 2


@pytest.mark.parametrize("name", ["hepatic_vessel", "veins", "postcava", "esophagus", "duodenum"])
def test_names_easily_mistaken_are_background(name: str) -> None:
    table = {n: label for label, n in enumerate(CLASS_NAMES)} | {name: 9}
    assert label_mapping(table, found_in="x")[9] == 0


def test_missing_organs_are_listed() -> None:
    table = {"background": 0, "liver": 1, "spleen": 2}
    with pytest.raises(BadInputError, match=r"name no artery, portal_vein, stomach, gallbladder, pancreas"):
        label_mapping(table, found_in="dataset.json")


def test_two_names_of_one_organ_are_refused() -> None:
    table = {name: label for label, name in enumerate(CLASS_NAMES)} | {"aorta": 9}
    with pytest.raises(BadInputError, match="'artery' and 'aorta' both mean artery"):
        label_mapping(table, found_in="dataset.json")
