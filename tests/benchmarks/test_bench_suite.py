"""What a suite costs: every process says its own processor time, and the measured sum is no less."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench_suite
from benchmarks.processor_time import Cost

ROOT = Path(__file__).parents[2]
MEASURE = """
import json, os, pathlib, sys
from benchmarks.processor_time import cost_of
print(json.dumps(cost_of(sys.argv[2:], pathlib.Path(sys.argv[1]), os.environ, sys.stderr)))
"""
PYTEST = "import sys, pytest, noted; status = pytest.main(sys.argv[1:]); noted.note(); sys.exit(status)"
NOTED = """
import os, pathlib, time

def note():
    pathlib.Path(f"{os.getpid()}.s").write_text(str(time.process_time()))
"""
CONFTEST = """
import noted

def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        noted.note()
"""
ORPHAN = """
import time, noted
while time.process_time() < 0.3:
    pass
noted.note()
"""


def measured(folder: Path, *command: str) -> tuple[float, float, int]:
    """Clock and processor seconds, and status, of a command; in a process that has no other children."""
    (folder / "noted.py").write_text(NOTED)
    call = [sys.executable, "-c", MEASURE, str(folder), *command]
    clock_s, processor_s, status = json.loads(subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return clock_s, processor_s, status


def said_s(folder: Path) -> list[float]:
    return [float(path.read_text()) for path in folder.glob("*.s")]


def test_workers_of_pytest_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest and two workers, of which one fails a test."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, value in (("one", True), ("two", False)):
        (tmp_path / f"test_{name}.py").write_text(f"def test_it():\n    assert {value}\n")
    options = ("-p", "xdist", "--numprocesses", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "-q")
    _, processor_s, status = measured(tmp_path, sys.executable, "-c", PYTEST, *options)
    each_s = said_s(tmp_path)
    assert status == 1
    assert len(each_s) == 3
    assert sum(each_s) <= processor_s + 0.01  # of the clock's ticks


def test_what_a_command_leaves_behind_is_waited_for_and_counts(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    clock_s, processor_s, status = measured(tmp_path, "/bin/sh", "-c", f"{sys.executable} orphan.py &")
    (orphan_s,) = said_s(tmp_path)
    assert status == 0
    assert clock_s < orphan_s <= processor_s + 0.01


def test_the_suite_is_that_of_make_test() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^test: install\n\t(.*) \$\(BIN\)/pytest (.*) \$\(if \$\(COVERAGE\)", makefile, re.MULTILINE)
    assert found is not None
    environment, arguments = shlex.split(found[1]), shlex.split(found[2])
    assert environment == [f"{name}={value}" for name, value in bench_suite.ENVIRONMENT.items()]
    assert arguments == [each if each != bench_suite.WORKERS else "$(PYTEST_WORKERS)" for each in bench_suite.ARGUMENTS]


def test_a_suite_that_fails_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without tests: pytest's status is 5."""
    monkeypatch.setattr(bench_suite, "ROOT", tmp_path)
    monkeypatch.setattr(bench_suite, "cost_of", lambda *_: Cost(1.0, 2.0, 5))
    with pytest.raises(SystemExit) as ended:
        bench_suite.suite("2")
    assert ended.value.code == 5


def test_minutes_and_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 s of the processor are two and a half minutes; the last line is pytest's own."""

    def run(_command: object, _folder: object, _environment: object, out: object) -> Cost:
        print("....\nSKIPPED [2] tests/x.py: no GPU here\n4521 passed, 10 skipped in 307.54s (0:05:07)", file=out)  # type: ignore[call-overload]
        return Cost(90.0, 150.0, 0)

    monkeypatch.setattr(bench_suite, "cost_of", run)
    assert bench_suite.suite("2") == {"processor_min": 2.5, "goal_min": 8.0, "clock_min": 1.5, "passed": 4521}
