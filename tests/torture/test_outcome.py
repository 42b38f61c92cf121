"""What a torment found, as a line and as a file."""

import json
from pathlib import Path

from torture.outcome import Outcome


def test_the_line_says_the_counts() -> None:
    outcome = Outcome("kills", faults=20, lost=1, worst_s=1.25)
    assert outcome.line() == "kills: faults=20 lost=1 inputs=0 tracebacks=0 worst_s=1.25 worst_mib=0 in 0 s"
    assert not outcome.sound


def test_the_file_keeps_failures(tmp_path: Path) -> None:
    Outcome("fuzz", inputs=3, failures=["seed 7: RecursionError"]).write(tmp_path)
    told = json.loads((tmp_path / "fuzz.json").read_text())
    assert (told["inputs"], told["failures"]) == (3, ["seed 7: RecursionError"])
