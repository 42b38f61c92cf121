"""One thing, and several."""

import pytest

from viscera.core.wording import agreeing, counted


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "case", "1 case is"),
        (0, "case", "0 cases are"),
        (2, "process", "2 processes are"),
        (1, "process", "1 process is"),
        (12345, "voxel", "12,345 voxels are"),
    ],
)
def test_one_thing_is_and_several_are(number: int, noun: str, said: str) -> None:
    assert f"{counted(number, noun)} {agreeing(number)}" == said
