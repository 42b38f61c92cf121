"""Which share of a scan a patch is to hold: the rule, by hand, and the page of made-up figures."""

from pathlib import Path

import pytest

from benchmarks import planned_grids
from benchmarks.planned_grids import BUDGETS, SHARES, chosen, collect, config_of, means, page
from viscera.io.records import read_json, write_json

SPACINGS = {"7.5": {"0.25": 5.0, "0.1": 5.0, "0.04": 3.8}, "30": {"0.25": 4.7, "0.1": 3.4, "0.04": 3.0}}
DICE = {
    "7.5": {"5": {"0": 0.80, "1": 0.82}, "3.8": {"0": 0.81, "1": 0.83}},
    "30": {"4.7": {"0": 0.88, "1": 0.90}, "3.4": {"0": 0.91, "1": 0.91}, "3": {"0": 0.92}},
}


def test_means_are_of_the_budgets_each_of_its_seeds() -> None:
    """.81 and .89; .81 and .91; .82 and .92."""
    assert means(SPACINGS, DICE) == pytest.approx({0.25: 0.85, 0.1: 0.86, 0.04: 0.87})
    only = {"7.5": DICE["7.5"], "30": {"4.7": DICE["30"]["4.7"]}}
    assert set(means(SPACINGS, only)) == {0.25}


def test_of_shares_alike_to_the_best_the_largest_is_chosen() -> None:
    assert chosen({0.25: 0.85, 0.1: 0.86, 0.04: 0.87}) == 0.04
    assert chosen({0.25: 0.85, 0.1: 0.866, 0.04: 0.87}) == 0.1
    assert chosen({0.25: 0.87, 0.1: 0.86, 0.04: 0.80}) == 0.25


def test_the_page_has_each_share_and_what_it_wants() -> None:
    whole = {"spacings": SPACINGS, "dice": DICE, "hardware": "a CPU"}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page(whole).splitlines()]
    assert ["10%", "5", "0.800 0.820", "3.4", "0.910 0.910", "0.860"] in rows
    assert "By the rule it is **4%**." in page(whole)
    text = page({**whole, "dice": {"7.5": DICE["7.5"]}})
    assert "Not all trainings are in yet." in text
    assert "By the rule" not in text


def test_shares_differ_in_the_voxels_alone() -> None:
    sizes = BUDGETS[7.5]
    coarse, fine = (config_of(mm, sizes) for mm in (5.0, 3.0))
    assert coarse.train == fine.train
    assert (coarse.prepare.spacing_mm, fine.prepare.spacing_mm) == (5.0, 3.0)
    assert SHARES[0] > SHARES[1] > SHARES[2]


def test_what_another_folder_has_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_grids, "RESULTS", tmp_path)
    monkeypatch.setattr(planned_grids, "PAGE", tmp_path / "page.md")
    for seed in ("0", "1"):
        work = tmp_path / f"work_{seed}"
        scored = work / "trained" / "7.5" / "5" / seed / "dice.json"
        scored.parent.mkdir(parents=True)
        write_json(scored, {"foreground": DICE["7.5"]["5"][seed]})
        write_json(work / "spacings.json", SPACINGS)
        collect(work)
    assert read_json(tmp_path / planned_grids.NAME)["dice"] == {"7.5": {"5": DICE["7.5"]["5"]}}
    write_json(work / "spacings.json", {**SPACINGS, "30": SPACINGS["7.5"]})
    collect(work)  # of other grids: nothing is kept of before
    assert read_json(tmp_path / planned_grids.NAME)["dice"] == {"7.5": {"5": {"1": 0.82}}}
