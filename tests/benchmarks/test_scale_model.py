"""The cost model: arithmetic on figures that were measured, and what was not is called unknown."""

from typing import Any

from benchmarks.scale_model import KIND, PAGE, PREPARED, bytes_per_scan, costs, duration, page, size, whole_page

STORE = {
    "cases": 10,
    "open_s": 0.01,
    "verify_s_per_gib": 2.0,
    "manifest_bytes_per_case": 1000.0,
    "bytes_per_prepared_voxel": 3.0,
    "label_bytes_per_original_voxel": 0.0,
}


def test_what_nobody_measured_is_unknown() -> None:
    rows = costs({}, {})
    assert rows[0] == ("100", *["unknown"] * 7)
    assert "not measured yet" in page({}, {}, "nothing yet", "")


def test_costs_grow_with_the_scans_and_training_does_not() -> None:
    """3 bytes of 128×128×100 voxels and 1,000 of the manifest are 4.69 MiB; 3.6 s a scan are 6 minutes of 100."""
    files: dict[str, dict[str, Any]] = {
        "patients": {"store": STORE},
        "prepare": {"pairs": {"prepare_vs_monai_512": {"ours": 3.6, "ratio": 2}}, "command": "c", "date": "d"},
        "train": {"pairs": {"train_vs_monai_default": {"ours": 0.36, "ratio": 2}}, "command": "c", "date": "d"},
    }
    assert bytes_per_scan(files) == 3 * PREPARED + 1000
    first, *_, last = costs(files, {})
    assert first[:3] == ("100", "469 MiB", "6 min")
    assert last[:3] == ("100,000", "458 GiB", "4.17 days")
    assert first[4] == last[4] == "1 h"
    assert first[5:] == ("unknown", "unknown", "unknown")
    assert "`c`, d" in page(files, {}, "here", "")


def test_units() -> None:
    assert duration(3600, 100) == "4.17 days"
    assert duration(36 * 3600) == "36 h"
    assert duration(60) == "1 min"
    assert duration(0.5) == "0.5 s"
    assert size(2 * 2**40) == "2 TiB"
    assert size(None) == "unknown"


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == whole_page(KIND)
