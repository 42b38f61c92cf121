"""Training a Run: resuming bit by bit, failing, stopping, and what a Run says of itself."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.same_checkpoints import same_state
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import AugmentConfig, Config, IntensityConfig, PrepareConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.engine import feed
from viscera.engine import trainer as engine
from viscera.engine.feed import Batch
from viscera.engine.monitor import StepResult
from viscera.imaging.augment import Augmentation, draw
from viscera.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from viscera.io.disk.folder_lock import exclusive
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.losses import dice
from viscera.losses.balance import class_weights
from viscera.losses.dice import weighted_dice_loss
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Configure = Callable[..., Config]
MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


def steps(run: RunFolder) -> list[int]:
    return [line["step"] for line in run.read_curve()]


# ------------------------------------------------------------------------------------------ what a Run holds


def test_a_run_says_what_it_optimised(tiny_store: Store, tiny_run: Path, tiny_config: Configure) -> None:
    content = torch.load(tiny_run / "last.pt", weights_only=True)
    counts = tiny_store.voxel_counts()
    assert content["step"] == 6
    assert content["class_voxel_counts"].tolist() == counts.tolist()
    assert content["class_weights"].tolist() == class_weights(counts, "uniform").tolist()
    config = content["config"]
    assert config["classes"] == list(CLASS_NAMES)
    assert np.allclose(config["training_spacings_mm"], [[2, 2, 2.5]] * 4)
    assert config["train"]["intensity"] == IntensityConfig().model_dump()
    assert config["train"]["patch"] == 8
    assert config["prepare"]["downsample"] == 1
    assert {"state", "param_groups"} <= set(content["optimizer"])
    written = yaml.safe_load((tiny_run / "config.yaml").read_text())
    decided = {"precision": "float32", "memory_layout": "channels_last"}  # where they are auto
    assert written["train"] == tiny_config().train.model_dump(mode="json") | decided
    status = RunFolder(tiny_run).read_status()
    assert status is not None
    assert (status.state, status.step, status.device) == ("finished", 6, "cpu")


def test_the_curve_has_a_line_every_so_many_steps(tiny_run: Path) -> None:
    lines = RunFolder(tiny_run).read_curve()
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert [line["step"] for line in lines if "validation_dice" in line] == [3, 6]
    assert all(set(line["dice"]) == set(CLASS_NAMES) for line in lines)


@pytest.mark.parametrize("weighting", ["simple", "square"])
def test_weights_are_those_of_the_stores_counts(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, weighting: str
) -> None:
    train(tiny_store.path, tmp_path / "r", tiny_config(weighting=weighting, iterations=2))
    counts = tiny_store.voxel_counts()
    checkpoint = load_checkpoint(tmp_path / "r" / "last.pt")
    assert checkpoint.class_weights.tolist() == class_weights(counts, weighting).tolist()
    # Eq. 4 and 5 for the liver, written out
    n, r, power = counts.sum(), float(counts[3]), {"simple": 1, "square": 2}[weighting]
    assert float(checkpoint.class_weights[3]) == pytest.approx(n / (8 * r**power + 1))


def test_the_first_loss_is_minus_the_weighted_mean_of_the_soft_dice(
    tiny_run: Path, tmp_path: Path, tiny_store: Store, tiny_config: Configure
) -> None:
    assert tiny_run
    run = train(tiny_store.path, tmp_path / "r", tiny_config(weighting="square", iterations=1))
    (line,) = run.read_curve()
    weights = class_weights(tiny_store.voxel_counts(), "square")
    assert line["loss"] == pytest.approx(-np.mean(weights * list(line["soft_dice"].values())), rel=1e-4)


def test_the_seed_and_nothing_else_decides(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state that must not matter
    train(tiny_store.path, tmp_path / "same", tiny_config())
    assert same_state(tiny_run / "last.pt", tmp_path / "same" / "last.pt")
    train(tiny_store.path, tmp_path / "other", tiny_config(seed=1))
    assert not same_state(tiny_run / "last.pt", tmp_path / "other" / "last.pt")


def test_augmentation_knows_the_spacing_of_each_case(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    spacings: list[object] = []

    def watched(config: AugmentConfig, key: tuple[int, int, int], spacing_mm: tuple[float, ...]) -> Augmentation:
        spacings.append(spacing_mm)
        return draw(config, key, spacing_mm)

    monkeypatch.setattr(feed, "draw", watched)
    train(tiny_store.path, tmp_path / "r", tiny_config(iterations=1, augment={"enabled": True}))
    assert set(spacings) == {(2.0, 2.0, 2.5)}  # TINY_AFFINE


def test_an_existing_run_is_refused(tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure) -> None:
    before = {path: path.read_bytes() for path in tiny_run.iterdir()}
    with pytest.raises(BadInputError, match="this run exists"):
        train(tiny_store.path, tiny_run, tiny_config())
    assert {path: path.read_bytes() for path in tiny_run.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="this run exists"):
        train(tiny_store.path, tmp_path / "file", tiny_config())
    with pytest.raises(BadInputError, match="cannot be written"):
        train(tiny_store.path, tmp_path / "file" / "run", tiny_config())


def test_another_process_on_the_same_run_is_refused(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    script = f"""
from pathlib import Path
from viscera.io.disk.folder_lock import exclusive
with exclusive(Path({str(tmp_path / "r")!r})):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(BadInputError, match="another process is working on it"):
            train(tiny_store.path, tmp_path / "r", tiny_config())
        other.communicate(b"\n")
    train(tiny_store.path, tmp_path / "r", tiny_config())  # the lock that is left behind is no run
    with exclusive(tmp_path / "r"):
        pass


