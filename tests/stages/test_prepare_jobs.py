"""Cases prepared in several processes: the same store as in one, and one bad case is left out all the same."""

import logging
from pathlib import Path

import pytest

from tests.warm_processes import warm_context
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.shard import Shard
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import PARTS
from viscera.io.store import Store
from viscera.stages.prepare import prepare

HALF = PrepareConfig(downsample=2, test_fraction=0.4)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_make_the_same_store_as_one(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = raw / "imagesTr" / "case_2_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    seen: list[Progress] = []
    said = []
    for jobs in (1, 2):
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(BadInputError, match="1 of 5 cases was left out"):
            prepare(raw, tmp_path / str(jobs), HALF, jobs=jobs, progress=seen.append)
        said.append(sorted(record.getMessage().replace(str(tmp_path / str(jobs)), "") for record in caplog.records))
    assert "Several processes are not available" not in caplog.text
    assert said[0] == said[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert Store.open(tmp_path / "2").names() == ["case_0", "case_1", "case_3", "case_4"]
    assert [at.done for at in seen] == 2 * [0, 1, 2, 3, 4, 5]


def test_parts_of_a_job_array_make_the_same_store_as_one_call(raw: Path, tmp_path: Path) -> None:
    broken = raw / "imagesTr" / "case_2_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(BadInputError, match="case_2"):
        prepare(raw, tmp_path / "whole", HALF)
    prepare(raw, tmp_path / "parts", HALF, shard=Shard(1, 3))
    with pytest.raises(BadInputError, match="case_2"):
        prepare(raw, tmp_path / "parts", HALF, shard=Shard(3, 3))  # which is that case alone
    assert {record.split for record in Store.open(tmp_path / "parts").manifest.cases.values()} == {None}
    prepare(raw, tmp_path / "parts", HALF, shard=Shard(2, 3))
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    prepare(raw, tmp_path / "parts", HALF, shard=Shard(1, 3))  # again: nothing is left to do
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_case_that_goes_between_two_parts_is_noticed(raw: Path, tmp_path: Path) -> None:
    """Of cases 0 to 4 part 1 had 0, 2 and 4; without 0 part 2 would have 2 and 4 again, and nobody 1 and 3."""
    prepare(raw, tmp_path / "parts", HALF, shard=Shard(1, 2))
    before = contents(tmp_path / "parts")
    for name in ("imagesTr/case_0_0000.nii.gz", "labelsTr/case_0.nii.gz"):
        (raw / name).rename(tmp_path / Path(name).name)
    with pytest.raises(BadInputError, match=r"part 1 of 2 began with another list of cases \(gone: case_0\)"):
        prepare(raw, tmp_path / "parts", HALF, shard=Shard(2, 2))
    assert contents(tmp_path / "parts") == before
    for name in ("imagesTr/case_0_0000.nii.gz", "labelsTr/case_0.nii.gz"):
        (tmp_path / Path(name).name).rename(raw / name)
    prepare(raw, tmp_path / "parts", HALF, shard=Shard(2, 2))
    prepare(raw, tmp_path / "whole", HALF)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_whole_call_and_a_part_do_not_work_beside_each_other(raw: Path, tmp_path: Path) -> None:
    """The whole call would take the part's half-written cases for those of a process that was killed."""
    prepare(raw, tmp_path / "s", HALF, shard=Shard(1, 2))
    with (
        exclusive(tmp_path / "s", lock=PARTS, beside_others=True),
        pytest.raises(BadInputError, match="another process"),
    ):
        prepare(raw, tmp_path / "s", HALF)
    with exclusive(tmp_path / "s", lock=PARTS), pytest.raises(BadInputError, match="another process"):
        prepare(raw, tmp_path / "s", HALF, shard=Shard(2, 2))
    prepare(raw, tmp_path / "s", HALF, shard=Shard(2, 2))
    assert {record.split for record in Store.open(tmp_path / "s").manifest.cases.values()} == {"train", "test"}


def _part(number: int, raw: Path, store: Path) -> None:
    prepare(raw, store, HALF, shard=Shard(number, 5))


def test_all_parts_at_the_same_time(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "whole", HALF)
    context = warm_context()
    parts = [context.Process(target=_part, args=(number, raw, tmp_path / "parts")) for number in range(1, 6)]
    for part in parts:
        part.start()
    for part in parts:
        part.join(120)
    assert [part.exitcode for part in parts] == [0] * 5
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
