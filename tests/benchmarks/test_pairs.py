"""The line and the ratio of a pair, worked by hand; what is written, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import pairs
from benchmarks.pairs import Benchmark, in_turn
from benchmarks.record import processor_kind


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results, and in it that of this processor; the memory of all tests before is not gone through."""
    monkeypatch.setattr(pairs, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.pairs.gc.collect", lambda: 0)
    return tmp_path / processor_kind()


def test_what_was_measured_before_a_benchmark_is_cut_off_is_kept(results: Path) -> None:
    benchmark = Benchmark("example", [])
    benchmark.pair("example_vs_peer", 1, 2, goal=1, unit="s", peer_settings="none")
    assert json.loads((results / "example.json").read_text())["complete"] is False
    benchmark.write()
    assert "complete" not in json.loads((results / "example.json").read_text())


def test_a_ratio_above_one_says_that_ours_is_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = Benchmark("example", [])
    ratio = benchmark.pair("example_vs_peer", 0.5, 2.0, goal=3, unit="GiB", peer_settings="none")
    assert ratio == 4
    assert capsys.readouterr().out == "RATIO name=example_vs_peer ours=0.5 peer=2 ratio=4\n"
    assert benchmark.pairs["example_vs_peer"]["goal"] == 3


def test_runs_take_turns_after_one_warm_up_each() -> None:
    calls: list[str] = []
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert [len(times) for times in seconds.values()] == [2, 2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """Runs that take so many seconds of a clock that they put forward."""
    now = 0.0
    monkeypatch.setattr("benchmarks.pairs.time.perf_counter", lambda: now)

    def run(seconds: float) -> Callable[[], None]:
        def advance() -> None:
            nonlocal now
            now += seconds

        return advance

    return run


def test_a_long_run_counts_without_a_warm_up(clock: Callable[[float], Callable[[], None]]) -> None:
    calls: list[str] = []

    def run(name: str, seconds: float) -> Callable[[], None]:
        advance = clock(seconds)

        def timed() -> None:
            calls.append(name)
            advance()

        return timed

    runs = {"long": run("long", 20.0), "brief": run("brief", 1.0)}
    assert in_turn(runs, repeats=2) == {"long": [20.0, 20.0], "brief": [1.0, 1.0]}
    assert calls == ["long", "brief", "brief", "long", "brief"]


def test_slow_settings_are_tried_once_and_slow_runs_are_repeated_less(
    clock: Callable[[float], Callable[[], None]],
) -> None:
    peers = {name: clock(seconds) for name, seconds in {"slow": 16.0, "near": 14.0, "fast": 10.0}.items()}
    seconds = pairs.peer_at_its_best(clock(6.0), peers, (2, 7), 61.0)
    # a round of those that may be the fastest takes 30 s
    assert {name: len(values) for name, values in seconds.items()} == {"ours": 3, "slow": 1, "near": 3, "fast": 3}
    assert len(pairs.peer_at_its_best(clock(6.0), peers, (2, 2), 600.0)["ours"]) == 2
    assert len(pairs.peer_at_its_best(clock(100.0), peers, (2, 7), 61.0)["ours"]) == 2  # in any case
    assert len(pairs.peer_at_its_best(clock(6.0), peers, (1, 3), 6.0)["ours"]) == 1  # of a quick run


def test_of_several_settings_of_the_peer_the_fastest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"ours": [1.0, 1.0], "slow": [9.0, 9.0], "fast": [3.0, 5.0]}
    monkeypatch.setattr(pairs, "peer_at_its_best", lambda *_: measured)
    benchmark = Benchmark("example", [])
    peers = {"slow": lambda: None, "fast": lambda: None}
    assert benchmark.time("example_vs_peer", lambda: None, peers, goal=1, peer_settings="") == 4
    found = benchmark.pairs["example_vs_peer"]
    assert (found["peer_settings"], found["slower_settings_of_the_peer"]) == ("fast", {"slow": 9.0})


def test_the_worst_of_the_variants_stands_under_the_plain_name() -> None:
    benchmark = Benchmark("example", [])
    for variant, peer in {"example_vs_peer_a": 3.0, "example_vs_peer_b": 2.0, "another_vs_peer": 1.0}.items():
        benchmark.pair(variant, 1.0, peer, goal=1, unit="s", peer_settings="none")
    assert benchmark.worst("example_vs_peer") == 2
    assert benchmark.pairs["example_vs_peer"]["worst_of_the_variants"] == "example_vs_peer_b"


@pytest.mark.parametrize("quick", [False, True])
def test_a_quick_run_leaves_no_file(quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RESULTS", tmp_path)
    benchmark = Benchmark("example", ["torch", "no-such-package"], quick)
    benchmark.pair("example_vs_peer", 1, 2, goal=1, unit="s", peer_settings="none")
    benchmark.write()
    written = [json.loads(path.read_text()) for path in tmp_path.rglob("example.json")]
    if quick:
        assert not written
    else:
        assert written[0]["pairs"]["example_vs_peer"]["ratio"] == 2
        assert "torch" in written[0]["versions"]
        assert "no-such-package" not in written[0]["versions"]
