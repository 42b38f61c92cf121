"""Scans at a URL that have no room on this machine together: the results of scans in a folder, one here at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import run
from tests.object_store import ObjectStore
from viscera.io.remote.remote_folder import RemoteFolder

pytest.importorskip("s3fs")


@pytest.fixture
def bucket(store_of_objects: ObjectStore, scans: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The five scans, one with another channel, and room for one of them and a half."""
    (scans / "case_1_0001.nii.gz").write_bytes((scans / "case_1_0000.nii.gz").read_bytes())
    for path in scans.iterdir():
        store_of_objects.write(f"scans/{path.name}", path.read_bytes())
    monkeypatch.setenv("VISCERA_CACHE_GB", f"{1.5 * largest(scans) / 1e9:.9f}")
    return store_of_objects


def largest(scans: Path) -> int:
    return max(path.stat().st_size for path in scans.iterdir())


def fetched(bucket: ObjectStore) -> list[str]:
    """Scans, in order; each once."""
    lines = [
        line.split("/scans/")[1].split(" ")[0]
        for line in bucket.wire.requests
        if line.startswith("GET ") and "/scans/" in line
    ]
    return sorted({name for name in lines if name.endswith(".nii.gz")})


def results(bucket: ObjectStore, folder: str = "out") -> dict[str, bytes]:
    return {name.removeprefix(f"{folder}/"): found for name, found in bucket.objects.items() if name.startswith(folder)}


@pytest.fixture
def expected(half_run: Path, scans: Path, tmp_path: Path, bucket: ObjectStore) -> dict[str, bytes]:
    """What a prediction of the folder writes."""
    assert bucket.objects
    assert run("predict", half_run, scans, tmp_path / "out", "--device", "cpu").exit_code == 0
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}


def test_the_results_are_those_of_a_folder_and_one_scan_is_here_at_a_time(
    half_run: Path, scans: Path, expected: dict[str, bytes], bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, fetch = list[int](), RemoteFolder.fetch

    def watched(folder: RemoteFolder, name: str, *given: Any) -> None:
        fetch(folder, name, *given)
        cache = Path(os.environ["XDG_CACHE_HOME"])
        most.append(sum(path.stat().st_size for path in cache.rglob("*_000?.nii.gz")))

    monkeypatch.setattr(RemoteFolder, "fetch", watched)
    predict = ("predict", half_run, f"{bucket.url}/scans", f"{bucket.url}/out", "--device", "cpu")
    said = run(*predict)
    assert said.exit_code == 0, said.output
    assert "left out, as further channels" in said.output
    assert results(bucket) == expected
    assert 0 < max(most) <= 1.5 * largest(scans)
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*_000?.nii.gz"))

    bucket.wire.requests.clear()
    assert run(*predict).exit_code == 0
    assert fetched(bucket) == ["case_1_0000.nii.gz", "case_1_0001.nii.gz"]  # for their grids
    assert results(bucket) == expected


def test_a_part_of_a_job_array_fetches_its_own_scans(half_run: Path, bucket: ObjectStore) -> None:
    bucket.delete("scans/case_1_0001.nii.gz")
    part = (f"{bucket.url}/scans", f"{bucket.url}/part1", "--device", "cpu", "--shard", "1/3")
    assert run("predict", half_run, *part).exit_code == 0
    assert fetched(bucket) == ["case_0_0000.nii.gz", "case_3_0000.nii.gz"]
    found = [name for name in results(bucket, "part1") if name.endswith(".nii.gz")]
    assert sorted(found) == ["case_0.nii.gz", "case_3.nii.gz"]


def test_a_scan_that_is_damaged_is_left_out_by_its_url(half_run: Path, bucket: ObjectStore) -> None:
    bucket.write("scans/case_2_0000.nii.gz", b"no scan")
    said = run("predict", half_run, f"{bucket.url}/scans", f"{bucket.url}/out", "--device", "cpu")
    assert said.exit_code == 3
    assert f"The first: {bucket.url}/scans/case_2_0000.nii.gz: " in said.stderr
    assert b'\ncase_2_0000.nii.gz,"scans/case_2_0000.nii.gz: ' in results(bucket)["quarantine.csv"]
    assert len([name for name in results(bucket) if name.endswith(".nii.gz")]) == 4


@pytest.mark.slow
def test_after_kill_9_the_same_command_goes_on(half_run: Path, expected: dict[str, bytes], bucket: ObjectStore) -> None:
    predict = ["predict", str(half_run), f"{bucket.url}/scans", f"{bucket.url}/out", "--device", "cpu"]
    bucket.wire.requests.clear()
    with subprocess.Popen([sys.executable, "-m", "viscera", *predict]) as process:
        deadline = time.monotonic() + 100
        while "case_2_0000.nii.gz" not in fetched(bucket) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert results(bucket) != expected
    bucket.wire.requests.clear()
    assert run(*predict).exit_code == 0
    assert results(bucket) == expected
    again = fetched(bucket)
    assert "case_0_0000.nii.gz" not in again
    assert "case_4_0000.nii.gz" in again
