"""The page of pairs says what the files of results say, and no more."""

import json
from pathlib import Path

from benchmarks.record import RESULTS
from benchmarks.speed_page import PAGE, page

_PAIR = {"ours": 2.0, "peer": 3.0, "ratio": 1.5, "goal": 2, "unit": "s", "peer_settings": "float32"}


def test_a_goal_that_was_not_reached_is_said_with_what_bounds_it(tmp_path: Path) -> None:
    content = {
        "pairs": {"loss_time_vs_monai": _PAIR},
        "bound": "memory bandwidth",
        "hardware": "a processor",
        "threads": 1,
        "date": "2026-11-29",
        "command": "python -m benchmarks.bench_loss",
        "versions": {"torch": "2.13.0"},
    }
    (tmp_path / "avx2").mkdir()
    (tmp_path / "avx2" / "loss.json").write_text(json.dumps(content))
    (tmp_path / "feed.json").write_text("{}")  # of no kind, no pair
    lines = page(tmp_path).splitlines()
    row = next(line for line in lines if line.startswith("| loss_time_vs_monai"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("loss_time_vs_monai", "2 s", "3 s", "1.50", "2", "**no**", "float32")
    ]
    assert "## avx2" in lines
    assert "- bound: memory bandwidth" in lines
    assert any(
        "`python -m benchmarks.bench_loss`, 2026-11-29: a processor, 1 thread; torch 2.13.0." in x for x in lines
    )


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS)
