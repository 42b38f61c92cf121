"""The commands in this process, and studies whose arms are: each new process imports PyTorch, which takes seconds.

No journey reaches for a network, but those that are about one.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from viscera.cli import app as module
from viscera.study import launch

NETWORKS = {"test_in_a_bucket", "test_four_commands", "test_torchrun", "test_torchrun_nodes", "test_likely_mistakes"}
_forbidden = {"now": False}
_hooked: list[bool] = []


def _refuse_networks(event: str, arguments: tuple[object, ...], forbidden: dict[str, bool] = _forbidden) -> None:
    """A hook outlives the names of this module: what it needs is its own."""
    if forbidden["now"] and event in {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"}:
        raise AssertionError(f"a journey reaches for the network: {event} {arguments}")


@pytest.fixture(scope="module", autouse=True)
def without_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever would connect, ask for an address or listen fails the test."""
    if not _hooked:
        sys.addaudithook(_refuse_networks)  # for as long as the process lives
        _hooked.append(True)
    _forbidden["now"] = request.module.__name__.rpartition(".")[2] not in NETWORKS
    yield
    _forbidden["now"] = False


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies train their arms in this process."""
    monkeypatch.setattr(launch, "start_pool", lambda *_: None)


@pytest.fixture(scope="module")
def viscera() -> Callable[..., str]:
    """A command that succeeds, by its arguments; returns what it printed on standard output."""

    def run(*arguments: object) -> str:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a user's process: those of other libraries are no errors
            patch.setattr(launch, "start_pool", lambda *_: None)
            result = CliRunner().invoke(module.app, [str(argument) for argument in arguments])
        root.handlers[:], root.level = handlers, level
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return run
