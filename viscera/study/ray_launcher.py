"""The arms of a study as tasks of a Ray cluster.

Each task is `study.worker.run_task`, as on one machine; Ray chooses the node, and starts a task again elsewhere where
its node is lost. It then goes on from its own last checkpoint, if the node reaches the study's folder, else from the
start. A node that does not reach the store gets a copy, once, which is checked by its checksums; runs that it finishes
come back.
"""

import contextlib
import logging
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import viscera
from viscera.core.errors import BadInputError, DefectError, RunFailedError, VisceraError, first_line
from viscera.core.progress import OnProgress, StopSignal
from viscera.engine.on_ray import NO_MODULE, RETRIES, Patience, connected, most_gpus, of_node, ray_module, resources
from viscera.io.disk.folder_lock import TURN_S, exclusive
from viscera.io.files import PARTS, cache_folder, write_bytes
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.store import Store
from viscera.study.plan import StudyPlan, Task
from viscera.study.ray_desk import Desk, DeskActor, LogToDesk, StopOfDesk, files_in, teller, write_files
from viscera.study.worker import News, pass_on, run_task

log = logging.getLogger(__name__)
_LOOK_S = 0.5
_Reference = Any  # to what a task of Ray will return
_AGAIN = "Run the same command again: what is done is kept."
_FETCH_S = 3600  # for a store, that another task of the node is fetching


def launch_on_ray(
    plan: StudyPlan,
    stop: StopSignal,
    progress: OnProgress,
    *,
    address: str | None = None,  # of a cluster, `auto` for the one of this machine; None: one is started here
    files_are_shared: bool | None = None,  # whether nodes reach the study's folder; None: each looks
) -> list[VisceraError]:
    """Run all tasks of a plan on a Ray cluster; otherwise as `study.launch.launch`.

    Raises BadInputError without Ray, for an address that does not answer, or where no node has what an arm needs.
    """
    plan = _with_absolute_paths(plan)  # other machines stand elsewhere
    with connected(address) as ray:
        needs = _needs(ray, plan)
        mark = plan.folder.path / f".reached-{secrets.token_hex(4)}"
        write_bytes(mark, b"")
        try:
            here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            again = {"max_restarts": RETRIES, "max_task_retries": RETRIES}  # where its process is lost
            desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here, **again).remote(plan.store)
            _told(ray, desk.is_stopped.remote())  # it has begun before others ask it: one that waits can be lost
            errand = _Errand(plan, Store.open(plan.store).fingerprint, mark, files_are_shared, viscera.__version__)
            shared = ray.put(errand)
            run = ray.remote(_run).options(**needs, max_retries=RETRIES, scheduling_strategy="SPREAD")
            tasks = {run.remote(shared, number, desk): task for number, task in enumerate(plan.tasks)}
            return list(_followed(ray, tasks, desk, stop, progress, Patience(ray, needs)))
        finally:
            mark.unlink(missing_ok=True)


def _with_absolute_paths(plan: StudyPlan) -> StudyPlan:
    tasks = tuple(replace(task, run=RunFolder(task.run.path.absolute())) for task in plan.tasks)
    return replace(plan, folder=StudyFolder(plan.folder.path.absolute()), tasks=tasks)


def _needs(ray: ModuleType, plan: StudyPlan) -> dict[str, float]:
    """Processors and GPUs of an arm."""
    settings, wants_gpu = plan.config.study, plan.config.train.device != "cpu" and most_gpus(ray) > 0
    gpus = settings.gpus_per_arm if settings.gpus_per_arm is not None else float(wants_gpu)
    needs = {"num_cpus": settings.cpus_per_arm, "num_gpus": gpus}
    resources(ray, needs, "an arm", "Lower study.cpus_per_arm or study.gpus_per_arm.")
    return needs


class _Errand(NamedTuple):
    """What all tasks of a study are sent."""

    plan: StudyPlan
    store: str  # its fingerprint
    mark: Path  # a file that is there on nodes that reach the study's folder
    files_are_shared: bool | None
    version: str


class _Outcome(NamedTuple):
    """What became of a task: why it is not done, and what its run holds where the study's folder was not reached."""

    failure: VisceraError | None
    files: dict[str, bytes]


