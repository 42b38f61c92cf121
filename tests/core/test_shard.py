"""Parts of the same work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.errors import BadInputError
from viscera.core.shard import Shard


@given(st.integers(0, 50), st.integers(1, 12))
def test_all_parts_are_all_things_and_each_is_in_one(things: int, total: int) -> None:
    parts = [Shard(number, total).of(range(things)) for number in range(1, total + 1)]
    assert sorted(each for part in parts for each in part) == list(range(things))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_it_is_read_as_job_arrays_write_it() -> None:
    assert Shard.parse("3/8") == (3, 8)
    assert Shard.parse(" 1 / 1 ") == (1, 1)


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "", "3/", "a/b", "-1/8", "1/0", "1.5/8"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=r"--shard .*: part and number of parts were expected, for example 1/8"):
        Shard.parse(text)
