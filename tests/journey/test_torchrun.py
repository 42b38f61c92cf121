"""`torchrun -m viscera train`, and one of its processes killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from viscera.core.config import Config
from viscera.io.runlog import RunFolder
from viscera.io.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
WAIT_S = 120


def started(store: Path, run: Path, config: Path, *options: str) -> subprocess.Popen[str]:
    """Two processes of one training."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    command = [*torchrun, "-m", "viscera", "train", str(store), str(run), "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rank_process(of: int, rank: int) -> int:
    """The process of a rank among the children of a torchrun."""
    for child in Path(f"/proc/{of}/task/{of}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise ProcessLookupError(rank)


def test_a_rank_that_is_killed_is_started_again_and_the_result_is_the_same(
    tiny_store: Store, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tmp_path / "config.yaml"
    settings = tiny_config(iterations=200, checkpoint_every=10, log_every=10, validate_every=100, precision="float32")
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with started(tiny_store.path, whole, config) as torchrun:
        said, _ = torchrun.communicate(timeout=WAIT_S)
    assert torchrun.returncode == 0, said
    assert said.count("finished; predict with") == 1, said

    with started(tiny_store.path, killed, config, "--max-restarts", "1") as torchrun:
        deadline = time.monotonic() + WAIT_S
        while not (killed / "curve.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(rank_process(torchrun.pid, 1), signal.SIGKILL)
        said, _ = torchrun.communicate(timeout=WAIT_S)
    assert torchrun.returncode == 0, said
    assert "Traceback" not in said
    assert "another process of this training has ended" in said
    one, other = (torch.load(run / "last.pt", weights_only=True) for run in (whole, killed))
    assert one["step"] == other["step"] == 200
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    curves = [[{**line, "seconds": 0} for line in RunFolder(run).read_curve()] for run in (whole, killed)]
    assert curves[0] == curves[1]
