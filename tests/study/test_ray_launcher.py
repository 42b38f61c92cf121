"""A study on a Ray cluster on this machine: the results of one process, also when a node is lost."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from tests.ray_cluster import cluster, needs_ray
from viscera.core.config import Config
from viscera.core.errors import BadInputError, VisceraError
from viscera.core.progress import Progress, unseen
from viscera.core.resolve import resolve_config
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study import ray_launcher
from viscera.study.plan import StudyPlan, make_plan
from viscera.study.ray_desk import Desk
from viscera.study.ray_launcher import launch_on_ray
from viscera.study.worker import run_task

pytestmark = needs_ray
__all__ = ["cluster"]  # a fixture


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    """Four short arms."""
    training = tiny_config(iterations=30, precision="float32").train.model_dump()
    grid = {"weightings": ("uniform", "square"), "learning_rates": (0.001, 0.01), "jobs": 1}
    return resolve_config(file_values={"train": training, "study": grid})


Launch = Callable[[StudyPlan], list[VisceraError]]


def run(store: Store, folder: Path, config: Config, launcher: Launch) -> Path:
    """The arms of a study alone, without its forecast and its report."""
    plan = make_plan(StudyFolder(folder), store, config)
    plan.write()
    assert launcher(plan) == []
    return folder


@pytest.fixture(scope="module")
def expected(tiny_store: Store, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arms as one process makes them, with one thread, as each has on the cluster."""

    def here(plan: StudyPlan) -> list[VisceraError]:
        return [failure for task in plan.tasks if (failure := run_task(plan, task, Event(), unseen))]

    return run(tiny_store, tmp_path_factory.mktemp("local") / "study", config, here)


def assert_the_same(found: Path, expected: Path) -> None:
    runs = sorted(path.parent.relative_to(expected) for path in expected.rglob("last.pt"))
    assert len(runs) == 4
    for each in runs:
        one, other = (torch.load(study / each / "last.pt", weights_only=True)["model"] for study in (expected, found))
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        for file in ("scores.csv", "predictions/measurements.csv"):
            assert (found / each / file).read_bytes() == (expected / each / file).read_bytes()


@pytest.mark.parametrize("shared", [True, False])
def test_a_study_is_that_of_one_process(
    tiny_store: Store, config: Config, expected: Path, cluster: Any, tmp_path: Path, shared: bool
) -> None:
    """Without shared files the runs come back, and nothing that is finished is trained again."""
    seen: list[Progress] = []

    def launcher(plan: StudyPlan) -> list[VisceraError]:
        return launch_on_ray(plan, Event(), seen.append, address=cluster.address, files_are_shared=shared)

    study = run(tiny_store, tmp_path / "study", config, launcher)
    assert_the_same(study, expected)
    assert {"uniform_lr0.001 seed 0 train", "square_lr0.01 seed 0 predict"} <= {at.job for at in seen}
    assert not list(study.glob(".reached*"))
    seen.clear()
    run(tiny_store, study, config, launcher)
    assert not [at for at in seen if at.job.endswith("train")]
    assert_the_same(study, expected)


def test_a_node_that_is_killed_in_the_middle(
    tiny_store: Store, config: Config, expected: Path, cluster: Any, tmp_path: Path
) -> None:
    doomed = cluster.list_all_nodes()[-1]
    begun = Event()

    def watch(at: Progress) -> None:
        if at.job.endswith("train") and at.done > 0 and not begun.is_set():
            begun.set()
            cluster.add_node(num_cpus=2)
            cluster.remove_node(doomed, allow_graceful=False)

    study = run(
        tiny_store,
        tmp_path / "study",
        config,
        lambda plan: launch_on_ray(plan, Event(), watch, address=cluster.address),
    )
    assert begun.is_set()
    assert_the_same(study, expected)
    for curve in study.rglob("curve.jsonl"):
        steps = [line.split(",")[0] for line in curve.read_text().splitlines()]
        assert len(steps) == len(set(steps)), "a step stands twice"


def test_the_process_that_gathers_the_news_is_killed_in_the_middle(
    tiny_store: Store, config: Config, expected: Path, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray starts it again: no arm is lost, and the study goes on."""
    pids = tmp_path / "pids"

    class Noted(Desk):
        def __init__(self, store: Path) -> None:
            super().__init__(store)
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")

    monkeypatch.setattr(ray_launcher, "Desk", Noted)
    seen: list[str] = []

    def watch(at: Progress) -> None:
        if at.job.endswith("train") and at.done > 0 and not seen:
            os.kill(int(pids.read_text().split()[-1]), signal.SIGKILL)
        seen.append(at.job)

    study = run(
        tiny_store,
        tmp_path / "study",
        config,
        lambda plan: launch_on_ray(plan, Event(), watch, address=cluster.address),
    )
    assert len(pids.read_text().split()) == 2
    assert_the_same(study, expected)


def test_stopped_it_ends_with_checkpoints(tiny_store: Store, config: Config, cluster: Any, tmp_path: Path) -> None:
    """Arms that have begun write a checkpoint of the step where they are; those that wait for a node do not begin."""
    training = config.train.model_copy(update={"iterations": 5000, "checkpoint_every": 5000, "log_every": 5000})
    long = config.model_copy(update={"train": training})
    stop = Event()

    def watch(at: Progress) -> None:
        if at.job.endswith("train") and at.done > 5:
            stop.set()

    study = run(
        tiny_store, tmp_path / "study", long, lambda plan: launch_on_ray(plan, stop, watch, address=cluster.address)
    )
    checkpoints = [torch.load(path, weights_only=True)["step"] for path in study.rglob("last.pt")]
    assert 1 <= len(checkpoints) <= 2
    assert any(0 < step < 5000 for step in checkpoints)


def test_what_no_node_has(tiny_store: Store, config: Config, cluster: Any, tmp_path: Path) -> None:
    greedy = config.model_copy(update={"study": config.study.model_copy(update={"cpus_per_arm": 64})})
    with pytest.raises(BadInputError, match=r"an arm needs 64 processors .*Lower study.cpus_per_arm"):
        run(
            tiny_store,
            tmp_path / "s",
            greedy,
            lambda plan: launch_on_ray(plan, Event(), unseen, address=cluster.address),
        )
