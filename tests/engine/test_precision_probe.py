"""Precision and layout: what is chosen by which times, when nothing is timed, what is remembered and kept."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from viscera.core.config import TrainConfig
from viscera.engine import hardware, precision_probe
from viscera.engine.hardware import autocast, computes_bfloat16, precision_to_predict
from viscera.engine.precision_probe import FEWEST_ITERATIONS, as_before, cache_file, choice, decided

CPU = torch.device("cpu")
LONG = TrainConfig(iterations=FEWEST_ITERATIONS, patch=8, batch_size=2, filters=2, levels=2)
BFLOAT16_WINS = {
    "float32 channels_last": 3.0,
    "bfloat16 channels_last": 1.0,
    "float32 channels_first": 4.0,
    "bfloat16 channels_first": 2.0,
}
FLOAT32_WINS = {**BFLOAT16_WINS, "bfloat16 channels_last": 2.9}  # by less than a tenth: not worth the rounding
FIRST_WINS = {**BFLOAT16_WINS, "bfloat16 channels_first": 0.5}


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has asked nothing yet, of a user without a cache, on a processor with bfloat16."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hardware, "processor_words", lambda: frozenset({"avx512_bf16"}))
    forget()
    yield
    forget()


def forget() -> None:
    precision_probe._timed.cache_clear()
    precision_probe._say.cache_clear()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], list[int]]:
    """Lets the probe find these times; the list that is returned grows by one with every probe."""

    def times(seconds: dict[str, float]) -> list[int]:
        probes: list[int] = []

        def measure(_probe: object) -> dict[str, float]:
            probes.append(1)
            return seconds

        monkeypatch.setattr(precision_probe._Probe, "measure", measure)
        return probes

    return times


def chosen(train: TrainConfig = LONG) -> tuple[str, str]:
    found = decided(train, 8, CPU)
    assert found.model_copy(update={"precision": "auto", "memory_layout": "auto"}) == train.model_copy(
        update={"precision": "auto", "memory_layout": "auto"}
    )
    return found.precision, found.memory_layout


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (BFLOAT16_WINS, ("bfloat16", "channels_last")),
        (FLOAT32_WINS, ("float32", "channels_last")),
        (FIRST_WINS, ("bfloat16", "channels_first")),
    ],
)
def test_the_faster_one_is_taken(
    probe: Callable[[dict[str, float]], list[int]], seconds: dict[str, float], expected: tuple[str, str]
) -> None:
    probe(seconds)
    assert choice(seconds) == expected
    assert chosen() == expected


def test_a_probe_times_steps_of_all_four() -> None:
    seconds = precision_probe._Probe(patch=8, batch_size=2, filters=2, levels=2, num_classes=8).measure()
    assert seconds.keys() == BFLOAT16_WINS.keys()
    assert all(0 < value < 60 for value in seconds.values())


def test_waiting_for_a_busy_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_probe._Probe, "step", lambda *_: lambda: time.sleep(0.02))
    seconds = precision_probe._Probe(patch=8, batch_size=2, filters=2, levels=2, num_classes=8).measure()
    assert max(seconds.values()) < 0.015


def test_threads_that_wait_for_one_another_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    monkeypatch.setattr(precision_probe._Probe, "step", lambda *_: lambda: seen.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        precision_probe._Probe(patch=8, batch_size=2, filters=2, levels=2, num_classes=8).measure()
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_the_message_says_what_and_why(
    probe: Callable[[dict[str, float]], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    probe(BFLOAT16_WINS)
    chosen()
    chosen()
    assert caplog.records[0].message.startswith("Timing a few steps in float32 and bfloat16, once for")
    assert (
        caplog.text.count(
            "Training in bfloat16: a step takes 1 s in bfloat16, 3 s in float32 (processor time, timed just now"
        )
        == 1
    )


def test_it_is_timed_once_a_machine_and_network(probe: Callable[[dict[str, float]], list[int]]) -> None:
    probes = probe(BFLOAT16_WINS)
    chosen()
    forget()  # as a new process
    assert chosen(LONG.model_copy(update={"seed": 7, "learning_rate": 0.1})) == ("bfloat16", "channels_last")
    assert len(probes) == 1
    chosen(LONG.model_copy(update={"filters": 4}))
    assert len(probes) == 2
    forget()
    chosen()
    assert len(probes) == 2


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[1]", '{"KEY": 3}', '{"KEY": {}}', '{"KEY": {"float32": "a"}}', "{\x00"]
)
def test_a_damaged_memory_is_no_error(probe: Callable[[dict[str, float]], list[int]], content: str) -> None:
    probes = probe(BFLOAT16_WINS)
    chosen()
    (key,) = json.loads(cache_file().read_text())
    cache_file().write_text(content.replace("KEY", key))
    forget()
    assert chosen() == ("bfloat16", "channels_last")
    assert len(probes) == 2
    assert json.loads(cache_file().read_text()) == {key: BFLOAT16_WINS}


def test_a_cache_that_cannot_be_written_is_no_error(
    probe: Callable[[dict[str, float]], list[int]], tmp_path: Path
) -> None:
    probe(BFLOAT16_WINS)
    (tmp_path / "cache").write_text("a file, where a folder is wanted")
    assert chosen() == ("bfloat16", "channels_last")


def test_a_network_that_finds_no_memory_is_left_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_probe: object) -> dict[str, float]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(precision_probe._Probe, "measure", measure)
    assert chosen() == ("float32", "channels_last")
    monkeypatch.setattr(precision_probe, "computes_bfloat16", lambda _device: True)
    monkeypatch.setattr(precision_probe, "describe_hardware", lambda _device: "a GPU")
    assert decided(LONG, 8, torch.device("cuda")).precision == "bfloat16"
    assert not cache_file().exists()


def test_nothing_is_timed_where_it_cannot_matter(
    probe: Callable[[dict[str, float]], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = probe(FIRST_WINS)
    assert chosen(LONG.model_copy(update={"iterations": FEWEST_ITERATIONS - 1})) == ("float32", "channels_last")
    assert chosen(LONG.model_copy(update={"precision": "float32"})) == ("float32", "channels_last")
    assert chosen(LONG.model_copy(update={"precision": "bfloat16", "memory_layout": "channels_first"}))[0] == "bfloat16"
    assert chosen(LONG.model_copy(update={"memory_layout": "channels_last"})) == ("bfloat16", "channels_last")
    assert probes == [1]
    monkeypatch.setattr(hardware, "processor_words", lambda: frozenset({"avx2", "avx512f"}))
    assert chosen() == ("float32", "channels_last")
    assert probes == [1]


def test_a_gpu_is_timed_too(
    probe: Callable[[dict[str, float]], list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision_probe, "computes_bfloat16", lambda _device: True)
    monkeypatch.setattr(precision_probe, "describe_hardware", lambda device: f"a {device.type}")
    probes, gpu = probe(FIRST_WINS), torch.device("cuda")
    found = decided(LONG, 8, gpu)
    assert (found.precision, found.memory_layout) == ("bfloat16", "channels_first")
    assert "Training in bfloat16" in caplog.text
    assert next(iter(json.loads(cache_file().read_text()))).startswith("a cuda, ")
    short = decided(LONG.model_copy(update={"iterations": 10}), 8, gpu)
    assert (short.precision, short.memory_layout) == ("bfloat16", "channels_last")
    chosen()  # of the CPU
    assert len(probes) == 2


def test_what_goes_on_computes_as_before() -> None:
    began = TrainConfig(precision="bfloat16", memory_layout="channels_first")
    assert as_before(TrainConfig(), began) == began
    earlier_version = TrainConfig(precision="auto", memory_layout="channels_last")
    assert as_before(TrainConfig(), earlier_version) == earlier_version
    given = TrainConfig(precision="float32", memory_layout="channels_last")
    assert as_before(given, began) == given


def test_auto_of_earlier_runs_is_float32_on_a_cpu() -> None:
    for precision, enabled in (("auto", False), ("float32", False), ("bfloat16", True)):
        with autocast(CPU, precision):  # type: ignore[arg-type]
            assert torch.is_autocast_enabled("cpu") == enabled


def test_predicting_falls_back_where_bfloat16_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert precision_to_predict("bfloat16", CPU) == "bfloat16"
    monkeypatch.setattr(hardware, "processor_words", frozenset)
    assert not computes_bfloat16(CPU)
    assert precision_to_predict("auto", CPU) == "auto"
    assert not caplog.text
    assert precision_to_predict("bfloat16", CPU) == "float32"
    assert "Predicting in float32: the model was trained in bfloat16" in caplog.text
