"""A study: every arm trained, applied to the same test cases and scored; then the report. Resumable at any point."""

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any

import torch

from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config
from viscera.core.errors import BadInputError, InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.engine.trainer import StopSignal
from viscera.io.files import exclusive, is_occupied
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study.elsewhere import refuse_strangers
from viscera.study.find_rates import find_rates
from viscera.study.fuse import fuse_study
from viscera.study.merge import join_scores
from viscera.study.plan import forecast, holds_arms_alone, register
from viscera.study.report.report_stage import make_report
from viscera.study.worker import News, run_arm, start_worker

_MOST_JOBS = 4


def run_study(
    store_path: Path,
    study_path: Path,
    config: Config,
    *,
    stop: StopSignal | None = None,
    progress: OnProgress = unseen,
) -> Path:
    """Run what is missing of a study, join the scores and write the report.

    Args:
        store_path: a Store with training and test cases.
        study_path: a new folder, or a study to go on with; its arms are kept, those of `config` are added, and all
            are trained on where `config` has more iterations.
        config: all sections.
        stop: set it to end cleanly; the arms in progress write a checkpoint.
        progress: called with how far the arms are; an arm's seed and phase are a job.

    Returns:
        The report's page.

    Raises:
        BadInputError: no test case; a fusion without validation cases; a study of other settings; as `train`,
            `predict_store` and `evaluate`.
        InterruptedRunError: `stop` was set.
    """
    store = Store.open(store_path)
    if not store.names("test"):
        raise BadInputError(f"{store_path}: no test case in this store. Prepare it with a --test-fraction above 0.")
    folder = StudyFolder(study_path)
    if is_occupied(study_path) and not folder.record_path.exists() and not holds_arms_alone(study_path):
        raise BadInputError(f"{study_path}: exists and is not a study. Choose an empty or new folder.")
    with exclusive(study_path):
        config = register(folder, store, config)
        forecast(folder, store, config)
        tasks = [(arm, seed) for arm in arms_of(config.study) for seed in config.study.seeds]
        for arm, seed in tasks:
            refuse_strangers(folder.run(arm, seed), store, arm_config(config, arm, seed))
        stop = stop or threading.Event()
        if config.study.find_rates:
            weightings = config.study.weightings
            find_rates(store_path, folder.rate_ranges, config, weightings, stop=stop, progress=progress)
        _run_tasks(folder, store_path.resolve(), config, tasks, stop, progress)
        if config.study.fuse:
            fuse_study(folder, store, config, stop, progress)
        join_scores(folder, config.study)
        return make_report(study_path)


def _run_tasks(
    folder: StudyFolder,
    store_path: Path,
    config: Config,
    tasks: list[tuple[Arm, int]],
    stop: StopSignal,
    progress: OnProgress,
) -> None:
    on_gpu = config.train.device.startswith("cuda") or (config.train.device == "auto" and torch.cuda.is_available())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = config.study.jobs or (1 if on_gpu else min(cores, _MOST_JOBS, len(tasks)))
    context = multiprocessing.get_context("spawn")
    events: Queue[News] = context.Queue()
    stop_workers = context.Event()
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=start_worker, initargs=(events, stop_workers, max(1, cores // jobs))
    )
    with pool:
        with _interrupts_later():
            stages = folder.read_record().all_stages
            futures = [pool.submit(run_arm, folder, store_path, config, arm, seed, stages) for arm, seed in tasks]
        _follow(futures, events, stop, stop_workers, progress)
    if stop.is_set():
        raise InterruptedRunError(f"{folder.path}: stopped. Run the same command again to go on.")
    for future in futures:
        if not future.cancelled():
            _raise_failure(future, folder)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes started here never see Ctrl-C, not even while they start; ours sees it when this ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(
    futures: list[Future[None]],
    events: "Queue[News]",
    stop: StopSignal,
    stop_workers: ProcessEvent,
    progress: OnProgress,
) -> None:
    """Pass on the workers' news until all are done, one failed, or the user stops."""
    pending: set[Future[Any]] = set(futures)
    while pending:
        with contextlib.suppress(queue.Empty):
            _pass_on(events.get(timeout=0.2), progress)
        done, pending = wait(pending, timeout=0, return_when=FIRST_EXCEPTION)
        failed = any(not future.cancelled() and future.exception() for future in done)
        if (stop.is_set() or failed) and not stop_workers.is_set():
            stop_workers.set()
            for future in pending:
                future.cancel()
    with contextlib.suppress(queue.Empty):
        while True:
            _pass_on(events.get(timeout=0.1), progress)


def _pass_on(news: News, progress: OnProgress) -> None:
    if isinstance(news, Progress):
        progress(news)
    else:
        logging.getLogger(news.name).handle(news)


def _raise_failure(future: Future[None], folder: StudyFolder) -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise RunFailedError(
            f"{folder.path}: a process of this study was killed, most likely for want of memory. Run the same command "
            "again with fewer --jobs; what was trained so far is kept."
        ) from error
