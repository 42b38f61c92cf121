"""A study from end to end: here and in processes, stopped, gone on with, with more arms, with runs that fail."""

import csv
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.core.errors import (
    BadInputError,
    DefectError,
    InterruptedRunError,
    RunFailedError,
    UsageError,
    VisceraError,
)
from viscera.core.processes import start_pool
from viscera.core.progress import Progress
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch, worker
from viscera.study.launch import run_study
from viscera.study.plan import StudyPlan

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("quick_studies")
UNIFORM, SIMPLE, SQUARE = (Arm(weighting, 0.01) for weighting in ("uniform", "simple", "square"))


def joined(study: Path) -> list[dict[str, str]]:
    with (study / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def in_warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes after all; one thread a worker however many there are, so that results are the same to the bit."""
    monkeypatch.setattr(launch, "start_pool", start_pool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})


def test_every_arm_is_trained_applied_and_scored(tiny_store: Store, finished: Path) -> None:
    folder = StudyFolder(finished)
    (case,) = tiny_store.names("test")
    for arm in (UNIFORM, SIMPLE):
        run = folder.run(arm, 0)
        status = run.read_status()
        assert status is not None
        assert status.state == "finished"
        assert (run.predictions / f"{case}.nii.gz").exists()
        assert [row.case for row in read_scores(run.scores)] == [case] * 8
        assert (run.path / "config.yaml").exists()
    record = folder.read_record()
    assert record.store == str(tiny_store.path.resolve())
    assert record.training_voxel_counts == tuple(tiny_store.voxel_counts())


def test_settings_without_effect_in_any_arm_are_named_once_before_the_first_trains(
    tiny_store: Store, study_config: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def told(plan: StudyPlan, *_: object) -> list[VisceraError]:
        assert len(plan.tasks) == 4
        raise InterruptedRunError("told")

    momentum = {"train.optimiser.momentum": 0.5}
    sgd = momentum | {"train.optimiser.name": "sgd", "predict.mirror_axes": ["R"]}
    config = study_config(variants={"adam": momentum | {"train.network.groups": 2}, "sgd": sgd})
    with pytest.raises(InterruptedRunError, match="told"):
        run_study(tiny_store.path, tmp_path / "s", config, launcher=told)
    said = [record.message for record in caplog.records if "train." in record.message]
    assert [text.split(" ")[0] for text in said] == ["train.network.groups", "predict.mirror_axes"]


def test_a_frozen_encoder_is_nothing_for_arms_that_begin_at_random(
    tiny_store: Store, study_config: Configure, tmp_path: Path
) -> None:
    frozen = study_config(variants={"": {}, "frozen": {"train.optimiser.encoder_rate": 0}})
    with pytest.raises(UsageError, match="encoder_rate is 0, and this run begins with random weights"):
        run_study(tiny_store.path, tmp_path / "s", frozen)
    assert not (tmp_path / "s").exists()


def test_every_run_has_a_card_with_its_scores(tiny_store: Store, finished: Path) -> None:
    for arm in ("uniform_lr0.01", "simple_lr0.01"):
        card = json.loads((finished / "arms" / arm / "seed_0" / "card.json").read_text())
        assert card["evaluation_data"]["splits"] == {"test": len(tiny_store.names("test"))}
        assert {each["metric"] for each in card["quantitative_analyses"]} == {"dice"}


def test_the_joined_table_has_arm_and_seed_in_front(finished: Path) -> None:
    rows = joined(finished)
    assert list(rows[0]) == ["arm", "seed", "case", "organ", "grid", "metric", "value"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(UNIFORM.name, "0")] * 8 + [(SIMPLE.name, "0")] * 8
    own = read_scores(StudyFolder(finished).run(SIMPLE, 0).scores)
    assert [row["value"] for row in rows[8:]] == ["" if row.value is None else f"{row.value:.6f}" for row in own]


def test_an_arm_is_the_run_that_train_makes(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    alone = train(
        tiny_store.path,
        tmp_path / "r",
        tiny_config(iterations=12, batch_norm="recomputed", weighting="simple", learning_rate=0.01),
    )
    arm = StudyFolder(finished).run(SIMPLE, 0)
    assert [line["loss"] for line in arm.read_curve()] == [line["loss"] for line in alone.read_curve()]


@pytest.mark.usefixtures("in_warm_processes")
def test_stopped_and_called_again_side_by_side_it_gives_the_same_scores(
    tiny_store: Store, finished: Path, tmp_path: Path, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, stop = tmp_path / "study", threading.Event()
    told: list[Progress] = []

    def stop_at_once(at: Progress) -> None:
        told.append(at)
        stop.set()

    with pytest.raises(InterruptedRunError, match="Run the same command again"):
        run_study(tiny_store.path, study, study_config(jobs=1), stop=stop, progress=stop_at_once)
    assert not (study / "scores.csv").exists()
    monkeypatch.setattr(launch, "start_pool", start_pool)  # as users get them
    monkeypatch.setattr("viscera.core.processes.get_context", get_context)
    page = run_study(tiny_store.path, study, study_config(jobs=2), progress=told.append)
    assert page.read_text() == "a page"
    assert (study / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    assert {at.job for at in told} == {
        f"{arm.name} seed 0 {phase}" for arm in (UNIFORM, SIMPLE) for phase in ("train", "predict")
    }


def test_another_weighting_trains_its_arm_alone_also_on_another_device(
    tiny_store: Store, finished: Path, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "arms").rglob("*.*t")}
    assert folder.run(UNIFORM, 0).last in before
    config = study_config(weightings=["square"])
    assert config.train.device == "cpu"
    elsewhere = config.model_copy(update={"train": config.train.model_copy(update={"device": "cpu:0"})})
    run_study(tiny_store.path, tmp_path / "study", elsewhere)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert folder.run(SQUARE, 0).last.exists()
    assert list(dict.fromkeys(row["arm"] for row in joined(tmp_path / "study"))) == [
        arm.name for arm in (UNIFORM, SIMPLE, SQUARE)
    ]
    assert folder.read_record().config.study.weightings == ("uniform", "simple", "square")


def test_a_moved_store_and_study_go_on(
    tiny_store: Store, finished: Path, tmp_path: Path, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "a study")
    shutil.copytree(tiny_store.path, tmp_path / "a store")
    monkeypatch.chdir(tmp_path)
    last = StudyFolder(Path("a study")).run(UNIFORM, 0).last
    before = last.stat().st_mtime_ns
    run_study(Path("a store"), Path("a study"), study_config())
    assert last.stat().st_mtime_ns == before
    assert StudyFolder(Path("a study")).read_record().store == str((tmp_path / "a store").resolve())
    assert Path("a study/scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_a_diverged_arm_is_marked_and_scored_on_the_same_cases(
    tiny_store: Store, tmp_path: Path, study_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    config = study_config(weightings=["uniform"], learning_rates=[1e37])
    arm = Arm("uniform", 1e37)
    run_study(tiny_store.path, tmp_path / "study", config)
    (failed,) = [message for message in caplog.messages if message.startswith(f"{arm.name} seed 0 failed: ")]
    run = StudyFolder(tmp_path / "study").run(arm, 0)
    status = run.read_status()
    assert status is not None
    assert status.state == "failed"
    assert failed.endswith(status.message)
    assert "the loss is nan at step" in failed
    assert {row["case"] for row in joined(tmp_path / "study")} == set(tiny_store.names("test"))


# ------------------------------------------------------------------------------------------ runs that fail


def test_what_every_run_fails_of_is_raised_once(raw: Path, tmp_path: Path, study_config: Configure) -> None:
    config = study_config()
    store = prepare(raw, tmp_path / "s", config.prepare.model_copy(update={"downsample": 1}))
    path = tmp_path / "s" / "cases" / store.names("train")[0] / "image.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BadInputError, match=r"image\.npy: changed since it was written") as raised:
        run_study(tmp_path / "s", tmp_path / "study", config)
    assert str(raised.value).count("image.npy") == 1
    assert not (tmp_path / "study" / "report").exists()


@pytest.mark.parametrize("error", [RunFailedError("out of memory (7 GiB)."), KeyError("liver")])
def test_one_run_that_fails_does_not_stop_the_others(
    error: Exception,
    tiny_store: Store,
    finished: Path,
    tmp_path: Path,
    study_config: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails = [False, True]  # the first run

    def fail_once(*args: object, **settings: object) -> RunFolder:
        if fails.pop():
            raise error
        return train(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "train", fail_once)
    study, config = tmp_path / "study", study_config(fuse=True)
    kind = RunFailedError if isinstance(error, RunFailedError) else DefectError
    with pytest.raises(kind, match=r"1 of 2 runs could not be finished; the others are.*Run the same command"):
        run_study(tiny_store.path, study, config)
    assert {row["arm"] for row in joined(study)} == {SIMPLE.name}
    assert (study / "report" / "index.html").exists()
    fails[:] = [False]
    run_study(tiny_store.path, study, config)
    of_arms = [row for row in joined(study) if row["arm"] != "fused"]
    assert of_arms == joined(finished)


def test_a_process_that_is_killed_is_one_sentence(
    tiny_store: Store, tmp_path: Path, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(ThreadPoolExecutor):
        def submit(self, *_args: object, **_kwargs: object) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool())
            return future

    monkeypatch.setattr(launch, "start_pool", lambda *_: (Killed(1), (Queue(), threading.Event(), 0, 1)))
    with pytest.raises(RunFailedError, match=r"a process of this study was killed.*fewer --jobs"):
        run_study(tiny_store.path, tmp_path / "study", study_config())
