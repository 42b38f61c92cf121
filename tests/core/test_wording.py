"""One thing, and several."""

import pytest

from viscera.core.wording import agreeing, counted, listed, told_apart


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "case", "1 case is"),
        (0, "case", "0 cases are"),
        (2, "process", "2 processes are"),
        (1, "process", "1 process is"),
        (12345, "voxel", "12,345 voxels are"),
        (2, "patch", "2 patches are"),
    ],
)
def test_one_thing_is_and_several_are(number: int, noun: str, said: str) -> None:
    assert f"{counted(number, noun)} {agreeing(number)}" == said


@pytest.mark.parametrize(
    ("numbers", "digits", "expected"),
    [
        ((0.30, 0.25), 2, ["0.30", "0.25"]),
        ((0.0412, 0.0378), 2, ["0.041", "0.038"]),
        ((0.04123, 0.04119), 2, ["0.04123", "0.04119"]),
        ((900.4, 960.0, 2000.0), 0, ["900", "960", "2000"]),
        ((130.3, 70.0, 130.0), 0, ["130.3", "70.0", "130.0"]),
        ((5.0, 4.0, 4.0), 0, ["5", "4", "4"]),  # bounds that are equal stay so
        ((0.1, 0.1 + 1e-9), 2, ["0.10", "0.10"]),  # rounding, and no difference
    ],
)
def test_a_value_and_its_bound_are_printed_apart(numbers: tuple[float, ...], digits: int, expected: list[str]) -> None:
    assert told_apart(numbers, digits) == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [("", ""), ("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c and 1 more"), ("abcdef", "a, b, c and 3 more")],
)
def test_a_list_that_is_cut_says_how_many_there_are_more(names: str, said: str) -> None:
    assert listed(list(names), 3) == said
