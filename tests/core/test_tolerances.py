from viscera.core.anatomy import ORGANS, TOLERANCES_MM, tolerance_of


def test_every_organ_of_the_paper_has_a_tolerance_and_the_rest_has_one() -> None:
    assert set(TOLERANCES_MM) == {organ.name for organ in ORGANS} | {"other"}


def test_own_before_other_before_the_default() -> None:
    assert tolerance_of("liver", TOLERANCES_MM) == 5
    assert tolerance_of("left_kidney", TOLERANCES_MM) == 2
    assert tolerance_of("left_kidney", {"other": 3.0}) == 3
    assert tolerance_of("left_kidney", {}) == 2
    assert tolerance_of("liver", 1.5) == 1.5
