"""What was probably meant: by hand."""

import pytest

from viscera.core.suggestions import as_number, did_you_mean, nearest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqaure", "square"),
        ("Uniform", "uniform"),
        ("hd95", "hd95_mm"),
        ("surface-dice", "surface_dice"),
        ("xyz", None),
    ],
)
def test_the_nearest_of_several_names(given: str, expected: str | None) -> None:
    assert nearest(given, ["uniform", "simple", "square", "hd95_mm", "surface_dice"]) == expected


def test_a_sentence_where_something_is_near() -> None:
    assert did_you_mean("sqaure", ["square"]) == " Did you mean square?"
    assert did_you_mean("cubic", ["square"]) == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0,01", "0.01"),
        ("-1,5", "-1.5"),
        ("20%", "0.2"),
        ("12.5 %", "0.125"),
        ("1,2,3", None),
        ("0.01", None),
        ("", None),
    ],
)
def test_numbers_as_they_are_written_elsewhere(text: str, number: str | None) -> None:
    assert as_number(text) == number