# ------------------------------------------------------------------------------------------ failing


@pytest.mark.parametrize("batch_norm", ["running", "recomputed"])
@pytest.mark.parametrize("every", [1, 4])
def test_a_diverged_run_keeps_its_last_good_checkpoint(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, batch_norm: str, every: int
) -> None:
    config = tiny_config(
        learning_rate=1e37, batch_norm=batch_norm, checkpoint_every=every, log_every=every, validate_every=every
    )
    with pytest.raises(
        RunFailedError, match=r"step \d.*rate 1e\+37.*The checkpoint of step [01] is kept. Try a lower"
    ) as caught:
        train(tiny_store.path, tmp_path / "r", config)
    assert caught.value.exit_code == 4
    run = RunFolder(tmp_path / "r")
    status = run.read_status()
    assert status is not None
    assert status.state == "failed"
    assert status.message == str(caught.value).removeprefix(f"{tmp_path}/")  # no folder of anybody
    for path in run.path.glob("*.pt"):
        assert all(torch.isfinite(tensor).all() for tensor in load_checkpoint(path).model.values()), path


def test_weights_that_are_not_finite_are_never_written(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = engine.Trainer.training_step

    def spoiling(self: engine.Trainer, batch: Batch, *, diagnose: bool) -> StepResult:
        result = original(self, batch, diagnose=diagnose)
        if self.step == 2:
            with torch.no_grad():
                next(self.network.parameters()).view(-1)[0] = torch.nan
        return result

    monkeypatch.setattr(engine.Trainer, "training_step", spoiling)
    with pytest.raises(RunFailedError, match=r"weights are not finite after step 3 .*The checkpoint of step 2 is kept"):
        train(tiny_store.path, tmp_path / "r", tiny_config(checkpoint_every=2, log_every=2, validate_every=3))
    run = RunFolder(tmp_path / "r")
    assert not run.best.exists()
    assert steps(run) == [2]
    assert load_checkpoint(run.last).step == 2


def test_the_step_of_a_loss_that_is_not_finite_is_named(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(*args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return weighted_dice_loss(*args) * (float("inf") if len(calls) == 6 else 1)

    monkeypatch.setattr(dice, "weighted_dice_loss", failing)
    with pytest.raises(RunFailedError, match=r"the loss is -inf at step 6 .*The checkpoint of step 4 is kept"):
        train(tiny_store.path, tmp_path / "r", tiny_config())
    assert load_checkpoint(tmp_path / "r" / "last.pt").step == 4
    monkeypatch.undo()
    run = train(tiny_store.path, tmp_path / "r", tiny_config(), resume=True)
    assert steps(run) == [2, 3, 4, 6]


def test_out_of_memory_says_what_to_lower(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_args: object, **_options: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine.Trainer, "training_step", greedy)
    with pytest.raises(RunFailedError, match=r"out of memory .*Lower --batch-size"):
        train(tiny_store.path, tmp_path / "r", tiny_config())


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = []

    def full(path: Path, checkpoint: Checkpoint) -> None:
        saves.append(path.name)
        if len(saves) < 3:
            save_checkpoint(path, checkpoint)
            return
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            save_checkpoint(path, checkpoint)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(engine, "save_checkpoint", full)
    with pytest.raises(BadInputError, match=r"last\.pt: the disk is full"):
        train(tiny_store.path, tmp_path / "r", tiny_config())
    run = RunFolder(tmp_path / "r")
    assert load_checkpoint(run.last).step == 0
    status = run.read_status()
    assert status is not None
    assert status.state == "interrupted"  # not failed: a study goes on with it
    monkeypatch.undo()
    train(tiny_store.path, run.path, tiny_config(), resume=True)
    assert same_state(run.last, tiny_run / "last.pt")


@pytest.mark.parametrize(("split", "file"), [("train", "image.npy"), ("validation", "labels.npy")])
def test_a_flipped_byte_in_the_store_is_noticed_before_a_run_is_made(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, split: str, file: str
) -> None:
    shutil.copytree(tiny_store.path, tmp_path / "s")
    name = tiny_store.names(split)[0]  # type: ignore[arg-type]
    path = tmp_path / "s" / "cases" / name / file
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{name}/{file}: changed since it was written"):
        train(tmp_path / "s", tmp_path / "r", tiny_config())
    assert not (tmp_path / "r").exists()


def test_fewer_patients_than_a_batch_is_bad_input(
    tmp_path: Path, tiny_config: Configure, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    make_nnunet(tmp_path / "raw", {"one": make_case(0)})
    prepare(tmp_path / "raw", tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0))
    with pytest.raises(
        BadInputError, match=r"a batch of 3 .* there is only 1 training case. Add cases, or give --batch-size 1"
    ):
        train(tmp_path / "s", tmp_path / "r", tiny_config(batch_size=3))
    assert not (tmp_path / "r").exists()


def test_a_device_that_is_not_there_is_bad_input(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    for name in ("tpu9", "cuda:63"):
        with pytest.raises(BadInputError, match=f"device '{name}' is not available here"):
            train(tiny_store.path, tmp_path / "r", tiny_config(device=name))


# ------------------------------------------------------------------------------------------ best.pt


def test_best_is_the_best_validation_step(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(iterations=40, learning_rate=0.02, validate_every=4))
    means = {}
    for line in run.read_curve():
        if "validation_dice" in line:
            organs = [v for organ, v in line["validation_dice"].items() if organ != "background" and v is not None]
            means[line["step"]] = np.mean(organs)
    assert len(means) == 10
    best = load_checkpoint(run.best)
    assert best.step == max(means, key=lambda step: means[step])
    assert best.best_validation_dice == pytest.approx(max(means.values()))


def test_without_validation_cases_there_is_no_best(raw: Path, tmp_path: Path, tiny_config: Configure) -> None:
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1))
    run = train(tmp_path / "s", tmp_path / "r", tiny_config())
    assert run.last.exists()
    assert not run.best.exists()
    assert not any("validation_dice" in line for line in run.read_curve())


# ------------------------------------------------------------------------------------------ Ctrl-C


def test_ctrl_c_ends_with_130_and_a_checkpoint_and_no_compiler_nor_what_draws_was_loaded(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = tmp_path / "c.yaml"
    settings = tiny_config(iterations=1_000_000, checkpoint_every=1_000_000).model_dump(mode="json")
    config.write_text(yaml.safe_dump(settings))
    program = "import atexit, sys; from viscera.cli import main; atexit.register(lambda: print(*sys.modules)); main()"
    command = [sys.executable, "-c", program, "train", str(tiny_store.path), "r", "--config", str(config)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "r" / "curve.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        loaded, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not {"matplotlib", "pandas", "sympy", "torch._dynamo"} & set(loaded.split())  # 2 s and more
    assert "torch.optim.adam" in loaded
    assert "Traceback" not in errors
    step = load_checkpoint(tmp_path / "r" / "last.pt").step
    assert step > 0
    assert f"stopped at step {step}. Resume with --resume" in errors


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_no_run(
    tiny_store: Store, tiny_config: Configure, tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1")
    with pytest.raises(BadInputError, match="thesis: this folder holds something that is not a run"):
        train(tiny_store.path, tmp_path / "thesis", tiny_config(), resume=resume)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
