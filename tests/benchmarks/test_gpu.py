"""`make gpu`: pieces within a budget, put back, put together; here on the CPU, through the same code."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import do_next, main
from benchmarks.gpu_page import keep_pairs
from benchmarks.gpu_pieces import Bench, Deadline, Piece
from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.io.runlog import StudyFolder

ROOT = Path(__file__).parents[2]
TRAINING = {"iterations": 6, "patch": 16, "filters": 2, "levels": 2, "batch_size": 2, "log_every": 2}
SETTINGS = [
    *("--cases", "6", "--shape", "24", "24", "24", "--test-fraction", "0.17", "--reserve", "1"),
    *("--weightings", "uniform,square", "--learning-rates", "0.001", "--set", "train.resident=always"),
    *("--set", "train.capture=always", "--pairs="),
    *(part for key, value in TRAINING.items() for part in ("--set", f"train.{key}={value}")),
]


def piece(name: str, seconds: float, done: set[str], *, whole: bool = True) -> Piece:
    def run(_deadline: Deadline) -> bool:
        if whole:
            done.add(name)
        return whole

    return Piece(name, lambda: name in done, lambda: seconds, run)


def test_pieces_are_done_in_order_while_they_fit_and_the_first_in_any_case() -> None:
    done = {"b"}
    pieces = [piece("a", 900, done), piece("b", 1, done), piece("c", 50, done), piece("d", 200, done)]
    assert do_next(pieces, Deadline(100)) == ["d"]
    assert done == {"a", "b", "c"}


def test_a_piece_that_stopped_half_way_ends_the_command() -> None:
    done: set[str] = set()
    pieces = [piece("a", 1, done, whole=False), piece("b", 1, done)]
    assert do_next(pieces, Deadline(100)) == ["a", "b"]


def test_a_deadline_leaves_its_reserve() -> None:
    assert not Deadline(100, reserve=50).is_set()
    assert Deadline(100, reserve=101).is_set()
    assert Deadline(0).is_set()


# ------------------------------------------------------------------------------------------ packages


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[[str, str], None]:
    def make(name: str, version: str) -> None:
        (tmp_path / "wheels").mkdir(exist_ok=True)
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as file:
            file.writestr(f"{name}.py", f"VERSION = {version!r}")
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            file.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            file.writestr(f"{info}/RECORD", "")

    return make


@pytest.mark.parametrize(("least", "code"), [("2.0", 0), ("3.1", 3)])
def test_what_is_missing_is_installed_beside_and_nothing_is_replaced(
    least: str, code: int, tmp_path: Path, make_wheel: Callable[[str, str], None]
) -> None:
    make_wheel("viscera_test_absent", "3.0")
    make_wheel("numpy", "0.1")
    elsewhere = "viscera_test_elsewhere[more]>=3.0; sys_platform == 'elsewhere'"
    dependencies = json.dumps(["numpy>=1.20", f"viscera_test_absent>={least}", elsewhere])
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {dependencies}\n")
    command = [sys.executable, str(ROOT / "scripts" / "gpu_environment.py"), "wheels", "site"]
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert result.returncode == code, result.stdout + result.stderr
    assert ("This Python lacks viscera_test_absent>=3.1. Run `make gpu-wheels`" in result.stdout) is (code == 3)
    assert [path.name for path in (tmp_path / "site").glob("*.py")] == ["viscera_test_absent.py"]


# ------------------------------------------------------------------------------------------ pairs beside peers


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Its benchmarks are a script: `ours` prints a pair, `broken` ends with 3, whatever else does not end."""
    script = tmp_path / "python"
    lines = [
        "#!/bin/sh",
        "echo RATIO name=a ours=1 peer=2 ratio=2",
        'case "$2" in *ours) ;; *broken) echo boom; exit 3 ;; *) exec sleep 60 ;; esac',
    ]
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (tmp_path / "out").mkdir()
    more = {"cases": 6, "shape": (24, 24, 24), "test_fraction": 0.2, "reserve": 1, "pairs": (), "quick": True}
    return Bench(tmp_path / "work", tmp_path / "out", Config(), torch.device("cpu"), **more, pair_seconds=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "said"), [("ours", None), ("broken", "exit code 3"), ("endless", "within 1 s")])
def test_what_a_benchmark_prints_comes_back_and_what_fails_says_so(name: str, said: str | None, bench: Bench) -> None:
    assert bench._pairs(name, Deadline(100))
    found = bench.measured[name]
    assert found["lines"] == ["RATIO name=a ours=1 peer=2 ratio=2"]
    assert found["command"] == f"python -m benchmarks.bench_{name} --device cpu --quick"
    assert "results" not in found
    assert said is None or said in found["failed"]
    assert ("failed" in found) is (said is not None)


