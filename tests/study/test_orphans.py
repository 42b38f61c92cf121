"""`kill -9` of a study leaves no process: what its workers have is put aside, and they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import TINY
from viscera.core.arms import Arm
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

_IDLE_AND_AT_WORK = """
import os, signal, sys, time
from pathlib import Path
from viscera.core.processes import start_pool
from viscera.study.worker import _Worker, start_worker

def work(path):
    with _Worker.at_work:
        Path(path, "begun").touch()
        while not _Worker.is_set():
            time.sleep(0.01)
        Path(path, "stopped").touch()

if __name__ == "__main__":
    pool, _ = start_pool(2, start_worker, lambda context: (context.Queue(), context.Event(), 1))
    pool.submit(work, sys.argv[1])
    time.sleep(60)
"""


def _fields(process: int) -> list[str]:
    """As proc_pid_stat(5) has them, from the third: state, number of the process that started it."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _started_by(process: int) -> list[int]:
    numbers = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    children = [each for each in numbers if _fields(each)[1:2] == [str(process)]]
    return children + [each for child in children for each in _started_by(child)]


def _wait_until(what: object, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


def _all_end(processes: list[int], seconds: float) -> None:
    _wait_until(lambda: all(_fields(each)[:1] in ([], ["Z"]) for each in processes), seconds)


def test_workers_end_with_the_process_that_started_them_after_what_they_work_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_IDLE_AND_AT_WORK)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    _wait_until((tmp_path / "begun").exists, 60)
    workers = _started_by(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _all_end(workers, 20)
    assert len(workers) >= 2
    assert (tmp_path / "stopped").exists()


@pytest.mark.slow
def test_a_study_that_is_killed_leaves_no_process_and_goes_on_from_its_checkpoints(
    tiny_store: Store, tmp_path: Path
) -> None:
    study = StudyFolder(tmp_path / "study")
    tiny = [each for each in TINY if not each.startswith("--iterations")]
    command = [sys.executable, "-m", "viscera.cli", "study", str(tiny_store.path), str(study.path), *tiny, "--jobs=2"]
    command += ["--weightings=uniform,simple", "--learning-rates=0.01", "--seeds=0", "--quiet"]
    runs = [study.run(Arm(weighting, 0.01), 0) for weighting in ("uniform", "simple")]
    process = subprocess.Popen([*command, "--iterations=200000"])
    _wait_until(lambda: all(run.curve_path.exists() and run.read_curve() for run in runs), 120)
    workers = _started_by(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _all_end(workers, 60)
    assert len(workers) >= 2
    for run in runs:
        status = run.read_status()
        assert status is not None
        assert status.state == "interrupted"
        assert status.step > 0
        assert run.last.exists()
