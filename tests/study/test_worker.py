"""One run of a study, wherever it is started: with its settings, tried again, failed, stopped."""

import queue
import re
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError, DefectError, RunFailedError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.settings import differences
from viscera.engine import hardware
from viscera.io.confusion_table import read_confusion
from viscera.io.disk.folder_lock import alone_in
from viscera.io.runlog import RunFolder, StudyFolder, read_config
from viscera.io.store import Store
from viscera.stages.train import train
from viscera.study import worker
from viscera.study.plan import StudyPlan, make_plan
from viscera.study.worker import run_task

Configure = Callable[..., Config]
SIMPLE = Arm("simple", 0.01)


@pytest.fixture
def plan(tiny_store: Store, tmp_path: Path, study_config: Configure) -> StudyPlan:
    """Of one arm, in a new study."""
    return make_plan(StudyFolder(tmp_path / "study"), tiny_store, study_config(weightings=["simple"]))


def test_a_variant_is_trained_with_its_settings(tiny_store: Store, tmp_path: Path, study_config: Configure) -> None:
    config = study_config(weightings=[0.5], variants={"": {}, "eps0": {"train.adam.epsilon": 0.0}})
    plan = make_plan(StudyFolder(tmp_path / "study"), tiny_store, config)
    told: list[Progress] = []
    assert [run_task(plan, task, Event(), told.append) for task in plan.tasks] == [None, None]
    assert told[-1].job == "power0.5_lr0.01_eps0 seed 0 predict"
    plain, changed = (read_config(task.run.config_path).train for task in plan.tasks)
    assert plain.weighting == changed.weighting == 0.5
    assert differences(plain, changed) == ["adam.epsilon 1e-08 (now 0)"]


def test_which_class_voxels_are_called_is_counted_over_the_test_cases(plan: StudyPlan, tiny_store: Store) -> None:
    (task,) = plan.tasks
    assert run_task(plan, task, Event(), unseen) is None
    (name,) = tiny_store.names("test")
    true = np.bincount(tiny_store.original_labels(name).labels.ravel(), minlength=8)
    assert read_confusion(task.run.confusion, tiny_store.classes.names).sum(axis=1).tolist() == true.tolist()


def test_an_arm_that_ran_out_of_memory_is_scored_and_tried_again(
    plan: StudyPlan, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = plan.tasks
    fails = [True, False]

    def greedy(*args: object, progress: OnProgress, **kwargs: object) -> RunFolder:
        def step(told: Progress) -> None:
            progress(told)
            if told.done == 5 and fails.pop(0):
                raise RunFailedError("out of memory (7 GiB).")

        return train(*args, progress=step, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "train", greedy)
    assert isinstance(run_task(plan, task, Event(), unseen), RunFailedError)
    assert f"{SIMPLE.name} seed 0 failed: out of memory" in caplog.text
    assert task.run.scores.exists()
    caplog.clear()
    assert run_task(plan, task, Event(), unseen) is None
    assert run_task(plan, task, Event(), unseen) is None  # nothing is trained any more: fails is empty
    assert "failed" not in caplog.text
    status = task.run.read_status()
    assert status is not None
    assert status.state == "finished"
    assert np.all(np.diff([line["step"] for line in task.run.read_curve()]) > 0)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RunFailedError("out of memory at once."), RunFailedError, "out of memory at once"),
        (MemoryError(), RunFailedError, "out of memory .*fewer --jobs"),
        (BadInputError("last.pt: damaged."), BadInputError, r"last\.pt: damaged"),
        (KeyError("liver"), DefectError, "KeyError"),
    ],
)
def test_whatever_a_run_raises_before_it_has_weights_is_its_own_failure(
    error: Exception,
    kind: type[Exception],
    said: str,
    plan: StudyPlan,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_settings: object) -> RunFolder:
        raise error

    monkeypatch.setattr(worker, "train", fail)
    failure = run_task(plan, plan.tasks[0], Event(), unseen)
    assert type(failure) is kind
    assert failure is not None
    assert re.search(said, str(failure))
    assert ("Traceback" in caplog.text) == (kind is DefectError)


def test_stopped_between_two_cases_it_is_no_failure_and_not_scored(plan: StudyPlan) -> None:
    (task,) = plan.tasks
    stop = Event()

    def at_the_first_case(at: Progress) -> None:
        if at.job.endswith("predict"):
            stop.set()

    assert run_task(plan, task, stop, at_the_first_case) is None
    assert task.run.last.exists()
    assert not task.run.scores.exists()
    assert run_task(plan, task, Event(), unseen) is None
    assert task.run.scores.exists()


def test_a_worker_waits_for_one_of_a_study_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sees a moment later that its study is gone."""
    task, done, began = SimpleNamespace(run=RunFolder(tmp_path / "run"), name="arm"), list[bool](), Event()
    monkeypatch.setattr(worker._Worker, "news", queue.Queue(), raising=False)

    def of_before() -> None:
        with alone_in(task.run.path, "arm"):
            began.set()
            time.sleep(0.1)

    held = Thread(target=of_before)
    monkeypatch.setattr(worker, "run_task", lambda *_: done.append(True))
    held.start()
    began.wait()
    assert worker.run_in_worker(cast("Any", None), cast("Any", task)) is None
    held.join()
    assert len(done) == 1
    monkeypatch.setattr(worker, "TURN_S", 0)
    with alone_in(task.run.path, "arm"):
        failure = worker.run_in_worker(cast("Any", None), cast("Any", task))
    assert "arm: " in str(failure)
    assert "another process is working on it" in str(failure)


def test_an_arm_goes_on_with_as_many_threads_as_it_began_with(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums depend on them to the last bit, and a study that is called again may have other --jobs."""
    (task,) = plan.tasks
    asked, threads, chosen = list[int](), list[int](), [3]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(hardware, "usable_processors", lambda: {0, 1, 2})

    def counted(*args: object, **kwargs: object) -> RunFolder:
        threads.append(torch.get_num_threads())
        return train(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "train", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1])
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)

    class Soon:
        def is_set(self) -> bool:
            asked.append(1)
            return len(asked) == 4

    assert run_task(plan, task, Soon(), unseen) is None
    chosen.append(1)  # of another call
    assert run_task(plan, task, Event(), unseen) is None
    assert threads == [3, 3]
    assert chosen[-1] == 1
