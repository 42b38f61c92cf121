"""The page of promises names tests that exist, and says of the trials what their files say."""

import re
from pathlib import Path

from torture.__main__ import SHARES
from torture.outcome import RESULTS, Outcome
from torture.page import BEGIN, END, PAGE, figures, with_figures

ROOT = Path(__file__).parents[2]
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_test_and_trial_that_it_names_exists() -> None:
    named = set(re.findall(r"`((?:tests|torture|viscera|docs|scripts)/[^`:]+)(?:::\w+)?`", TEXT))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]
    for path, test in re.findall(r"`(tests/[^`:]+\.py)::(\w+)`", TEXT):
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_the_figures_are_those_of_the_files() -> None:
    assert with_figures(TEXT) == TEXT  # else: python -m torture.page


def test_every_result_is_of_a_trial() -> None:
    assert {path.stem for path in RESULTS.glob("*.json")} <= set(SHARES)


def test_the_table_has_sums_and_what_did_not_hold(tmp_path: Path) -> None:
    Outcome("kills", faults=20, seconds=90, figures={"commands": "9"}).write(tmp_path)
    Outcome("fuzz", inputs=1200, tracebacks=1, worst_s=0.5, failures=["seed 7: KeyError"]).write(tmp_path)
    text = figures(tmp_path)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[2][:6] == ["`fuzz`", "0", "0", "1,200", "1", "0.5 s"]
    assert rows[4][:5] == ["**all**", "**20**", "**0**", "**1,200**", "**1**"]
    assert "- `fuzz`: **did not hold**: seed 7: KeyError." in text
    assert with_figures(f"a\n{BEGIN}\nold\n{END}\nb", tmp_path) == f"a\n{BEGIN}\n\n{text}\n\n{END}\nb"
