"""Scans segmented in several processes, and by the parts of a job array: the same files as by one call."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.warm_processes import warm_context
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.shard import Shard
from viscera.stages.predict import predict


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def spoilt(scans: Path) -> Path:
    """A folder of five scans, one of which is cut off."""
    broken = scans / "case_2_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    return scans


@pytest.fixture
def whole(half_run: Path, spoilt: Path, tmp_path: Path) -> dict[str, bytes]:
    """What one call writes."""
    with pytest.raises(BadInputError, match="1 of 5 cases was left out"):
        predict(half_run, spoilt, tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_two_processes_write_what_one_writes(
    half_run: Path, spoilt: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    seen: list[Progress] = []
    with pytest.raises(BadInputError, match="1 of 5 cases was left out"):
        predict(half_run, spoilt, tmp_path / "out", jobs=2, progress=seen.append)
    assert contents(tmp_path / "out") == whole
    assert [at.done for at in seen] == [0, 1, 2, 3, 4, 5]


def test_parts_write_what_one_call_writes_into_one_folder(
    half_run: Path, spoilt: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for number in (2, 1):
        predict(half_run, spoilt, tmp_path / "out", shard=Shard(number, 3))
    with pytest.raises(BadInputError, match="case_2"):
        predict(half_run, spoilt, tmp_path / "out", shard=Shard(3, 3))
    assert contents(tmp_path / "out") == whole


def test_a_scan_that_comes_between_two_parts_is_noticed(half_run: Path, scans: Path, tmp_path: Path) -> None:
    """Of cases 0 to 4 part 1 had 0, 2 and 4; with another in front, part 2 would have 0, 2 and 4 again, and none 1."""
    out = tmp_path / "out"
    predict(half_run, scans, out, shard=Shard(1, 2))
    before = contents(out)
    shutil.copy(scans / "case_3_0000.nii.gz", scans / "a_0000.nii.gz")
    with pytest.raises(BadInputError, match=r"part 1 of 2 began with another list .*\(new: a_0000\.nii\.gz\)"):
        predict(half_run, scans, out, shard=Shard(2, 2))
    assert contents(out) == before
    (out / ".predict_parts.json").unlink()
    for number in (1, 2):
        predict(half_run, scans, out, shard=Shard(number, 2))
    predict(half_run, scans, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
    (scans / "a_0000.nii.gz").unlink()  # all parts are done: what they are of may change
    predict(half_run, scans, out, shard=Shard(2, 2))


def _part(number: int, run: Path, scans: Path, out: Path) -> None:
    predict(run, scans, out, shard=Shard(number, 4))


def test_parts_at_the_same_time_lose_no_row(half_run: Path, scans: Path, tmp_path: Path) -> None:
    context = warm_context()
    parts = [context.Process(target=_part, args=(n, half_run, scans, tmp_path / "out")) for n in range(1, 5)]
    for part in parts:
        part.start()
    for part in parts:
        part.join(120)
    assert [part.exitcode for part in parts] == [0] * 4
    with (tmp_path / "out" / "measurements.csv").open(newline="") as table:
        assert {row["case"] for row in csv.DictReader(table)} == {f"case_{n}" for n in range(5)}
    predict(half_run, scans, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
