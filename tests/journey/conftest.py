"""The commands in this process, and studies whose arms are: each new process imports PyTorch, which takes seconds."""

import logging
import warnings
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from viscera.cli import app as module
from viscera.study import launch


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
