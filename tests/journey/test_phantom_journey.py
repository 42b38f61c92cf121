"""The whole journey by its commands, on a few phantoms, with networks too small to learn anything."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fabricated_studies import draw_nothing
from viscera.study import launch

ROOT = Path(__file__).parents[2]
TINY = ["--iterations=4", "--patch=16", "--filters=2", "--batch-size=2", "--set=train.levels=2"]
TINY += ["--set=train.log_every=2", "--set=train.monitor_windows=2"]


@pytest.fixture(scope="module")
def study(viscera: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of all six arms on eight phantoms, by commands, in this process."""
    folder = tmp_path_factory.mktemp("journey")
    viscera("phantom", folder / "data", "--cases", 8, "--shape", 32, 24, 24)
    fractions = ("--test-fraction", 0.25, "--validation-fraction", 0.125)
    viscera("prepare", folder / "data", folder / "store", "--downsample", 1, *fractions)
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)  # the other journeys and test_report_stage.py do
        viscera("study", folder / "store", folder / "study", "--preset", "demo", *TINY)
    return folder / "study"


def test_every_arm_is_scored_on_the_same_cases(study: Path) -> None:
    with (study / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases_by_arm = {arm: {r["case"] for r in rows if r["arm"] == arm} for arm in {r["arm"] for r in rows}}
    assert len(cases_by_arm) == 6
    assert len({frozenset(cases) for cases in cases_by_arm.values()}) == 1
    assert len(rows) == 6 * 2 * 8  # arms, test cases, classes


def test_table_1_is_recomputed_from_the_label_maps_by_a_separate_script(study: Path) -> None:
    script = ROOT / "scripts" / "recompute_table1.py"
    done = subprocess.run([sys.executable, script, study], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "72 of 72 numbers" in done.stdout


def test_the_recomputation_notices_a_wrong_number(study: Path) -> None:
    table = study / "report" / "table1.csv"
    right = table.read_text()
    lines = right.splitlines()
    liver = next(number for number, line in enumerate(lines) if line.startswith("liver"))
    lines[liver] = "liver," + ",".join(f"{float(v) + 0.01:.4f}" for v in lines[liver].split(",")[1:])
    table.write_text("\n".join(lines) + "\n")
    script = ROOT / "scripts" / "recompute_table1.py"
    done = subprocess.run([sys.executable, script, study], capture_output=True, text=True, check=False)
    table.write_text(right)
    assert done.returncode == 1
    assert "liver" in done.stdout


def test_the_report_is_one_page_that_says_phantom(study: Path) -> None:
    page = (study / "report" / "index.html").read_text()
    assert "phantom" in page
    assert "They say nothing about patients" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_same_command_trains_nothing_again(
    viscera: Callable[..., str], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "make_report", lambda study: study)  # there is one
    checkpoints = sorted(study.glob("arms/*/seed_0/last.pt"))
    before = [path.stat().st_mtime_ns for path in checkpoints]
    viscera("study", study.parent / "store", study, "--preset", "demo", *TINY)
    assert len(before) == 6
    assert [path.stat().st_mtime_ns for path in checkpoints] == before


def test_one_model_by_the_single_commands(viscera: Callable[..., str], study: Path, tmp_path: Path) -> None:
    store, data = study.parent / "store", study.parent / "data"
    viscera("train", store, tmp_path / "run", "--weighting", "simple", *TINY)
    viscera("predict", tmp_path / "run", data / "imagesTr", tmp_path / "predictions")
    metrics = ("--metrics", "dice")  # surfaces of noise take long, and have tests of their own
    viscera("evaluate", tmp_path / "predictions", data, "--out", tmp_path / "scores.csv", *metrics)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["metric"] == "dice"]) == 8 * 8
    diagnosis = json.loads(viscera("doctor", store, "--json", "--preset", "demo", "--set", "train.iterations=20"))
    assert diagnosis["weights"]["uniform"] == [1.0] * 8
    assert sum(diagnosis["voxel_counts"]) == 5 * 32 * 24 * 24
