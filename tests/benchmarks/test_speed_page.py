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


def written(results: Path, **content: object) -> str:
    """The page of one benchmark."""
    given = {"hardware": "x", "threads": 1, "date": "2026-11-29", "command": "x", "versions": {}}
    (results / "avx2").mkdir(parents=True)
    (results / "avx2" / "any.json").write_text(json.dumps({"pairs": {"any": {**_PAIR, "goal": 1}}, **given, **content}))
    return page(results)


def test_what_bounds_a_pair_on_another_machine_is_said_with_its_kind(tmp_path: Path) -> None:
    (tmp_path / "amx").mkdir()
    bound = {"pairs": {"any": {**_PAIR, "what_bounds_it": "the disk"}}}
    about = {"hardware": "y", "threads": 1, "date": "2026-11-29", "command": "y", "versions": {}}
    (tmp_path / "amx" / "any.json").write_text(json.dumps({**bound, **about}))
    text = written(tmp_path, pairs={"any": _PAIR})
    assert text.count("- `any`: 1.5 of 2. The disk.") == 1
    assert text.count("- `any`: 1.5 of 2. On amx: the disk.") == 1


def test_goals_without_a_peer_are_a_table(tmp_path: Path) -> None:
    text = written(
        tmp_path,
        share_of_step={"share": 0.03, "bar": 0.02},
        allreduce_even={"share": 0.0073, "goal": 0.02},
        twice_the_slices={"slices": [10, 20], "times_the_cpu_time": 2.3, "goal": 2.1, "of": "auto"},
        suite={"processor_min": 7.84, "goal_min": 8.0, "clock_min": 5.0, "passed": 4521},
        native={"goal_gib": 2.0, "auto": {"peak_gib": 1.775, "seconds": 1}},
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert ["waiting for data, share of a training step", "0.03", "0.02", "**no**"] in rows
    assert ["all-reduce of two processes, even batches, share of a step", "0.0073", "0.02", "yes"] in rows
    assert ["peak memory, native, auto", "1.77 GiB", "2 GiB", "yes"] in rows
    assert ["processor time of `make test`, 4,521 tests", "7.84 min", "8 min", "yes"] in rows
    assert "share of a training step: 0.03, and at most 0.02 was the goal. What bounds it was not measured." in text
    assert "time of 20 slices over that of 10: auto: 2.3, and at most 2.1 was the goal. Large patches share" in text
    assert "## GPUs" in text


def test_a_goal_without_a_peer_needs_no_pair(tmp_path: Path) -> None:
    suite = {"processor_min": 8.44, "goal_min": 8.0, "clock_min": 5.2, "passed": 10}
    text = written(tmp_path, pairs={}, suite=suite)
    assert "tests: 8.44 min, and at most 8 min was the goal. What bounds it was not measured." in text


def test_what_bounds_a_pair_follows_from_its_figures(tmp_path: Path) -> None:
    """Of three windows two processors have 1.5 each, and one computes 2: 0.75. 3 s over 2 s of copying: 1.5."""
    pairs = {
        "ranks_step_paper": {**_PAIR, "ratio": 0.7, "windows": 3},
        "demo_clock": {**_PAIR, "what_bounds_it": "training"},
        "demo_processor": _PAIR,
        "dicom_memory": {**_PAIR, "unit": "GiB"},
    }
    text = written(tmp_path, pairs=pairs, what_bounds_memory="the voxels")
    assert "- `ranks_step_paper`: 0.7 of 2. Of 3 patches one of two processes has 2, so that 0.75 is the most." in text
    assert "- `demo_processor`: 1.5 of 2. Training." in text
    assert "- `dicom_memory`: 1.5 of 2. The voxels." in text
    bound = {"what": "copying", "seconds": 2.0}
    text = written(tmp_path / "other", pairs={"feed": _PAIR, "loss": {**_PAIR, "ratio": 2}}, bound=bound)
    assert "- `feed`: 1.5 of 2. Copying takes 2 s, so that 1.5 is the most." in text
    assert "- `loss`" not in text


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS)


def test_dice_in_bfloat16_and_what_others_published_stand_beside_the_pairs(tmp_path: Path) -> None:
    text = written(
        tmp_path,
        data="two phantoms",
        seeds=[0, 1],
        square={
            "mean": {"bfloat16": 0.71, "float32": 0.7},
            "difference": 0.01,
            "standard_error": 0.02,
            "within_seed_noise": True,
        },
        published_not_measured_here={"A peer": {"memory_gb": [8.6, 8.8], "cpu_s": {"fast": 57}, "source": "its page"}},
    )
    assert (
        "- square weights, 2 seeds: 0.710, in float32 0.700; difference +0.010, standard error 0.020, within the noise "
        "of seeds. Two phantoms.\n"
    ) in text
    assert "- A peer: 8.6 to 8.8 GB; fast 57 s of the processor (its page).\n" in text