def test_a_benchmark_that_had_no_time_is_left_and_one_without_its_peer_is_skipped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not bench._pairs("endless", Deadline(0.3))
    assert "endless" not in bench.measured
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert bench._pairs("ours", Deadline(100))
    assert "MONAI is not installed" in bench.measured["ours"]["skipped"]


def test_results_beside_peers_go_to_the_folder_of_the_device(tmp_path: Path) -> None:
    measured = {"hardware": "NVIDIA H200", "loss": {"command": "", "results": {"pairs": {}}}, "train": {"command": ""}}
    assert keep_pairs(measured, tmp_path) == [tmp_path / "nvidia-h200" / "loss.json"]
    assert json.loads((tmp_path / "nvidia-h200" / "loss.json").read_text()) == {"pairs": {}}


# ------------------------------------------------------------------------------------------ the whole way


@pytest.mark.slow
def test_from_nothing_to_the_page_in_pieces_stopped_put_back_and_put_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    study = StudyFolder(work / "study")
    uniform, square = (study.run(Arm(weighting, 0.001), 0) for weighting in ("uniform", "square"))

    def call(seconds: float) -> str:
        assert main([str(work), str(out), "--device", "cpu", "--seconds", str(seconds), *SETTINGS]) == 0
        return capsys.readouterr().out

    rest = "phantoms and store, uniform_lr0.001, square_lr0.001, study and report"
    assert f"Left: time of a step, {rest}" in call(0)
    assert json.loads((out / "measured.json").read_text())["equality"]["passed"] is True
    assert f"Left: {rest}" in call(0)
    assert "Left: uniform_lr0.001" in call(0)
    assert "stopped at step 1" in call(0)  # the arm has begun, and the time is up
    status = uniform.read_status()
    assert status is not None
    assert (status.state, status.step) == ("interrupted", 1)
    with tarfile.open(out / "uniform_lr0.001.tar.gz") as file:
        assert "./run.json" in file.getnames()

    def later(_bench: Bench, _deadline: Deadline) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "_report", later)
        assert "A report of 2 of 2 arms" in call(540)
    assert [line["step"] for line in uniform.read_curve()] == [2, 4, 6]
    assert (out / "report_so_far.tar.gz").exists()
    with tarfile.open(out / "square_lr0.001.tar.gz") as file:
        names = set(file.getnames())
    assert {"./run.json", "./config.yaml", "./curve.jsonl", "./scores.csv"} <= names
    assert not any(name.endswith(".pt") for name in names)
    assert sum(name.endswith(".nii.gz") for name in names) == 1
    scores = square.scores.read_bytes()

    shutil.rmtree(work)  # another machine, another day: what came back is put back
    settings = " ".join(SETTINGS)
    command = ["make", "gpu", f"GPU_PYTHON={sys.executable}", "GPU_DEVICE=cpu", f"GPU_WORK={work}", f"GPU_OUT={out}"]
    made = subprocess.run([*command, f"GPU_SETTINGS={settings}"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "All done" in made.stdout
    assert not square.last.exists()
    assert square.scores.read_bytes() == scores
    with tarfile.open(out / "report.tar.gz") as file:
        page = file.extractfile("./results.md")
        assert page is not None
        text = page.read().decode()
        assert "./index.html" in file.getnames()
    assert "Phantom, not patients" in text
    assert "| uniform, rate 0.001 | finished | 6 " in text
    assert "| plain, channels last " in text
    assert {path.name for path in out.iterdir()} == {
        *("measured.json", "uniform_lr0.001.tar.gz", "square_lr0.001.tar.gz", "report.tar.gz")
    }
    shutil.rmtree(work)
    assert "All done" in call(540)
    assert not (work / "store").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["work/phantom", "work/study/arms/uniform_lr0.001/seed_0/curve.jsonl"])
def test_killed_in_the_middle_of_phantoms_or_of_an_arm_it_goes_on(
    seen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    arguments = [str(work), str(out), "--device", "cpu", *SETTINGS, "--set", "train.iterations=60"]
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not (tmp_path / seen).exists():
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    before = json.loads((out / "measured.json").read_text())
    assert main(arguments) == 0
    assert "All done" in capsys.readouterr().out
    assert json.loads((out / "measured.json").read_text()) == before
    with tarfile.open(out / "uniform_lr0.001.tar.gz") as file:
        curve = file.extractfile("./curve.jsonl")
        assert curve is not None
        steps = [json.loads(line)["step"] for line in curve]
    assert steps == list(range(2, 61, 2))
