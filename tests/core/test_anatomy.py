"""Names to classes."""

import pytest

from viscera.core.anatomy import ABDOMEN, CLASS_NAMES, ORGANS, TOLERANCES_MM, ClassTable, label_numbers, tolerance_of
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
    assert label_numbers(table, found_in="x").mapping == {0: 0, 1: 4, 4: 6, 5: 3, 6: 5, 7: 7, 52: 1, 63: 0, 64: 2}


@pytest.mark.parametrize("spelling", ["Portal Vein", "portal-vein", "PortalVein", "PV", "PSV"])
def test_spellings(spelling: str) -> None:
    table = {name: label for label, name in enumerate(CLASS_NAMES) if name != "portal_vein"} | {spelling: 2}
    assert label_numbers(table, found_in="x").mapping[2] == 2


@pytest.mark.parametrize("name", ["hepatic_vessel", "veins", "postcava", "esophagus", "duodenum"])
def test_names_easily_mistaken_are_background(name: str) -> None:
    table = {n: label for label, n in enumerate(CLASS_NAMES)} | {name: 9}
    assert label_numbers(table, found_in="x").mapping[9] == 0


def test_missing_organs_are_listed() -> None:
    table = {"background": 0, "liver": 1, "spleen": 2}
    with pytest.raises(BadInputError, match=r"name no artery, portal_vein, stomach, gallbladder, pancreas"):
        label_numbers(table, found_in="dataset.json")


def test_two_names_of_one_organ_are_refused() -> None:
    table = {name: label for label, name in enumerate(CLASS_NAMES)} | {"aorta": 9}
    with pytest.raises(BadInputError, match="'artery' and 'aorta' both mean artery"):
        label_numbers(table, found_in="dataset.json")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"liver_tumour": 3}, "'liver' and 'liver_tumour' both have the number 3"),
        ({"liver": 0}, "'liver' and 'background' both have the number 0"),
    ],
)
def test_an_organ_has_a_number_of_its_own(changed: dict[str, int], message: str) -> None:
    table = {name: number for number, name in enumerate(CLASS_NAMES)} | changed
    with pytest.raises(BadInputError, match=message):
        label_numbers(table, found_in="dataset.json")
    del table["background"]
    with pytest.raises(BadInputError, match=message):
        label_numbers(table, found_in="dataset.json")


def test_other_structures_may_share_a_number_and_what_nnunet_ignores_is_no_background() -> None:
    table = {name: number for number, name in enumerate(CLASS_NAMES)} | {"spine": 9, "ribs": 9, "ignore": 8}
    mapping = label_numbers(table, found_in="dataset.json").mapping
    assert (mapping[9], 8 in mapping) == (0, False)


def test_a_partial_data_set_says_what_it_does_not_label() -> None:
    numbers = label_numbers({"background": 0, "liver": 1, "liver_tumour": 2}, found_in="x", partial=True)
    assert numbers.mapping == {0: 0, 1: 3, 2: 0}
    assert numbers.unlabelled == ("artery", "portal_vein", "spleen", "stomach", "gallbladder", "pancreas")


def test_a_partial_data_set_has_at_least_one_organ() -> None:
    with pytest.raises(BadInputError, match="name no artery"):
        label_numbers({"background": 0, "heart": 1}, found_in="x", partial=True)


def test_other_classes_than_the_papers() -> None:
    table = ClassTable.of_names(["background", "liver", "kidney_left"])
    assert len(table) == 3
    assert table.classes[1].colour == ABDOMEN.classes[3].colour
    assert [c.title for c in table.organs] == ["liver", "kidney left"]
    assert (table.label_of("Kidney-Left"), table.label_of("spleen")) == (2, 0)
    numbers = label_numbers({"background": 0, "kidney left": 2, "liver": 6, "spleen": 1}, found_in="x", table=table)
    assert numbers.mapping == {0: 0, 2: 2, 6: 1, 1: 0}
    assert numbers.unlabelled == ()


@pytest.mark.parametrize("names", [[], ["background"], ["liver", "background"], ["background", "liver", "Liver"]])
def test_tables_that_are_none(names: list[str]) -> None:
    with pytest.raises(BadInputError, match="'background' first"):
        ClassTable.of_names(names)


def test_the_papers_names_give_the_papers_table() -> None:
    assert ClassTable.of_names(CLASS_NAMES) == ABDOMEN


def test_a_name_of_ours_wins_over_an_alias() -> None:
    # "aorta" is an alias of the paper's artery, but in this table it is a class of its own
    table = ClassTable.of_names(["background", "artery", "aorta"])
    assert (table.label_of("aorta"), table.label_of("Arteries")) == (2, 1)


def test_a_label_map_holds_255_classes() -> None:
    names = ["background", *(f"organ_{n}" for n in range(254))]
    assert len(ClassTable.of_names(names)) == 255
    with pytest.raises(BadInputError, match="256 of them"):
        ClassTable.of_names([*names, "one_more"])


def test_a_dozen_organs_have_a_dozen_colours() -> None:
    table = ClassTable.of_names(["background", "liver", "spleen", *(f"organ_{n}" for n in range(10))])
    assert len({c.colour for c in table.classes}) == 13


def test_every_organ_of_the_paper_has_a_tolerance_and_the_rest_has_one() -> None:
    assert set(TOLERANCES_MM) == {organ.name for organ in ORGANS} | {"other"}


def test_own_before_other_before_the_default() -> None:
    assert tolerance_of("liver", TOLERANCES_MM) == 5
    assert tolerance_of("left_kidney", TOLERANCES_MM) == 2
    assert tolerance_of("left_kidney", {"other": 3.0}) == 3
    assert tolerance_of("left_kidney", {}) == 2
    assert tolerance_of("liver", 1.5) == 1.5
