"""Every benchmark takes `--quick`, says so, refuses what it does not know, and is run by `make bench`."""

import importlib
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("bench_*.py"))


def ended_with(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """The exit code of `python -m benchmarks.NAME ARGUMENTS`, in this process."""
    module = importlib.import_module(f"benchmarks.{name}")
    # before main: one that reads no options would measure for minutes
    assert re.search(rf"^    python -m benchmarks\.{name}\b.* \[?--quick", module.__doc__ or "", re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{name}.py"), *arguments])
    with pytest.raises(SystemExit) as ended:
        module.main()
    return ended.value.code


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_docstring_and_names_quick(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_with(name, ["--help"], monkeypatch, tmp_path) == 0
    said = capsys.readouterr().out
    assert (sys.modules[f"benchmarks.{name}"].__doc__ or "").strip() in said
    assert re.search(r"^  --quick  ", said, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_with(name, ["--quick", "--no-such-option"], monkeypatch, tmp_path) == 2
    assert "--no-such-option" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_make_runs_every_benchmark() -> None:
    makefile = (BENCHMARKS.parent / "Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"^\t\$.*-m benchmarks\.(bench_\w+)", makefile, re.MULTILINE))
    assert commands == set(NAMES)


@pytest.mark.parametrize(("name", "more"), [("bench_precision", []), ("bench_modes", []), ("bench_modes", ["--real"])])
def test_a_quick_run_takes_no_folder(
    name: str, more: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert ended_with(name, ["--quick", *more, "folder"], monkeypatch, tmp_path) == 2
    assert not any(tmp_path.iterdir())
