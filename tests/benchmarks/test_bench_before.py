"""Steps beside those of an earlier commit: the interval of the median by the binomial law, and who is first when."""

import math
from pathlib import Path

import pytest

from benchmarks import bench_before
from benchmarks.bench_before import median_and_interval, turns


def test_the_interval_of_a_median_is_that_of_the_order_statistics() -> None:
    # of 20 values the 6th and the 15th: P(5 or fewer of 20 below the median) = 21,700 / 2^20 = 0.0207, at most 0.025;
    # of 6 or fewer it is 0.0577
    assert median_and_interval([float(number) for number in range(1, 21)]) == (10.5, 6, 15)
    assert math.isnan(median_and_interval([1.0, 2.0])[1])


def test_both_take_turns_and_the_first_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, int]] = []

    class Steps:
        def __init__(self, code: Path, _store: Path, _what: dict[str, object]) -> None:
            self.code = str(code)

        def seconds(self, name: str, count: int) -> float:
            calls.append((self.code, name, count))
            return {"now": 2.0, "before": 3.0}[self.code] * count

        def end(self) -> None:
            calls.append((self.code, "end", 0))

    monkeypatch.setattr(bench_before, "Steps", Steps)
    found = turns(Path("now"), Path("before"), Path("store"), {"demo": {}, "paper": {}}, 2)
    assert found == {"demo": [(2, 3), (2, 3)], "paper": [(2, 3), (2, 3)]}
    of_demo = [(code, count) for code, name, count in calls if name == "demo"]
    assert of_demo == [("before", 10), ("now", 10), ("now", 10), ("before", 10), ("before", 10), ("now", 10)]
    assert [code for code, name, _ in calls if name == "end"] == ["now", "before"]
