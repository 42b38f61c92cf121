"""How many threads: what affinity, control groups and other processes leave, unless the user said so."""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from viscera.core.errors import BadInputError
from viscera.engine import hardware
from viscera.engine.hardware import cgroup_quota, choose_device, choose_threads, free_processors


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/user/job\n", {"user/job/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/user/job\n", {"user/job/cpu.max": "max 100000\n", "user/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/user/job\n", {"cpu.max": "300000 100000\n"}, 3),  # as a container sees its own group
        ("0::/user/job\n", {"user/job/cpu.max": "max 100000\n"}, math.inf),
        (
            "5:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        ("3:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("damaged\n", {"cpu.max": "nonsense\n"}, math.inf),
    ],
)
def test_quotas_of_control_groups(tmp_path: Path, membership: str, files: dict[str, str], expected: float) -> None:
    write(tmp_path / "cgroup", membership)
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "fs") == expected
    assert cgroup_quota(tmp_path / "missing", tmp_path / "fs") == math.inf


@pytest.mark.parametrize(
    ("affinity", "busy", "quota", "free"),
    [(4, 0.2, math.inf, 4), (4, 1.1, math.inf, 3), (4, 0, 2.5, 2), (2, 2, math.inf, 1), (2, 0, 0.5, 1)],
)
def test_what_others_leave_is_free(
    monkeypatch: pytest.MonkeyPatch, affinity: int, busy: float, quota: float, free: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(affinity)))
    monkeypatch.setattr(hardware, "_busy", lambda _ours, _seconds: busy)
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: quota)
    assert free_processors() == free


def test_a_busy_process_is_seen() -> None:
    ours = os.sched_getaffinity(0)
    one = {min(ours)}
    command = f"import os; os.sched_setaffinity(0, {one}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            assert hardware._busy(one, 0.3) > 0.7
        finally:
            busy.kill()


def test_the_users_number_wins_then_that_of_before_then_what_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2})
    monkeypatch.setattr(hardware, "free_processors", lambda: 2)
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(3) == 1
    assert not caplog.messages
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert choose_threads(3) == 3
    assert choose_threads(4) == 2  # of a run that began on a larger machine
    with caplog.at_level(logging.WARNING):
        assert choose_threads() == 2
    assert "2 of 3 processors" in caplog.text


def test_threads_of_the_command_sleep_and_its_pages_are_large_unless_the_user_says_otherwise() -> None:
    code = (
        "import os, sys; from viscera.cli import app; app.app = lambda **_: None; app.main(); "
        "assert 'torch' not in sys.modules; "
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ['THP_MEM_ALLOC_ENABLE'])"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    clean.pop("THP_MEM_ALLOC_ENABLE", None)
    for given, said in (
        ({}, "passive 1"),
        ({"OMP_WAIT_POLICY": "active"}, "active 1"),
        ({"GOMP_SPINCOUNT": "9", "THP_MEM_ALLOC_ENABLE": "0"}, "None 0"),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == said


@pytest.mark.parametrize("name", ["cuda:99", "meta", "gpu", "", "cpu:x", "xpu", "privateuseone"])
def test_a_device_that_cannot_compute_is_one_sentence(name: str) -> None:
    with pytest.raises(BadInputError, match=f"device '{name}' is not available here"):
        choose_device(name)