def _run(errand: _Errand, number: int, desk: DeskActor) -> _Outcome:
    """On a node: one task of the plan."""
    plan, task = errand.plan, errand.plan.tasks[number]
    if viscera.__version__ != errand.version:
        versions = f"version {viscera.__version__} of viscera, and the study was started with {errand.version}"
        return _Outcome(BadInputError(f"{task.name}: {socket.gethostname()} has {versions}. Install the same."), {})
    if ray_module().get(desk.is_stopped.remote()):
        return _Outcome(None, {})
    logging.basicConfig(handlers=[LogToDesk(desk)], format="%(message)s", level=logging.WARNING, force=True)
    torch.set_num_threads(max(1, int(plan.config.study.cpus_per_arm)))
    stop = StopOfDesk(desk)
    try:
        store = _store_here(plan.store, errand.store, desk)
        record = plan.record.model_copy(update={"store": str(store)})
        is_shared = errand.mark.exists() if errand.files_are_shared is None else errand.files_are_shared
        copied = cache_folder() / "ray" / errand.mark.name / task.arm.name / f"seed_{task.seed}"
        run = task.run if is_shared else RunFolder(copied)
        with exclusive(run.path, lock=PARTS, wait_s=TURN_S):  # a process of a lost node may outlive it for a moment
            if not is_shared:
                write_files(run.path, ray_module().get(desk.files_of.remote(task.run.path)))
            failure = run_task(replace(plan, record=record), replace(task, run=run), stop, teller(desk))
            if is_shared:
                return _Outcome(failure, {})
            files = files_in(run.path)
            shutil.rmtree(run.path, ignore_errors=True)
            return _Outcome(failure, files)
    except VisceraError as error:
        return _Outcome(type(error)(f"{task.name}, on {socket.gethostname()}: {error}"), {})
    finally:
        stop.end()


def _store_here(path: Path, fingerprint: str, desk: DeskActor) -> Path:
    """The store, or a copy of it on this node."""
    with contextlib.suppress(BadInputError):
        if Store.open(path).fingerprint == fingerprint:
            return path
    ray, copy = ray_module(), cache_folder() / "stores" / fingerprint
    with exclusive(copy, wait_s=_FETCH_S):
        if not (copy / "manifest.json").exists():
            manifest = ray.get(desk.read.remote("manifest.json"))
            write_bytes(copy / "coming.json", manifest)
            store = Store.of_manifest(copy, copy / "coming.json")
            if store.fingerprint != fingerprint:
                raise BadInputError(f"{path}: the store has changed since the study was started. Start it again.")
            for name, record in store.manifest.cases.items():
                for file in record.sha256:
                    within = f"cases/{name}/{file}"
                    write_files(copy, {within: ray.get(desk.read.remote(within))})
            store.verify(store.names())
            (copy / "coming.json").replace(copy / "manifest.json")
    return copy


def _followed(
    ray: ModuleType,
    tasks: dict[Any, Task],
    desk: DeskActor,
    stop: StopSignal,
    progress: OnProgress,
    patience: Patience,
) -> Iterator[VisceraError]:
    """Pass on news until all tasks are done, or stopped; gives why some could not be finished."""
    pending = list(tasks)
    while pending:
        done, pending = ray.wait(pending, num_returns=len(pending), timeout=_LOOK_S)
        if not done:
            patience.look()
        for news in _news(ray, desk):
            pass_on(news, progress)
        for reference in done:
            outcome = _outcome(ray, reference, tasks[reference])
            write_files(tasks[reference].run.path, outcome.files)
            if outcome.failure is not None:
                yield outcome.failure
        if stop.is_set():  # tasks that wait for a node then end where they begin; others after their step
            _told(ray, desk.stop.remote())  # each time, as a desk that was started again has forgotten it
    for news in _news(ray, desk):
        pass_on(news, progress)


def _news(ray: ModuleType, desk: DeskActor) -> list[News]:
    news: list[News] = _told(ray, desk.take.remote())
    return news


def _told(ray: ModuleType, reference: _Reference) -> Any:  # noqa: ANN401 - whatever the desk says
    """What the desk says; raises RunFailedError where it is lost for good, or says nothing for minutes."""
    try:
        return ray.get(reference, timeout=TURN_S)
    except ray.exceptions.RayError as error:
        raise RunFailedError(_desk_lost(error)) from error


def _desk_lost(error: Exception) -> str:
    return f"the process on the first node that gathers the news was lost ({first_line(error)}). {_AGAIN}"


def _outcome(ray: ModuleType, reference: _Reference, task: Task) -> _Outcome:
    try:
        outcome: _Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RaySystemError | ImportError) or NO_MODULE.search(str(error.cause)):
            return _Outcome(BadInputError(f"{task.name}: {of_node(ray, error)}"), {})
        if isinstance(error.cause, ray.exceptions.RayError):  # what the arm asked for was lost, and not the arm
            return _Outcome(RunFailedError(f"{task.name}: {_desk_lost(error.cause)}"), {})
        log.exception("%s failed, by a defect of viscera:", task.name)
        return _Outcome(DefectError(f"{task.name}: a defect of viscera ({first_line(error.cause)})."), {})
    except ray.exceptions.RayError as error:
        reason = first_line(error)
        lost = f"{task.name}: its node or process was lost {RETRIES + 1} times ({reason}). Run the same command again."
        return _Outcome(RunFailedError(lost), {})
    return outcome
