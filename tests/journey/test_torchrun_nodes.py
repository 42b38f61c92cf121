"""One training on two nodes, which are two agents of torchrun here; a process, and then a whole node, is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from viscera.core.config import Config
from viscera.io.runlog import RunFolder
from viscera.io.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
WAIT_S = 180


class Node:
    """An agent of torchrun with one process; what they say goes into a file."""

    def __init__(self, number: int, port: int, log: Path, *arguments: Path | str) -> None:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "two-nodes"]
        meeting += ["--rdzv-conf", "keep_alive_interval=2"]  # three of these until a node counts as lost; 5 otherwise
        nodes = ["--nnodes", "2", "--node-rank", str(number), "--nproc-per-node", "1", "--max-restarts", "2"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *nodes, *meeting, "-m", "viscera", "train"]
        # else torchrun (of PyTorch 2.13) says its address once, and not to a node that comes later
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        self.log = log
        with log.open("a") as file:
            self.agent = subprocess.Popen([*torchrun, *arguments], env=environment, stdout=file, stderr=file)

    @property
    def processes(self) -> list[int]:
        """Of the training, on this node."""
        return [
            int(each) for each in Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split()
        ]

    def is_lost(self) -> None:
        """The agent and its process end without a word."""
        processes = self.processes
        for process in (self.agent.pid, *processes):
            os.kill(process, signal.SIGKILL)
        self.agent.wait()

    def ended(self) -> str:
        """Wait for a good end; what was said."""
        code = self.agent.wait(timeout=WAIT_S)
        said = self.log.read_text()
        assert code == 0, said
        return said


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(iterations=200, checkpoint_every=10, log_every=10, validate_every=100, precision="float32")


@pytest.fixture(scope="module")
def expected(tiny_store: Store, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes of one node that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "viscera"]
    arguments = ["train", str(tiny_store.path), str(folder / "run"), "--config", str(folder / "config.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, *arguments], env=environment, check=True, capture_output=True)
    return folder / "run"


Start = Callable[[int], Node]


@pytest.fixture
def start(tiny_store: Store, config: Config, tmp_path: Path) -> Iterator[Start]:
    """Start a node of a training into `tmp_path / "run"`; its settings lie beside it."""
    given, nodes = tmp_path / "config.yaml", list[Node]()
    given.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]

    def node(number: int) -> Node:
        arguments = (tiny_store.path, tmp_path / "run", "--config", given)
        nodes.append(Node(number, port, tmp_path / f"node_{number}.txt", *arguments))
        deadline = time.monotonic() + WAIT_S
        with socket.socket() as asking:  # the first to answer is the one where all meet
            while asking.connect_ex(("127.0.0.1", port)) != 0:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        return nodes[-1]

    yield node
    for each in nodes:
        if each.agent.poll() is None:
            each.is_lost()


def wait_for_the_curve(run: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not (run / "curve.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_finished(run: Path, expected: Path) -> None:
    """Bit by bit the undisturbed run, each step once."""
    one, two = (torch.load(folder / "last.pt", weights_only=True) for folder in (expected, run))
    assert one["step"] == two["step"] == 200
    for name, value in one["model"].items():
        assert torch.equal(two["model"][name], value), name
    curves = [[{**line, "seconds": 0} for line in RunFolder(folder).read_curve()] for folder in (expected, run)]
    assert curves[0] == curves[1]


def test_a_process_on_another_node_is_killed(start: Start, tmp_path: Path, expected: Path) -> None:
    first, second = start(0), start(1)
    wait_for_the_curve(tmp_path / "run")
    os.kill(second.processes[0], signal.SIGKILL)
    said = first.ended() + second.ended()
    assert said.count("finished; predict with") == 1, said
    assert_finished(tmp_path / "run", expected)


def test_a_whole_node_is_lost_and_comes_back(start: Start, tmp_path: Path, expected: Path) -> None:
    first, second = start(0), start(1)
    wait_for_the_curve(tmp_path / "run")
    second.is_lost()
    again = start(1)
    said = first.ended() + again.ended()
    assert said.count("finished; predict with") == 1, said
    assert_finished(tmp_path / "run", expected)
