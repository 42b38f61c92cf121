"""What would leak is found, what does not is not, and a few steps, predictions and requests of each kind run."""

import gc
import itertools
import mmap
import multiprocessing
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torture.soak import Sample, Slope, browsing, predicted, rising, sample, series, trained
from viscera.io.store import Store
from viscera.stages.predict import predict

MANY = 40
_MAPS = """
import mmap, time
mapped = mmap.mmap(0, 0, access=mmap.ACCESS_READ)
print(sum(mapped[:: mmap.PAGESIZE]), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process where nothing was before: the heap of one that ran thousands of tests shrinks when it likes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def said_of(work: Callable[[int], object]) -> list[str]:
    """What rises, in sentences."""
    gc.freeze()  # each sample collects garbage first: what is imported is not looked through for it
    return rising(series(work, MANY), "prediction")[0]


def found_of_a_leak(what: str) -> list[str]:
    """What is said about work that keeps something each time."""
    kept: list[Any] = []
    ended = threading.Event()
    work: dict[str, Callable[[], object]] = {
        "memory": lambda: kept.append(bytearray(b"x" * 2**20)),
        "open files": lambda: kept.append(socket.socket()),
        "threads": lambda: threading.Thread(target=ended.wait, daemon=True).start(),
    }
    wrong = said_of(lambda _: work[what]())
    ended.set()
    for each in kept if what == "open files" else ():
        each.close()
    return wrong


@pytest.mark.parametrize("what", ["memory", "open files", "threads"])
def test_a_leak_is_noticed(elsewhere: Executor, what: str) -> None:
    wrong = elsewhere.submit(found_of_a_leak, what).result()
    assert any(each.startswith(f"{what} rise") for each in wrong), wrong


def found_without_a_leak(folder: Path) -> list[str]:
    """What is said about work that gives everything back."""

    def work(at: int) -> None:
        path = folder / str(at % 3)
        path.write_bytes(bytes(100_000 * (1 + at % 2)))
        thread = threading.Thread(target=path.read_bytes)
        thread.start()
        thread.join()

    return said_of(work)


def test_what_is_given_back_is_no_leak(elsewhere: Executor, tmp_path: Path) -> None:
    assert elsewhere.submit(found_without_a_leak, tmp_path).result() == []


def test_the_slope_is_that_of_a_line_whatever_a_few_values_are() -> None:
    at = np.arange(0.0, 1000, 25)
    values = 5e6 + 300 * at + np.random.default_rng(0).normal(0, 1000, len(at))
    values[[15, 30]] += 1e7
    slope = Slope.of(at.tolist(), values.tolist())
    assert slope.value == pytest.approx(300, rel=0.02)
    assert slope.low < 300 < slope.high
    assert slope.rises_by(250)
    assert not slope.rises_by(350)


def test_what_rises_by_chance_or_falls_is_no_leak() -> None:
    noise = np.random.default_rng(1).normal(1e8, 2e6, MANY)
    flat = [Sample(at, own, 12, 3) for at, own in enumerate(noise)]
    falls = [Sample(at, 1e8 - 1e6 * at, 90 - at, 3) for at in range(MANY)]
    assert rising(flat, "step")[0] == rising(falls, "step")[0] == []


def test_what_other_processes_map_does_not_count(tmp_path: Path) -> None:
    """As they do with libraries: what one process alone maps is private, until a second maps it."""
    (tmp_path / "library").write_bytes(bytes(64 * 2**20))
    with (tmp_path / "library").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        alone = sample(0).own_bytes
        with subprocess.Popen([sys.executable, "-c", _MAPS], stdin=file, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"0\n"
            shared = sample(0).own_bytes
            other.kill()
    assert abs(shared - alone) < 8 * 2**20


def test_a_few_steps_and_predictions_are_watched(tiny_store: Store, tiny_raw: Path, tmp_path: Path) -> None:
    steps = trained(tiny_store.path, tmp_path / "run", 6, samples=3)
    assert [each.at for each in steps] == [2, 4, 6]
    scan = tiny_raw / "imagesTr" / "case_0_0000.nii.gz"
    found = predicted(tmp_path / "run", scan, tmp_path / "out", 2, samples=2)
    assert [each.at for each in found] == [1, 2]
    now = sample(0)
    assert min(now.own_bytes, now.files, now.threads) >= 1


def test_requests_of_every_kind_are_answered(tiny_store: Store, tiny_raw: Path, tiny_run: Path, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(tiny_raw, tmp_path / "raw"))
    predict(tiny_run, raw / "imagesTr", tmp_path / "out", device="cpu")
    with browsing(tmp_path / "out", tiny_store.path, raw, seed=0) as browser:
        for at in itertools.chain(range(1, 61), [100, 200]):
            browser.one(at)
    assert browser.answers.keys() >= {0, 200, 413, 422}
    assert browser.answers.keys() & {403, 404}
    assert browser.answers[500] == 0
    assert len(list((tmp_path / "out" / "corrections" / "history").glob("*.json"))) == 2
