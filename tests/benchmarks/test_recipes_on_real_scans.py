"""The seventh round: which bars a candidate misses, who goes on, and how each is trained."""

import re
from pathlib import Path

import pytest

from benchmarks import recipes_on_real_scans as module
from benchmarks.recipe_arms import SEEDS, RecipeArm, arms, name_of_strong
from benchmarks.recipes_on_real_scans import SCANS, config_of, fails, learn, merged, missed, scores_of, stays
from viscera.core.resolve import resolve_config
from viscera.io.records import read_yaml
from viscera.io.scores import ScoreRow, write_scores

ROOT = Path(__file__).parents[2]
ALL = dict.fromkeys(SCANS["ts_example"].organs, 0.9)


def test_bars_of_a_scan_are_those_of_its_organs() -> None:
    """0.90 for liver, spleen and stomach, 0.75 for the others; lidc0001 has no gallbladder."""
    assert missed(ALL | {"portal_vein": 0.75, "gallbladder": 0.75}, "ts_example") == {}
    assert missed(ALL | {"liver": 0.899, "gallbladder": 0.1}, "ts_example") == {"liver": 0.899, "gallbladder": 0.1}
    without = {name: value for name, value in ALL.items() if name != "gallbladder"}
    assert missed(without, "lidc0001") == {}
    assert missed(without, "ts_example") == {"gallbladder": 0.0}


def test_who_stays_has_reached_all_with_all_seeds() -> None:
    whole = {scan: {str(seed): ALL for seed in SEEDS} for scan in SCANS}
    found = {"a": whole, "b": {"ts_example": whole["ts_example"]}, "c": {"lidc0001": {"0": ALL | {"liver": 0.8}}}}
    assert [stays(found, name, SEEDS) for name in "abcd"] == [True, False, False, False]
    assert [fails(found, name) for name in "abcd"] == [False, False, True, False]
    assert merged({"a": {"x": {"0": {"liver": 0.1}, "1": {}}}}, {"a": {"x": {"0": {"liver": 0.2}}}}) == {
        "a": {"x": {"0": {"liver": 0.2}, "1": {}}}
    }


def test_one_that_failed_goes_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`early_average` misses the pancreas of ts_example with seed 0; that of the others is known, or reached."""
    done: list[tuple[str, str, int]] = []

    def noted(work: Path, _data: Path, arm: RecipeArm, scan: str, seed: int) -> None:
        done.append((arm.name, scan, seed))
        lost = {"pancreas": 0.0} if arm.name == "early_average" and scan == "ts_example" else {}
        path = work / "real" / arm.name / scan / f"seed_{seed}" / "scores.csv"
        path.parent.mkdir(parents=True)
        write_scores(path, [ScoreRow(scan, name, "original", "dice", value) for name, value in (ALL | lost).items()])

    monkeypatch.setattr(module, "_learn", noted)
    known = {"early_average_ce": {scan: {"0": ALL, "1": ALL} for scan in SCANS}}
    learn(tmp_path, tmp_path, (0, 1), known)
    others = ("early_average_ce_quarter", "early_average_ce_half")
    expected = [
        ("early_average", "ts_example", 0),
        *((arm, scan, seed) for arm in others for scan in SCANS for seed in (0, 1)),
    ]
    assert sorted(done) == sorted(expected)
    learn(tmp_path, tmp_path, (0, 1), known)
    assert len(done) == len(expected)
    assert fails(scores_of(tmp_path), "early_average")


def test_steps_and_settings_are_those_of_make_memorise_strong() -> None:
    script = (ROOT / "scripts" / "memorise_real.sh").read_text(encoding="utf-8")
    strong = re.search(r"steps_ts_example=(\d+) steps_lidc0001=(\d+)\n *fi", script)
    assert strong is not None
    assert [scan.steps for scan in SCANS.values()] == [int(each) for each in strong.groups()]
    (chosen,) = (arm for arm in arms() if arm.name == name_of_strong())
    of_preset = resolve_config("strong", file_values=read_yaml(module.SETTINGS)).train
    ours = config_of(chosen, "ts_example", 1).train
    free = {"iterations": 480, "seed": 1, "precision": ours.precision}
    assert ours == of_preset.model_copy(update=free)
