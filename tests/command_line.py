"""Calling the command line in this process."""

from typer.testing import CliRunner, Result

from viscera.cli import app as module

TINY = ["--patch=8", "--batch-size=2", "--filters=2", "--iterations=4", "--device=cpu"]
TINY += ["--set", "train.levels=2", "--set", "train.monitor_windows=2"]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(module.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(code: int, *arguments: object) -> str:
    """The message of a call that ends with this code: one line, no traceback."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("viscera: ")
    return lines[-1]
