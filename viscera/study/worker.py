"""One run of a study: trained, applied and scored, in a process of its own or wherever it is started."""

import logging
import signal
import threading
import time
from dataclasses import replace
from logging.handlers import QueueHandler
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as ProcessEvent
from typing import Any

import torch

from viscera.card.card_stage import refresh_card
from viscera.core.config import Config, EvaluateConfig
from viscera.core.errors import (
    BadInputError,
    DefectError,
    InterruptedRunError,
    LostDeviceError,
    RunFailedError,
    VisceraError,
    case_error,
)
from viscera.core.processes import end_with_parent, show_log
from viscera.core.progress import OnProgress, Progress, StopSignal
from viscera.engine.hardware import OUT_OF_MEMORY, as_many_threads, out_of_memory_explained
from viscera.io.disk.folder_lock import TURN_S, alone_in
from viscera.io.runlog import RunFolder
from viscera.io.seals import copy_summed
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.stages.train import train
from viscera.study.plan import StudyPlan, Task, refuse_unpredicted

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_STEPS = 0.5
News = Progress | logging.LogRecord  # what the study's process shows


def pass_on(news: News, progress: OnProgress) -> None:
    """Show what a worker told the study's process."""
    if isinstance(news, Progress):
        progress(news)
    else:
        show_log([news])


class _Worker:
    """What a worker process was started with."""

    stop: ProcessEvent
    news: "Queue[News]"
    gone: threading.Event  # set once the study's process is no more
    at_work = threading.Lock()

    @classmethod
    def is_set(cls) -> bool:
        """A `StopSignal`: the study was stopped, or its process is gone."""
        return cls.stop.is_set() or cls.gone.is_set()


def start_worker(news: "Queue[News]", stop: ProcessEvent, threads: int) -> None:
    """Set up a worker process: where its news go, when it stops, how many threads it computes with.

    Once the study's process is gone, what it works on writes a checkpoint, and it ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the study's process passes it on
    _Worker.news, _Worker.stop, _Worker.gone = news, stop, end_with_parent(_Worker.at_work)
    logging.basicConfig(handlers=[QueueHandler(news)], format="%(message)s", level=logging.WARNING, force=True)
    torch.set_num_threads(threads)


def run_in_worker(plan: StudyPlan, task: Task) -> VisceraError | None:
    """`run_task` in a worker process; one of a study that was killed may outlive it for a moment, and is waited for."""
    try:
        with alone_in(task.run.path, "arm", wait_s=TURN_S), _Worker.at_work:
            return run_task(plan, task, _Worker, _Worker.news.put)
    except BadInputError as error:
        return BadInputError(f"{task.name}: {error}")


def run_task(plan: StudyPlan, task: Task, stop: StopSignal, progress: OnProgress) -> VisceraError | None:
    """Train, predict and evaluate one run; what is done already is not done again.

    At each stage of the plan but the last its scores are put aside before the training goes on.

    Returns:
        Why this run is not done, whatever was raised: the others of the study are none the worse. None where it is
        done, or was stopped. A training that diverged is done: it is scored with its last good checkpoint.
    """
    try:
        with out_of_memory_explained("Run the study with fewer --jobs, or lower --batch-size, --patch or --filters."):
            _run_stages(plan, task, stop, progress)
    except InterruptedRunError:
        return None
    except Exception as error:
        failure = case_error(task.name, error)
        if isinstance(failure, DefectError):
            log.exception("%s failed, by a defect of viscera:", task.name)
        else:
            log.warning("%s failed: %s", task.name, failure)
        return failure
    return None


def score_validation(run: RunFolder, store: Store, config: Config, on_case: OnProgress) -> None:
    """Predict the validation cases of one run, and score them by Dice on their scans' own grids.

    `store` is as the run saw it (`Store.of_fold`), `config` that of the run.
    """
    predict_store(run.path, store, store.names("validation"), run.validation_predictions, on_case)
    whole_scans = EvaluateConfig(metrics=("dice",), grid="original", absent=config.evaluate.absent)
    which: dict[str, Any] = {"split": "validation", "fold": config.train.fold}
    evaluate(run.validation_predictions, store.path, run.validation_scores, whole_scans, **which, all_or_none=True)


def _run_stages(plan: StudyPlan, task: Task, stop: StopSignal, progress: OnProgress) -> None:
    run = task.run
    for iterations in plan.record.all_stages[:-1]:
        status = run.read_status()
        is_past = status is not None and status.step > iterations
        if not is_past and not run.scores_at(iterations).exists():
            training = task.config.train.model_copy(update={"iterations": iterations})
            earlier = replace(task, config=task.config.model_copy(update={"train": training}))
            _run_to(plan, earlier, stop, progress, is_last=False)
            copy_summed(run.scores, run.scores_at(iterations))
    _run_to(plan, task, stop, progress, is_last=True)


def _run_to(plan: StudyPlan, task: Task, stop: StopSignal, progress: OnProgress, *, is_last: bool) -> None:
    """Bring one run to the iterations of its configuration, and score it there."""
    run, config = task.run, task.config
    failure = _trained(plan, task, stop, progress)
    if failure is not None and not run.last.exists():
        raise failure

    def on_case(at: Progress) -> None:
        if stop.is_set():
            raise InterruptedRunError(f"{run.path}: stopped.")
        progress(replace(at, job=f"{task.name} {at.job}"))

    store = Store.open(plan.store).of_fold(config.train.fold)
    if config.study.fuse and is_last:
        score_validation(run, store, config, on_case)
    if run.last.exists():
        predict_store(run.path, store, store.names("test"), run.predictions, on_case, formats=config.study_formats)
    else:
        refuse_unpredicted(run, store)  # trained elsewhere, and copied here without its weights
    how = config.study_evaluation
    evaluate(run.predictions, plan.store, run.scores, how, confusion=run.confusion, all_or_none=True)
    if is_last and run.last.exists():
        refresh_card(run.path, plan.store)
    if failure is not None and OUT_OF_MEMORY in str(failure):
        raise failure
    if failure is not None and is_last:
        log.warning("%s failed: %s", task.name, failure)


def _trained(plan: StudyPlan, task: Task, stop: StopSignal, progress: OnProgress) -> RunFailedError | None:
    """Train one run as far as it is not trained; returns why it failed.

    Raises:
        InterruptedRunError: it was stopped.
        LostDeviceError: the GPU failed, which can train no other run.
    """
    run, last_told = task.run, 0.0

    def on_step(at: Progress) -> None:
        nonlocal last_told
        if time.monotonic() - last_told > _SECONDS_BETWEEN_STEPS or at.done == at.total:
            last_told = time.monotonic()
            progress(replace(at, job=f"{task.name} {at.job}"))

    status = run.read_status()
    if status is not None and status.state == "failed" and OUT_OF_MEMORY not in status.message:
        return RunFailedError(status.message)  # it would diverge at the same step again
    if status is not None and status.state == "finished" and status.step >= task.config.train.iterations:
        return None
    if stop.is_set():
        raise InterruptedRunError(f"{run.path}: stopped.")
    try:
        with as_many_threads(status.threads if status is not None else 0):
            train(plan.store, run.path, task.config, resume=True, stop=stop, progress=on_step, of_study=True)
    except LostDeviceError:
        raise
    except RunFailedError as error:
        return error
    return None
