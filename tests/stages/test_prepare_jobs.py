"""Cases prepared in several processes: the same store as in one, and one bad case is left out all the same."""

import logging
from pathlib import Path

import pytest

from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
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
        with caplog.at_level(logging.WARNING), pytest.raises(BadInputError, match="1 of 5 cases were left out"):
            prepare(raw, tmp_path / str(jobs), HALF, jobs=jobs, progress=seen.append)
        said.append(sorted(record.getMessage().replace(str(tmp_path / str(jobs)), "") for record in caplog.records))
    assert "Several processes are not available" not in caplog.text
    assert said[0] == said[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert Store.open(tmp_path / "2").names() == ["case_0", "case_1", "case_3", "case_4"]
    assert [at.done for at in seen] == 2 * [0, 1, 2, 3, 4, 5]
