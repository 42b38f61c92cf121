"""What a trial found, as a line and as a file."""

import json
from pathlib import Path

import pytest

from torture import __main__ as trials
from torture import outcome
from torture.outcome import Outcome


def test_the_line_says_the_counts() -> None:
    outcome = Outcome("kills", faults=20, lost=1, worst_s=1.25)
    assert outcome.line() == "kills: faults=20 lost=1 inputs=0 tracebacks=0 worst_s=1.25 worst_mib=0 in 0 s"
    assert not outcome.sound


def test_the_file_keeps_failures(tmp_path: Path) -> None:
    Outcome("fuzz", inputs=3, failures=["seed 7: RecursionError"]).write(tmp_path)
    told = json.loads((tmp_path / "fuzz.json").read_text())
    assert (told["inputs"], told["failures"]) == (3, ["seed 7: RecursionError"])
    assert Outcome.read("fuzz", tmp_path) == Outcome("fuzz", inputs=3, failures=["seed 7: RecursionError"])


def test_a_trial_that_ends_early_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "RESULTS", tmp_path)
    assert trials._in_process("no_such_trial", 0.1, 0).failures == ["the trial ended with exit code 2"]
    assert not Outcome.read("no_such_trial").sound
