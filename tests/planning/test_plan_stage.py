"""`viscera plan` on the command line: its file is what `prepare` and `train` take, and its promise is kept."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import refused, run
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.resolve import resolve_config
from viscera.io.records import read_yaml
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.planning.plan_stage import Wanted, plan_training
from viscera.stages.prepare import prepare

PLAIN = ("--device", "cpu", "--set", "train.precision=float32", "--quiet")
NARROW = ("--set", "train.filters=2", "--set", "train.monitor_windows=2")


@pytest.fixture(scope="module")
def plan_of_a_coarse_store(roomy_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file of a plan of three steps for a store of half the resolution, and what was printed."""
    folder = tmp_path_factory.mktemp("plan")
    prepare(roomy_raw, folder / "store", PrepareConfig(downsample=2, test_fraction=0, folds=2))
    result = run("plan", folder / "store", "--iterations", 3, "--fold", 0, "--out", folder / "p.yaml", *NARROW, *PLAIN)
    return folder / "p.yaml", result.stdout


def test_every_value_has_its_reason(plan_of_a_coarse_store: tuple[Path, str]) -> None:
    path, _ = plan_of_a_coarse_store
    lines = path.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#") and not line.endswith(":")]
    assert len(settings) > 15
    assert all(len(line.partition("  # ")[2]) > 4 for line in settings)


def test_what_is_printed_fits_into_100_columns(plan_of_a_coarse_store: tuple[Path, str]) -> None:
    path, printed = plan_of_a_coarse_store
    for said in ("Memory: about", "gallbladder", "patches as planned", "as nnU-Net", "Note: Each of", "prepare DATA"):
        assert said in printed
    assert max(len(line) for line in printed.replace(str(path), "p.yaml").splitlines()) <= 100


def test_volumes_that_nobody_labelled_all_of_are_said_to_be_estimates(
    tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    """Every other slice is labelled."""
    cases = {f"c{n}": make_case(n, (42, 40, 40)) for n in range(3)}
    names = {name: number for number, name in enumerate((*CLASS_NAMES, "ignore"))}
    for _, labels in cases.values():
        labels[:, :, 1::2] = 8
    store = tmp_path / "s"
    prepare(make_nnunet(tmp_path / "raw", cases, names=names), store, PrepareConfig(downsample=1, test_fraction=0))
    given = ("--iterations", 3, "--set", "train.patch=16", "--keep-spacing", *NARROW, *PLAIN)
    result = run("plan", store, "--out", tmp_path / "p.yaml", *given)
    assert re.search(r"^liver +3/3 +about \d+(\.\d+)? +about \d+ ", result.stdout, re.MULTILINE)
    for said in (result.stdout, (tmp_path / "p.yaml").read_text(encoding="utf-8").replace("\n# ", " ")):
        assert "3 of 3 training cases have voxels that nobody labelled" in said
        assert "estimated from slices" in said


def test_the_file_prepares_and_trains(plan_of_a_coarse_store: tuple[Path, str], roomy_raw: Path) -> None:
    """Windows of 40³ want the scans' own voxels, of 2×2×2.5 mm; on their grid a plan has nothing to prepare."""
    path, _ = plan_of_a_coarse_store
    config = resolve_config(file_values=read_yaml(path))
    assert config.prepare.spacing_mm == (2.0, 2.0, 2.5)
    assert (config.train.patch, config.train.iterations, config.train.fold) == (40, 3, 0)
    fine, small = path.parent / "fine", ("--set", "train.patch=16", *NARROW)
    assert run("prepare", roomy_raw, fine, "--config", path, "--quiet").exit_code == 0
    assert Store.open(fine).manifest.prepare.folds == 2
    assert run("train", fine, path.parent / "run", "--config", path, *small, "--quiet").exit_code == 0
    status = RunFolder(path.parent / "run").read_status()
    assert status is not None
    assert (status.state, status.step) == ("finished", 3)
    again = run("plan", fine, "--iterations", 3, "--out", path.parent / "again.yaml", *small, *PLAIN)
    assert "spacing_mm: [2.0, 2.0, 2.5]  # of the store" in (path.parent / "again.yaml").read_text(encoding="utf-8")
    assert "prepare DATA" not in again.stdout


def test_bad_input_is_one_sentence_and_nothing_is_written(roomy_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "plan.yaml"
    call = ("plan", roomy_store.path, "--out", out)
    for code, wrong, said in (
        (2, ("--budget", "2 fortnights"), "a duration was expected, as 2h"),
        (2, ("--memory", "8"), "an amount of memory was expected, as 8GiB"),
        (2, ("--budget", "2h", "--iterations", 9), "give --budget or --iterations, not both"),
        (2, ("--budget", "2h", "--set", "train.iterations=9"), "give --budget or --iterations, not both"),
    ):
        result = run(*call, *wrong)
        assert result.exit_code == code
        assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "too short" in refused(3, *call, "--budget", "1s", "--set", "train.patch=16", *NARROW, *PLAIN)
    assert "Give more with --memory" in refused(3, *call, "--memory", "1MiB", *NARROW, *PLAIN)
    assert "this is not a store" in refused(3, "plan", tmp_path, "--out", out)
    Store.create(tmp_path / "empty", PrepareConfig(), "")
    assert "no training case in this store" in refused(3, "plan", tmp_path / "empty", "--out", out)
    assert not out.exists()
    out.write_text("mine")
    assert f"{out}: exists. Move it away, or give another file with --out." in refused(3, *call)
    assert out.read_text() == "mine"
    told = list[Progress]()
    with pytest.raises(BadInputError, match="cannot be written"):  # said before anything is timed
        plan_training(roomy_store.path, out / "p.yaml", Config(), Wanted(), progress=told.append)
    assert told == []


@pytest.mark.slow
def test_a_training_takes_what_was_promised(roomy_store: Store, tmp_path: Path) -> None:
    """A budget of 30 s, of which 4 s are for the start of Python, which is not in it here: within a factor of 1.6."""
    out = tmp_path / "plan.yaml"
    assert run("plan", roomy_store.path, "--budget", "30s", "--out", out, *NARROW, *PLAIN).exit_code == 0
    started = time.perf_counter()
    assert run("train", roomy_store.path, tmp_path / "run", "--config", out, "--quiet").exit_code == 0
    assert 1 / 1.6 < (time.perf_counter() - started + 4) / 30 < 1.6
