"""Parts of a job array count through one list of cases: another one is named, and nothing is noted then."""

from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.core.shard import Shard
from viscera.io.job_parts import JobParts, alone_with_part, begin_part, difference, end_part, parts_path, read_parts


def test_a_list_that_changes_between_parts_is_named(tmp_path: Path) -> None:
    """Of a, b, c, d in two parts the first has a and c; of b, c, d, e the second has c and e: b is in none."""
    begin_part(tmp_path, "predict", Shard(1, 2), ["a", "b", "c", "d"])
    end_part(tmp_path, "predict", Shard(1, 2))
    path = parts_path(tmp_path, "predict")
    before = path.read_bytes()
    with pytest.raises(BadInputError) as caught:
        begin_part(tmp_path, "predict", Shard(2, 2), ["b", "c", "d", "e"])
    assert str(caught.value) == (
        f"{tmp_path}: part 1 of 2 began with another list of cases (new: e; gone: a), so that some case would be in no "
        f"part or in two. Put the list right, or delete {path} and run all parts again: what is done is kept."
    )
    assert path.read_bytes() == before
    begin_part(tmp_path, "predict", Shard(2, 2), ["a", "b", "c", "d"])
    assert read_parts(tmp_path, "predict") == JobParts(2, ("a", "b", "c", "d"), (1, 2), (1,))


def test_what_no_other_part_knows_may_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin_part(tmp_path, "predict", Shard(1, 2), ["a"])
    begin_part(tmp_path, "predict", Shard(1, 2), ["a", "b"])  # this part alone has begun
    begin_part(tmp_path, "evaluate", Shard(2, 2), ["c"])  # another command
    begin_part(tmp_path, "predict", Shard(2, 2), ["a", "b"])
    assert not caplog.text
    begin_part(tmp_path, "predict", Shard(3, 3), ["a", "b", "c"])  # other parts
    assert f"{tmp_path}: parts 1, 2 of 2 began here before, and this is part 3 of 3" in caplog.text
    assert read_parts(tmp_path, "predict") == JobParts(3, ("a", "b", "c"), (3,), ())


def test_when_all_parts_are_done_another_list_begins_anew(tmp_path: Path) -> None:
    for number in (1, 2):
        begin_part(tmp_path, "prepare", Shard(number, 2), ["a", "b"])
        end_part(tmp_path, "prepare", Shard(number, 2))
    begin_part(tmp_path, "prepare", Shard(2, 2), ["a", "b"])  # again
    assert read_parts(tmp_path, "prepare") == JobParts(2, ("a", "b"), (1, 2), (1, 2))
    begin_part(tmp_path, "prepare", Shard(2, 2), ["a", "b", "c"])
    with pytest.raises(BadInputError, match=r"part 2 of 2 began with another list of cases \(gone: c\)"):
        begin_part(tmp_path, "prepare", Shard(1, 2), ["a", "b"])


def test_a_note_that_is_damaged(tmp_path: Path) -> None:
    parts_path(tmp_path, "predict").write_text("[1]")
    with pytest.raises(BadInputError, match=r"\.predict_parts\.json: damaged .*Delete it and run all parts again"):
        begin_part(tmp_path, "predict", Shard(1, 2), ["a"])


def test_long_differences_are_cut_short() -> None:
    assert difference(["a"], ["a", "b", "c", "d", "e"]) == "new: b, c, d and 1 more"
    assert difference(["a", "b"], ["b", "a"]) == "in another order"


def test_of_one_part_there_is_one_process_at_a_time(tmp_path: Path) -> None:
    with alone_with_part(tmp_path, "prepare", Shard(1, 2)):
        with alone_with_part(tmp_path, "prepare", Shard(2, 2)), alone_with_part(tmp_path, "prepare", None):
            pass
        with (
            pytest.raises(BadInputError, match=r"part 1 of 2: .*another process is working on it"),
            alone_with_part(tmp_path, "prepare", Shard(1, 2)),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
